"""Which settings of a running broker to change at once, and which only a restart can change.

The broker itself says of each setting whether it is dynamic, so the operator needs no list of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from penstock_operator.desired.broker_config import LEARNT, OF_RUN_TIME, OPTIONAL, OWNED_BY_FIELDS

if TYPE_CHECKING:
    from penstock_operator.snapshot.broker import Setting

FILE: Final = "file"  # what a broker says of a setting that it has read when it started


class SettingsPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The difference between what a broker runs with and what it should run with."""

    patch: dict[str, Any]  # to change while it runs; None takes the run-time value back
    restart: list[str]  # names that only a restart changes
    unknown: list[str]  # names that this broker does not have


def plan_settings(
    wanted: dict[str, Any], have: dict[str, Setting], *, resizable: bool = False
) -> SettingsPlan:
    """Compare the wanted settings with a broker's table. A broker of a shard that is `resizable` is told how many there are,
    and learns where they are from them; any other has to be restarted for that."""
    patch: dict[str, Any] = {}
    restart: list[str] = []
    unknown: list[str] = []
    for name, value in sorted(wanted.items()):
        setting = have.get(name)
        if setting is None:
            unknown.append(name)
        elif not setting.is_value(value):
            if setting.dynamic:
                patch[name] = value
            elif not (resizable and name in LEARNT):
                restart.append(name)
    for name, setting in sorted(have.items()):
        if name in wanted or name in OF_RUN_TIME or setting.is_value(setting.default):
            continue
        if setting.dynamic:
            # It left the spec: take the run-time value back, or override the file's, which is only read at a start.
            patch[name] = None if setting.source == "dynamic" else setting.default
        elif setting.source == FILE and (name in OPTIONAL or name not in OWNED_BY_FIELDS):
            restart.append(name)
    return SettingsPlan(patch=patch, restart=restart, unknown=unknown)
