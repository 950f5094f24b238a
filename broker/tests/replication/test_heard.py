"""Members are heard for some ticks after they sent something."""

from __future__ import annotations

from penstock.runtime.heard import Heard


def test_a_member_is_heard_until_it_was_silent_for_too_long() -> None:
    heard = Heard(2)
    assert not heard.lately(1)
    heard.note(1)
    assert heard.lately(1)
    heard.tick()
    assert heard.lately(1)
    heard.tick()
    assert not heard.lately(1)
    heard.note(1)
    assert heard.lately(1)
    assert not heard.lately(2)
