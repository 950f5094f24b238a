"""Commands to bytes and back, and which machine each belongs to.

The payload of a command entry is one msgpack map with the command's tag. A tag that this release does not know stops
the replica with a sentence: skipping it would let replicas differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Union

import msgspec

from penstock.log.errors import ReleaseTooOldError
from penstock.model.commands import Command, StateMachine


class CommandCodec:
    """Knows the commands of the given machines."""

    def __init__(self, machines: Sequence[StateMachine]) -> None:
        self._machines: dict[type[Command], StateMachine] = {}
        for machine in machines:
            for command in machine.commands:
                self._machines[command] = machine
        self._encoder = msgspec.msgpack.Encoder()
        known: Any = Union[tuple(self._machines)]  # noqa: UP007 (made at run time)
        self._decoder: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(known)

    def encode(self, command: Command) -> bytes:
        """The payload of the command's entry."""
        return self._encoder.encode(command)

    def decode(self, payload: bytes | memoryview) -> Command:
        """Raises ReleaseTooOldError for a command that this release does not know."""
        try:
            return self._decoder.decode(payload)
        except msgspec.DecodeError as error:
            raise ReleaseTooOldError(
                f"the log holds a command that this release does not know ({error}): upgrade Penstock"
            ) from error

    def machine_of(self, command: Command) -> StateMachine:
        """The machine that applies the command."""
        return self._machines[type(command)]
