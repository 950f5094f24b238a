"""A Lease is released on proof alone: that the very container which holds it has ended."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lease_world import EARLIER, HOLDER, live, pod, record, released, terminated
from penstock.replication.master_lease import HolderIdentity
from penstock_operator.plan.actions import ReleaseLease
from penstock_operator.plan.release import plan_release
from penstock_operator.snapshot.cluster import PodSeen, parse_pod
from penstock_operator.snapshot.endings import endings
from penstock_operator.snapshot.lease import LeaseSeen, Loss, parse_lease

RUNNING = {"running": {}}


def seen(**container: Any) -> PodSeen:
    return parse_pod(pod(**container))


@pytest.mark.parametrize(
    "found",
    [
        seen(state=terminated()),
        seen(state=RUNNING, lastState=terminated()),  # the next life runs already
        seen(state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState=terminated()),
        seen(state=terminated(EARLIER, 1), lastState=terminated()),  # it ended twice in a row
        seen(state=terminated(f"{HOLDER}\nthe disk is gone\n")),
        seen(state=terminated(f"{HOLDER}\n")),
    ],
)
def test_a_container_that_ended_and_was_the_holder_releases_its_lease(found: PodSeen) -> None:
    reason = "the container of orders-0-0 that held it has ended with exit code 137"
    assert plan_release(parse_lease(live()), found) == ReleaseLease(
        why=f"Lease orders-0 of epoch 7 is released because {reason}",
        name="orders-0",
        version="41",
        reason=reason,
    )


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (None, "pod orders-0-0 is not there, which does not prove that its broker has ended"),
        (seen(uid="pod-9", state=terminated()), "pod orders-0-0 is another one than that whose broker holds"),
        (seen(name="orders-0-1", state=terminated()), "pod orders-0-1 is another one"),
        (seen(state=RUNNING), "no container of orders-0-0 is known to have ended that held Lease orders-0"),
        (seen(state=RUNNING, lastState=terminated(EARLIER)), "no container of orders-0-0 is known"),
        (seen(state=terminated("")), "no container of orders-0-0 is known"),  # it did not say who it was
        (seen(state=terminated(f"it was {HOLDER}")), "no container of orders-0-0 is known"),  # a log line
        (seen(state=terminated(f"a line\n{HOLDER}")), "no container of orders-0-0 is known"),
        (seen(state=terminated(HOLDER[:-1])), "no container of orders-0-0 is known"),
        # Kubelet does not know what became of the container.
        (
            seen(state=terminated("The container could not be located when the pod was terminated")),
            "no container of orders-0-0 is known",
        ),
        (seen(state={"waiting": {"reason": "ContainerCreating", "message": HOLDER}}), "no container of"),
    ],
)
def test_nothing_is_released_without_proof(found: PodSeen | None, why: str) -> None:
    decision = plan_release(parse_lease(live()), found)
    assert isinstance(decision, str)
    assert decision.startswith(why)


def test_another_container_of_the_pod_proves_nothing() -> None:
    other = pod(state=terminated())
    other["status"]["containerStatuses"][0]["name"] = "sidecar"
    assert "no container of" in str(plan_release(parse_lease(live()), parse_pod(other)))


@pytest.mark.parametrize(
    ("lease", "why"),
    [
        (parse_lease(live(record(holder=""))), "nobody holds Lease orders-0"),
        (
            parse_lease(live(record(released=released("it said so")))),
            "Lease orders-0 is released already: it said so",
        ),
        (
            parse_lease(live(record(identity=HolderIdentity(member=1, ordinal=0, pod_name="orders-0-0")))),
            "Lease orders-0 does not say in which pod its holder runs",
        ),
        (parse_lease(live(format="2")), "Lease orders-0 cannot be read: it has format '2'"),
        (parse_lease(live(format=None)), "Lease orders-0 cannot be read: it does not say its format"),
        (parse_lease(live(epoch="seven")), "Lease orders-0 cannot be read: its epoch 'seven' is no number"),
        (parse_lease(live(shard_uid=None)), "Lease orders-0 cannot be read: it does not say whose it is"),
        # Somebody else took it over since: what ended is not its holder.
        (parse_lease(live(record(holder=EARLIER))), "no container of orders-0-0 is known to have ended"),
    ],
)
def test_a_lease_that_is_not_the_ended_holders_or_not_understood_is_left_alone(
    lease: LeaseSeen, why: str
) -> None:
    decision = plan_release(lease, seen(state=terminated()))
    assert isinstance(decision, str)
    assert decision.startswith(why)


def test_what_brokers_write_is_what_the_operator_reads() -> None:
    written = record(pending=frozenset({1}))
    read = parse_lease(live(written, loss="6: orders-0-1 goes on from entry 90"))
    assert read == LeaseSeen(
        name="orders-0",
        version="41",
        labels={},
        owners=[],
        shard_uid="shard-uid",
        holder=HOLDER,
        pod_name="orders-0-0",
        pod_uid="pod-0",
        epoch=7,
        in_sync=2,
        changing=True,
        loss=Loss(epoch=6, message="orders-0-1 goes on from entry 90"),
    )
    assert parse_lease(live(record(in_sync=frozenset()))).in_sync == 0
    assert parse_lease(live(loss="soon")).loss is None


def test_a_renewal_is_no_news_and_everything_else_is() -> None:
    before = live()
    renewed = live(record(renewals=3, attempt=4, log_end=900))
    renewed["metadata"]["resourceVersion"] = "42"
    assert parse_lease(renewed).gist == parse_lease(before).gist
    for other in (
        live(record(epoch=8)),
        live(record(holder=EARLIER)),
        live(record(in_sync=frozenset({1}))),
        live(record(pending=frozenset({1}))),
        live(released="it has ended"),
        live(loss="7: much"),
        live(format="2"),
    ):
        assert parse_lease(other).gist != parse_lease(before).gist


def test_last_words_stand_behind_the_name_and_the_name_is_none_of_them() -> None:
    for message, holder, words in (
        (HOLDER, HOLDER, ""),
        (f"{HOLDER}\nno space\nleft\n", HOLDER, "no space left"),
        ("no space\nleft", "", "no space left"),
        (HOLDER.upper(), "", HOLDER.upper()),
        ("", "", ""),
    ):
        (ended,) = endings(pod(state=terminated(message, 4)))
        assert (ended.holder, ended.words) == (holder, words)
    assert endings(pod(state=terminated("", 4)))[0].sentence == "exit code 4"
    assert msgspec.structs.asdict(endings(pod(state=RUNNING, lastState=terminated()))[0])["exit_code"] == 137


@pytest.mark.parametrize(
    ("container", "sentence", "stuck", "idle"),
    [
        (
            {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": terminated(code=6)},
            "Kubernetes waits before it starts the broker again, which was master and is not any more",
            False,
            True,
        ),
        ({"state": RUNNING, "lastState": terminated(code=6)}, "the broker is starting", False, False),
        (
            {"state": terminated(code=6), "lastState": terminated(code=6)},
            "the broker is being restarted, last with exit code 6",
            False,
            False,
        ),
        (
            {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": terminated("no disk", 4)},
            "the broker keeps ending, last with exit code 4: no disk",
            True,
            True,
        ),
        (
            {"state": RUNNING, "lastState": terminated(code=4)},
            "the broker keeps ending, last with exit code 4",
            True,
            False,
        ),
        (
            {
                "state": {"waiting": {"reason": "ImagePullBackOff", "message": "none"}},
                "lastState": terminated(code=6),
            },
            "ImagePullBackOff: none",
            True,
            True,
        ),
    ],
)
def test_a_master_whose_time_is_over_is_no_crash_loop(
    container: dict[str, Any], sentence: str, stuck: bool, idle: bool
) -> None:
    found = pod(**container)
    found["status"]["containerStatuses"][0]["restartCount"] = 9
    read = parse_pod(found)
    assert (read.trouble, read.stuck, read.idle) == (sentence, stuck, idle)


uids = st.sampled_from(["pod-0", "pod-1"])
holders = st.sampled_from([HOLDER, EARLIER, ""])
states = st.one_of(st.just(RUNNING), st.just({}), holders.map(lambda holder: terminated(holder)))


@given(holders, uids, uids, states, states, st.booleans())
def test_a_release_always_names_a_life_that_ended_in_the_pod_of_the_lease(
    holder: str, lease_uid: str, pod_uid: str, state: Any, last: Any, is_released: bool
) -> None:
    identity = HolderIdentity(member=1, ordinal=0, pod_name="orders-0-0", pod_uid=lease_uid)
    written = record(holder=holder, identity=identity, released=released("x") if is_released else None)
    decision = plan_release(parse_lease(live(written)), seen(uid=pod_uid, state=state, lastState=last))
    ended = {each["terminated"]["message"] for each in (state, last) if "terminated" in each}
    expected = bool(holder) and not is_released and lease_uid == pod_uid and holder in ended
    assert isinstance(decision, ReleaseLease) == expected
