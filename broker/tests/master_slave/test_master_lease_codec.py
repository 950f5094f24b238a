"""The Lease's record as strings: whole there and back, and never guessed at."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lease_scene import ME, OTHER, THIRD, record
from penstock.replication.in_sync_set import IN_SYNC_MAX
from penstock.replication.master_lease import HolderIdentity, LeaseRecord, Release
from penstock.replication.master_lease_codec import KEYS, TEXT_MAX, LeaseContentError, decode, encode

NUMBERS = st.integers(0, 2**63 - 1)
IDS = st.integers(1, 2**63 - 1)
MEMBERS = st.frozensets(IDS, min_size=1, max_size=5)
TEXTS = st.text(max_size=50)
RECORDS = st.builds(
    LeaseRecord,
    shard_uid=TEXTS,
    holder=TEXTS,
    identity=st.builds(
        HolderIdentity, member=IDS, ordinal=NUMBERS, pod_name=TEXTS, pod_uid=TEXTS, container_id=TEXTS
    ),
    epoch=IDS,
    in_sync=MEMBERS,
    pending=st.none() | MEMBERS,
    duration_ms=IDS,
    log_end=NUMBERS,
    renewals=NUMBERS,
    attempt=NUMBERS,
    transitions=NUMBERS,
    released=st.none() | st.builds(Release, TEXTS, NUMBERS),
    loss=TEXTS,
    loss_epoch=IDS,
    acquired_at_us=NUMBERS,
    renewed_at_us=NUMBERS,
    version=TEXTS,
)
WHOLE = encode(
    msgspec.structs.replace(
        record(pending=(ME, THIRD), released=Release("it ended", OTHER)), loss="3 entries", loss_epoch=4
    )
)


@given(RECORDS)
def test_a_record_survives_the_way_there_and_back(before: LeaseRecord) -> None:
    fields = encode(before)
    assert set(fields) <= set(KEYS)
    assert decode(fields, before.version) == before


def test_a_record_of_nobody_survives_too() -> None:
    nobody = msgspec.structs.replace(record(), holder="", identity=None)
    assert decode(encode(nobody), "7") == nobody
    assert nobody.holder_name == "nobody"


def test_the_fields_are_what_other_programs_read() -> None:
    assert WHOLE == {
        "format": "1",
        "shard-uid": "5f2a7c1e-0000-4000-8000-000000000001",
        "holder": "start-of-22",
        "member": "22",
        "ordinal": "1",
        "pod-name": "orders-0-1",
        "pod-uid": "uid-22",
        "container-id": "",
        "epoch": "4",
        "in-sync": "11,22",
        "pending": "11,33",
        "duration-ms": "6000",
        "log-end": "100",
        "renewals": "3",
        "attempt": "9",
        "transitions": "2",
        "released": "it ended",
        "successor": "22",
        "loss": "4: 3 entries",
        "acquired-at-us": "0",
        "renewed-at-us": "0",
    }


def test_a_release_without_a_successor_is_for_anybody() -> None:
    fields = {**WHOLE}
    del fields["successor"]
    assert decode(fields, "7").released == Release("it ended", 0)


def test_what_a_newer_release_adds_is_passed_over() -> None:
    assert decode({**WHOLE, "colour": "blue"}, "7") == decode(WHOLE, "7")


OPTIONAL = ("pending", "released", "successor", "loss")


@pytest.mark.parametrize("key", [key for key in KEYS if key not in OPTIONAL])
def test_a_field_that_is_missing_is_an_error(key: str) -> None:
    fields = {**WHOLE}
    del fields[key]
    with pytest.raises(LeaseContentError, match=r"Lease"):
        decode(fields, "7")


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("format", "2"),
        ("epoch", "0"),
        ("epoch", "-1"),
        ("epoch", "+1"),
        ("epoch", " 4"),
        ("epoch", "04"),
        ("epoch", "1_0"),
        ("epoch", "٤"),
        ("epoch", ""),
        ("epoch", "9" * 20),
        ("member", "0"),
        ("duration-ms", "0"),
        ("log-end", "many"),
        ("in-sync", ""),
        ("in-sync", "11,,22"),
        ("in-sync", "11,11"),
        ("in-sync", "11;22"),
        ("in-sync", "11,0"),
        ("in-sync", ",".join(map(str, range(1, IN_SYNC_MAX + 2)))),
        ("pending", ""),
        ("successor", "x"),
        ("loss", "3 entries"),
        ("loss", "0: nothing"),
        ("holder", "h" * (TEXT_MAX + 1)),
    ],
)
def test_a_field_that_is_damaged_is_an_error(key: str, text: str) -> None:
    with pytest.raises(LeaseContentError, match=r"Lease"):
        decode({**WHOLE, key: text}, "7")


def test_a_format_of_a_newer_release_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(LeaseContentError, match="format '2', this release reads 1: upgrade Penstock"):
        decode({**WHOLE, "format": "2"}, "7")


def test_a_holder_that_is_no_member_is_an_error() -> None:
    fields = {**WHOLE}
    del fields["member"]
    with pytest.raises(LeaseContentError, match="names a holder and not which member"):
        decode(fields, "7")


@given(st.dictionaries(st.sampled_from(KEYS), st.text(max_size=30)))
def test_anything_is_a_record_or_an_error(changes: dict[str, str]) -> None:
    try:
        found = decode({**WHOLE, **changes}, "7")
    except LeaseContentError:
        return
    assert found.epoch >= 1


def test_a_long_sentence_is_cut_when_it_is_written() -> None:
    long = record(released=Release("x" * 5000))
    assert decode(encode(long), "7").released == Release("x" * TEXT_MAX)
