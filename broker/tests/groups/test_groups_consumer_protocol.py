"""Reading consumers' subscriptions and assignments, foreign and damaged ones included."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groups_harness import assignment, subscription
from penstock.groups.consumer_protocol import decode_assignment, decode_subscription, subscribed_topics

TOPICS = st.lists(st.text("abc.", min_size=1, max_size=5), max_size=4, unique=True)


@given(TOPICS)
def test_subscription_round_trip(topics: list[str]) -> None:
    assert decode_subscription(subscription(*topics)) == frozenset(topics)


@given(st.dictionaries(st.text("abc", min_size=1, max_size=5), st.lists(st.integers(0, 9), max_size=4)))
def test_assignment_round_trip(assigned: dict[str, list[int]]) -> None:
    assert decode_assignment(assignment(**assigned)) == assigned


def test_fields_of_later_versions_are_ignored() -> None:
    data = struct.pack(">h", 3) + subscription("t")[2:] + b"\x00\x00\x00\x00\x00\x00\x00\x01\xff\xff"
    assert decode_subscription(data) == {"t"}


def test_empty_bytes_are_an_empty_assignment() -> None:
    assert decode_assignment(b"") == {}


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for decode in (decode_subscription, decode_assignment):
        # Any other exception fails the test.
        with contextlib.suppress(ValueError):
            decode(data)


@given(TOPICS.filter(bool), st.data())
def test_every_prefix_that_cuts_the_topics_is_refused(topics: list[str], data: st.DataObject) -> None:
    whole = subscription(*topics)[:-4]
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(ValueError, match=r"damaged|decode"):
        decode_subscription(whole[:cut])
    assert subscribed_topics("consumer", whole[:cut]) is None


@pytest.mark.parametrize("count", [2**31 - 1, 1000, -2])
def test_count_larger_than_the_bytes_is_refused_before_anything_is_made(count: int) -> None:
    with pytest.raises(ValueError, match="announces"):
        decode_assignment(struct.pack(">hi", 0, count))


def test_negative_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version -1"):
        decode_subscription(struct.pack(">hi", -1, 0))


def test_other_protocol_types_are_not_read() -> None:
    assert subscribed_topics("connect", subscription("t")) is None
    assert subscribed_topics("consumer", subscription("t")) == {"t"}
