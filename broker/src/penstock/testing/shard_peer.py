"""`ShardPeer`: a shard of three brokers in the place of one, so that scenarios for one broker run on three unchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from penstock.testing.shard_processes import ShardProcesses

if TYPE_CHECKING:
    from pathlib import Path


class ShardPeer:
    """Clients are given a broker that followed at the start as their only bootstrap address. `kill` takes the leader,
    whoever it is; `restart` brings it back."""

    def __init__(self, folder: Path) -> None:
        self.shard = ShardProcesses(folder)
        self._told = 0
        self._killed: int | None = None

    @property
    def kafka(self) -> str:
        """HOST:PORT of the broker that clients are told."""
        return self.shard.brokers[self._told].kafka

    def kill(self) -> None:
        """SIGKILL for the leader."""
        self._killed = self.shard.leader()
        self.shard.kill(self._killed)

    def restart(self) -> ShardPeer:
        """Starts the broker that was killed, and waits until the shard is whole."""
        if self._killed is not None:
            self.shard.restart(self._killed)
            self.shard.wait_whole()
        return self

    def __enter__(self) -> Self:
        self.shard.__enter__()
        self._told = self.shard.followers()[0]
        return self

    def __exit__(self, *_: object) -> None:
        self.shard.close()
