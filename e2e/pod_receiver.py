"""The program of a collector's pod in the scenarios: takes spans by OTLP over HTTP, and hands them out at `GET /spans`.

Its one line on stdout is `{"endpoint": …}`, once it listens.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json

from penstock.testing.otlp_receiver import OtlpReceiver


async def serve(host: str, port: int) -> None:
    """Listens until it is ended."""
    async with OtlpReceiver(host, port) as receiver:
        print(json.dumps({"endpoint": receiver.endpoint}), flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(arguments.host, arguments.port))


if __name__ == "__main__":
    main()
