"""How brokers leave a shard that is to have fewer: one at a time, and never at the cost of those that stay.

A broker goes when its place, its ordinal, is not wanted any more. A leader among them hands over to one that stays before
anything else. Who is not in sync goes first, because its vote is only a burden; then the highest place. One that is in
sync goes only while every place that stays has a voter in sync, so that fewer brokers are never fewer copies than asked
for. No step leaves voters of whom a majority is not in sync, nor fewer copies in sync than a topic needs for its writes:
then the step waits, and its sentence says for what.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import msgspec

from penstock.replication.membership import Change, Roster, Step


class Demand(msgspec.Struct, frozen=True):
    """The most copies in sync that any topic's writes need, and the topic that does; empty for the cluster's default."""

    copies: int = 1
    topic: str = ""


class GiveLead(msgspec.Struct, frozen=True):
    """This leader goes: it hands over to `member`, which stays."""

    member: int
    reason: str


class Hold(msgspec.Struct, frozen=True):
    """Somebody should go and may not now. `refused`: not before a person changes what is asked for."""

    reason: str
    refused: bool = False


Departure = Change | GiveLead | Hold


def next_departure(roster: Roster, in_sync: AbstractSet[int], demand: Demand) -> Departure | None:
    """What to do about voters whose places are not wanted; None when there are none. `in_sync` are the voters that the
    leader counts as copies now, itself among them."""
    going = [voter for voter in roster.voters if not _stays(roster, voter)]
    if not going:
        return None
    if roster.own in going:
        return _give_lead(roster, in_sync)
    behind = [voter for voter in going if voter not in in_sync]
    goes = max(behind or going, key=lambda voter: roster.ordinals[voter])
    rest = [voter for voter in roster.voters if voter != goes]
    return _refusal(roster, goes, rest, in_sync, demand) or Change(
        Step.REMOVE, goes, f"broker {roster.ordinals[goes]} is not wanted any more"
    )


def _stays(roster: Roster, voter: int) -> bool:
    """One that has not said its place yet is left alone."""
    ordinal = roster.ordinals.get(voter)
    return ordinal is None or ordinal in roster.wanted


def _give_lead(roster: Roster, in_sync: AbstractSet[int]) -> Departure:
    own = roster.ordinals[roster.own]
    heirs = [
        voter
        for voter in roster.voters
        if voter in in_sync and voter in roster.standings and roster.ordinals.get(voter) in roster.wanted
    ]
    if not heirs:
        return Hold(f"broker {own} leads and has to go, but no broker that stays is in sync")
    heir = max(heirs, key=lambda voter: (roster.standings[voter].match, -roster.ordinals[voter]))
    return GiveLead(heir, f"broker {own} is not wanted any more")


def _refusal(
    roster: Roster, goes: int, rest: Sequence[int], in_sync: AbstractSet[int], demand: Demand
) -> Hold | None:
    copies = sum(1 for voter in rest if voter in in_sync)
    subject = f"broker {roster.ordinals[goes]} stays for now"
    if len(rest) < demand.copies:
        # Also of one that is behind for a moment: without it that would be for good.
        return _too_few(subject, len(rest), demand)
    if goes in in_sync:
        holders = {roster.ordinals.get(voter) for voter in rest if voter in in_sync}
        absent = sorted(roster.wanted - holders)
        if absent:
            return Hold(f"{subject}: {_brokers(absent)} not in sync")
        if copies < demand.copies:
            return _too_few(subject, copies, demand)
    if 2 * copies <= len(rest):
        return Hold(f"{subject}: without it only {copies} of {len(rest)} voters would be in sync")
    return None


def _too_few(subject: str, copies: int, demand: Demand) -> Hold:
    who = f"topic {demand.topic} has" if demand.topic else "the cluster has"
    return Hold(
        f"{subject}: {who} min.insync.replicas={demand.copies}, so with {copies} in sync nothing could be written:"
        " lower it, or ask for more brokers",
        refused=True,
    )


def _brokers(ordinals: Sequence[int]) -> str:
    listed = " and ".join(map(str, ordinals))
    return f"broker {listed} is" if len(ordinals) == 1 else f"brokers {listed} are"
