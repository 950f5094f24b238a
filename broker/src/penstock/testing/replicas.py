"""Whether the replicas of a shard hold the same: asked of every broker's admin API, compared here.

`GET /v1/shard/digest` says what a broker holds: a hash of its committed entries, from the oldest that is there, and a
hash of each state machine as of its commit index. So replicas are compared once all have committed the same: those that
are still catching up are asked again until the time is over. Where one has dropped more old entries than another, all
are asked for those that everybody has.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

AGREE_TIMEOUT_S = 30.0
ASK_TIMEOUT_S = 5.0
POLL_INTERVAL_S = 0.2


class DisagreementError(AssertionError):
    """Replicas hold different entries or state, or did not tell within the time; the text names both sides."""


@dataclass(frozen=True)
class Digest:
    """One replica's answer: entries from `first_index` to `index`, both inclusive, and state as of `commit_index`."""

    replica: str
    commit_index: int
    first_index: int
    index: int
    entries: str
    machines: Mapping[str, str]


@dataclass(frozen=True)
class Agreement:
    """What all replicas hold up to `index`."""

    replicas: Sequence[str]
    first_index: int
    index: int
    entries: str
    machines: Mapping[str, str]

    def line(self) -> str:
        """One line for people."""
        entries = f"entries {self.first_index} to {self.index} ({self.entries})"
        state = f"the state of {', '.join(sorted(self.machines))}"
        if len(self.replicas) == 1:
            return f"one replica, with {entries} and {state}"
        return f"{len(self.replicas)} replicas agree on {entries} and on {state}"


def replicas_agree(
    admin_urls: Sequence[str],
    *,
    timeout_s: float = AGREE_TIMEOUT_S,
    ask: Callable[[str, int | None], Digest] | None = None,
) -> Agreement:
    """Asks all replicas, and compares. Raises DisagreementError when they differ once they can be compared, or when
    they cannot be compared within `timeout_s`. `ask` stands for `ask_digest`; with one of its own, `admin_urls` are whatever
    it takes."""
    ask = ask or ask_digest
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            digests = [ask(url, None) for url in admin_urls]
            first = max(one.first_index for one in digests)
            if any(one.first_index != first for one in digests):
                digests = [ask(url, first) for url in admin_urls]
            obstacle = _obstacle(digests)
        except OSError as error:
            obstacle = str(error)
        else:
            if obstacle is None:
                return _agreement(digests)
        if time.monotonic() > deadline:
            raise DisagreementError(f"replicas could not be compared within {timeout_s:g} s: {obstacle}")
        time.sleep(POLL_INTERVAL_S)


def _obstacle(digests: Sequence[Digest]) -> str | None:
    """Why these answers say nothing about each other; None when they can be compared."""
    first = digests[0]
    for other in digests[1:]:
        if (other.commit_index, other.index) != (first.commit_index, first.index):
            return f"{other.replica} has committed {other.commit_index} entries, {first.replica} {first.commit_index}"
        if other.first_index != first.first_index:
            return (
                f"{other.replica} keeps entries from {other.first_index} on,"
                f" {first.replica} from {first.first_index} on"
            )
    return None


def _agreement(digests: Sequence[Digest]) -> Agreement:
    first = digests[0]
    differences = []
    for other in digests[1:]:
        if other.entries != first.entries:
            differences.append(
                f"entries {first.first_index} to {first.index}: {first.entries} in {first.replica},"
                f" {other.entries} in {other.replica}"
            )
        for machine in sorted(first.machines.keys() | other.machines.keys()):
            here, there = first.machines.get(machine), other.machines.get(machine)
            if here != there:
                differences.append(
                    f"state of {machine} at entry {first.index}: {here} in {first.replica},"
                    f" {there} in {other.replica}"
                )
    if differences:
        raise DisagreementError("replicas differ:\n" + "\n".join(differences))
    return Agreement(
        [one.replica for one in digests], first.first_index, first.index, first.entries, first.machines
    )


def ask_digest(admin_url: str, first: int | None) -> Digest:
    """A broker's digest of what it has committed, from entry `first` on; None: from its oldest. Raises OSError where it
    does not answer, or answers with an error, which the text quotes."""
    query = "" if first is None else f"?first={first}"
    url = f"{admin_url}/v1/shard/digest{query}"
    try:
        with urllib.request.urlopen(url, timeout=ASK_TIMEOUT_S) as answer:
            told: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            sentence = error.read().decode(errors="replace")
        raise OSError(f"{url} was answered with {error.code}: {sentence}") from error
    return read_digest(admin_url, told)


def read_digest(replica: str, told: Mapping[str, Any]) -> Digest:
    """A broker's answer to `GET /v1/shard/digest`, however it was asked."""
    return Digest(
        replica, told["commitIndex"], told["firstIndex"], told["index"], told["entries"], told["machines"]
    )
