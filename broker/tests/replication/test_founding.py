"""Who may found a shard: one broker, once, and only when it has asked all others and none of them knows better."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.replication.founding import FOUNDER_ORDINAL, FoundingStep, decide_founding

_settings = settings(max_examples=500, deadline=None, derandomize=True, database=None)

FOUND, JOIN, WAIT = FoundingStep.FOUND, FoundingStep.JOIN, FoundingStep.WAIT


@pytest.mark.parametrize(
    ("ordinal", "replicas", "formed", "peers", "step", "sentence"),
    [
        (0, 1, False, {}, FOUND, ""),
        (0, 3, False, {1: False, 2: False}, FOUND, ""),
        (0, 3, False, {1: False}, WAIT, "the shard is founded once broker 2 can be asked"),
        (0, 3, False, {}, WAIT, "the shard is founded once broker 1, 2 can be asked"),
        (1, 3, False, {0: False, 2: False}, WAIT, "broker 0 has to found the shard first"),
        (1, 3, False, {}, WAIT, "broker 0 has to found the shard first"),
        (0, 3, False, {1: True}, JOIN, ""),
        (2, 3, False, {0: False, 1: True}, JOIN, ""),
        (2, 3, True, {1: True}, JOIN, ""),
        (0, 1, True, {}, WAIT, "the shard existed before"),
        (0, 3, True, {1: False, 2: False}, WAIT, "the shard existed before"),
        (1, 3, True, {}, WAIT, "the shard existed before"),
        # A broker that is not one of the shard's (yet) may still say that there is a shard, and is not waited for.
        (0, 1, False, {1: True}, JOIN, ""),
        (0, 1, False, {1: False}, FOUND, ""),
    ],
)
def test_each_rule(
    ordinal: int, replicas: int, formed: bool, peers: Mapping[int, bool], step: FoundingStep, sentence: str
) -> None:
    decided = decide_founding(ordinal=ordinal, replicas=replicas, formed=formed, peers_founded=peers)
    assert decided.step is step
    assert decided.sentence.startswith(sentence)
    assert bool(decided.sentence) == (step is WAIT)


@_settings
@given(st.integers(0, 4), st.integers(1, 5), st.booleans(), st.dictionaries(st.integers(0, 4), st.booleans()))
def test_it_is_founded_only_by_who_knows_that_nobody_has_it(
    ordinal: int, replicas: int, formed: bool, peers: dict[int, bool]
) -> None:
    peers.pop(ordinal, None)
    decided = decide_founding(ordinal=ordinal, replicas=replicas, formed=formed, peers_founded=peers)
    assert (decided.step is JOIN) == any(peers.values())
    if decided.step is FOUND:
        assert ordinal == FOUNDER_ORDINAL
        assert not formed
        assert set(range(replicas)) - {ordinal} <= peers.keys()
        assert not any(peers.values())


@_settings
@given(st.sampled_from([1, 3, 5]), st.data())
def test_brokers_that_start_empty_found_one_shard_and_all_join_it(replicas: int, data: st.DataObject) -> None:
    """In any order of starting, asking and deciding; what a broker is told of another may be long past."""
    founded: set[int] = set()
    joined: set[int] = set()
    told: dict[int, dict[int, bool]] = {ordinal: {} for ordinal in range(replicas)}
    moves = st.tuples(st.integers(0, replicas - 1), st.integers(0, replicas - 1))

    def ask(one: int, other: int) -> None:
        if one != other:
            told[one][other] = other in founded | joined

    def decide(one: int) -> None:
        if one in founded | joined:
            return
        decided = decide_founding(ordinal=one, replicas=replicas, formed=False, peers_founded=told[one])
        if decided.step is FOUND:
            founded.add(one)
        if decided.step is JOIN:
            joined.add(one)

    for one, other in data.draw(st.lists(moves, max_size=20)):
        ask(one, other)
        decide(one)
        assert len(founded) <= 1
    for one in range(replicas):
        ask(0, one)
    for _ in range(2):
        for one in range(replicas):
            ask(one, 0)
            decide(one)
    assert founded == {FOUNDER_ORDINAL}
    assert joined == set(range(replicas)) - {FOUNDER_ORDINAL}
