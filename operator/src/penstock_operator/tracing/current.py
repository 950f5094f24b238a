"""The pass that is under way, for whoever has something to tell of it.

Reconcilers tell their pass what they look at, do and conclude, whether or not anybody traces it. Where nobody does, the
pass is `Pass` itself, which forgets everything.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final, Literal

Outcome = Literal["Settled", "Acted", "Waiting", "Problem", "Paused", "Gone", "Failed", "Done"]
"""What came of a pass; `Done` where it says no more than that it ended."""


class Pass:
    """A pass that nobody traces."""

    trace_id: str = ""  # of its trace, 32 hexadecimal digits; empty: there is none
    traceparent: str = ""  # of the pass, where its trace is recorded

    def looks_at(self, resource: dict[str, Any]) -> None:
        """This is the object as it is now."""

    def acts(self, what: str, why: str) -> None:
        """It is about to do something; `why` is the plan's sentence."""

    def is_refused(self, why: str) -> None:
        """What it was about to do was refused, and the pass goes on."""

    def ends(self, outcome: Outcome, sentence: str, *, settled: bool = False) -> None:
        """What came of it, in a sentence; `settled` where nothing is left to do."""

    def fails(self, error: BaseException) -> None:
        """It ends with this error and is tried again."""


UNTRACED: Final = Pass()
CURRENT: Final[ContextVar[Pass]] = ContextVar("pass", default=UNTRACED)


def current_pass() -> Pass:
    """The pass that this task, or whoever started it, is part of."""
    return CURRENT.get()
