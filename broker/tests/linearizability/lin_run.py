"""One run: brokers, clients, faults, then the verdict on the history. A failure says all that is needed to run it again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lin_environment import again
from lin_faults import Faults
from lin_workload import Load, Workload
from penstock.config.broker_config import parse_address
from penstock.testing.history import History
from penstock.testing.managed_process import ServerError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lin_checker import Checker, Judgement
    from lin_faults import Fault
    from penstock.testing.fault_network import FaultNetwork
    from penstock.testing.shard_processes import ShardProcesses

HISTORY = "history.jsonl"


@dataclass
class Run:
    """What a run is made of; `play` fills in what was done."""

    shard: ShardProcesses
    folder: Path
    seed: int
    faults: Sequence[Fault]
    load: Load = field(default_factory=Load)
    network: FaultNetwork | None = None
    done: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def play(self) -> Path:
        """Clients work while faults happen. Returns the history's file. Raises what the run failed of, with the faults."""
        path = self.folder / HISTORY
        with History(path) as history:
            workload = Workload(history, self.addresses(), self.load, self.seed)
            faults = Faults(self.shard, workload, self.seed, self.network)
            self.done = faults.done
            try:
                asyncio.run(self._play(workload, faults))
            except BaseException as error:
                error.add_note(self.story())
                raise
            finally:
                self.counts = history.count | {"appended": workload.appended, "read": workload.was_read}
        return path

    async def _play(self, workload: Workload, faults: Faults) -> None:
        await workload.create_topic()
        until = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            clients = group.create_task(workload.run(until))
            try:
                await faults.carry_out(self.faults)
            finally:
                until.set()
            await clients
        await workload.settle()

    def addresses(self) -> list[tuple[str, int]]:
        """Where clients find the brokers."""
        return [parse_address(broker.kafka) for broker in self.shard.brokers]

    def story(self) -> str:
        """What happened, how to make it happen again, and what the brokers said."""
        faults = "\n".join(f"  {one}" for one in self.done)
        return f"run again with {again(self.seed)}; the faults were:\n{faults}\n{self.shard.tails()}"

    def judge(self, checker: Checker, history: Path) -> Judgement:
        """The verdict. Raises AssertionError unless enough happened for one to mean anything."""
        judgement = checker.judge(history, pictures=self.folder)
        print(
            f"{judgement.verdict}: {self.counts['invoke']} operations, {self.counts['appended']} appends"
            f" acknowledged, {self.counts['unknown']} unknown, {self.counts['failed']} failed; {again(self.seed)}"
        )
        enough = 5 * max(1, len(self.faults))
        assert self.counts["appended"] >= enough, f"only {self.counts['appended']} appends were acknowledged"
        assert self.counts["read"] >= enough, f"only {self.counts['read']} reads were answered"
        return judgement

    def must_be_linearizable(self, checker: Checker) -> None:
        """Plays and judges. Raises AssertionError with the offending part of the history and the faults.

        A run that does not come to its end, because brokers do not serve again, is judged as far as it came.
        """
        try:
            history = self.play()
        except Exception as error:
            so_far = checker.judge(self.folder / HISTORY, pictures=self.folder)
            error.add_note(f"the history up to then: {so_far.words()}")
            raise
        judgement = self.judge(checker, history)
        assert judgement.verdict == "ok", f"{judgement.words()}\nthe history is {history}\n{self.story()}"

    def must_be_refused(self, checker: Checker, sentence: str) -> None:
        """Plays a broken build. Raises AssertionError unless the checker refuses its history with such a sentence.

        Such brokers may come to a halt before the run's end: then the history is judged as far as it came.
        """
        try:
            self.play()
        except* (TimeoutError, ServerError) as halt:
            print(f"the run came to a halt: {halt.exceptions}")
        judgement = self.judge(checker, self.folder / HISTORY)
        assert judgement.verdict == "violation", f"the broken build passed\n{self.story()}"
        assert sentence in judgement.words(), judgement.words()
