"""The program of a load pod: runs a load and writes what happens to stdout, one JSON object a line.

`{"progress": …}` lines come twice a second; the last line is `{"verdict": …}` with the ledger's counts, or
`{"failed": "sentence"}`. Times are milliseconds since 1970, because whoever kills a broker compares them with its own
clock. With `--phase consume` nothing is sent: the messages of an earlier run of the same name must all be there. After a
SIGTERM nothing more is sent, and what was sent is judged.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
import threading
import time
from typing import Any

from kafka_load import KafkaLoad, LoadError, LoadPlan
from penstock.testing.ledger import Ledger, LedgerError


def _print(content: dict[str, Any]) -> None:
    print(json.dumps(content), flush=True)


def _progress(ledger: Ledger) -> None:
    counts = {"sent": ledger.sent, "acked": ledger.acked, "received": ledger.received}
    _print({"progress": counts, "now_ms": _now_ms()})


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def run(arguments: argparse.Namespace) -> int:
    """Carries the load out; returns the exit code: 0 only for a good verdict."""
    ledger = Ledger()
    plan = LoadPlan(
        arguments.bootstrap,
        arguments.topic,
        arguments.run,
        arguments.messages,
        arguments.payload_bytes,
        arguments.rate,
        arguments.read_along,
    )
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    load = KafkaLoad(plan, ledger, _now_ms, _progress, stop.is_set)
    try:
        if arguments.phase == "consume":
            for _ in range(arguments.messages):
                ledger.send()
        else:
            load.produce()
        if arguments.phase != "produce":
            load.consume()
    except (LoadError, LedgerError) as error:
        _print({"failed": str(error)})
        return 1
    verdict = ledger.judge()
    complete = {
        "both": verdict.good,
        "produce": verdict.unacked == 0,
        "consume": verdict.received == arguments.messages and not verdict.strangers,
    }[arguments.phase]
    _print(
        {
            "verdict": dataclasses.asdict(verdict),
            "complete": complete,
            "silences": [dataclasses.astuple(silence) for silence in ledger.silences],
            "client_errors": load.errors,
        }
    )
    return 0 if complete else 1


def main() -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True, help="host:port of the cluster")
    parser.add_argument("--topic", required=True)
    parser.add_argument("--run", required=True, help="name of this run; messages of others are left alone")
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--payload-bytes", type=int, default=100)
    parser.add_argument(
        "--rate", type=float, default=0.0, help="messages per second; 0 is as fast as possible"
    )
    parser.add_argument("--read-along", action="store_true", help="consume while producing, too")
    parser.add_argument("--phase", choices=("both", "produce", "consume"), default="both")
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
