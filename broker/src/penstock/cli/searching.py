"""Searching a topic for a key, request after request: each is bounded by the broker, and says where the next one goes on."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

import click
import msgspec

from penstock.admin.message_models import FoundMessages
from penstock.cli.common import F
from penstock.cli.output import size_text
from penstock.cli.times import since_ms
from penstock.client.http import path
from penstock.listeners.http.limits import FIND_MESSAGES_MAX

if TYPE_CHECKING:
    from penstock.admin.message_models import Message
    from penstock.client.http import HttpClient

PROGRESS_SECONDS: Final = 1.0
"""How often a long search says on stderr how far it is."""


class KeySearch(msgspec.Struct, frozen=True):
    """What is looked for; exactly one of `key` and `key_base64` is given."""

    topic: str
    key: str | None
    key_base64: str | None
    partition: int | None
    since: str | None
    preview: int

    def query(self, now_ms: int) -> dict[str, str]:
        """As the admin API takes it. Raises click.UsageError."""
        if (self.key is None) == (self.key_base64 is None):
            raise click.UsageError("give --key, or --key-base64 where the key is not text.")
        query = {"preview": str(self.preview)}
        if self.key is not None:
            query["key"] = self.key
        if self.key_base64 is not None:
            query["keyBase64"] = self.key_base64
        if self.partition is not None:
            query["partition"] = str(self.partition)
        if self.since is not None:
            try:
                query["since"] = str(since_ms(self.since, now_ms))
            except ValueError as error:
                raise click.UsageError(f"--since: {error}.") from error
        return query


def key_options(command: F) -> F:
    """`--key` and `--key-base64`."""
    for option in (
        click.option("--key-base64", metavar="BASE64", help="The key where it is not text."),
        click.option("--key", metavar="KEY", help="The key, as text."),
    ):
        command = option(command)
    return command


class Progress:
    """What was searched so far, said on stderr now and then."""

    def __init__(self) -> None:
        self._said = time.monotonic()
        self.bytes = self.messages = self.found = self.unreadable = 0
        self.partitions = ""

    def add(self, page: FoundMessages) -> None:
        """Counts one answer."""
        self.bytes += page.scanned_bytes
        self.messages += page.scanned_messages
        self.found += len(page.messages)
        self.unreadable += page.unreadable
        self.partitions = f"{page.partitions_done} of {page.partition_count} partitions"
        if page.next is not None and time.monotonic() - self._said >= PROGRESS_SECONDS:
            self._said = time.monotonic()
            click.echo(f"searched {self.sentence}; {self.found} found", err=True)

    @property
    def sentence(self) -> str:
        """How much was looked at."""
        return f"{self.partitions}, {self.messages} messages, {size_text(self.bytes)}"

    def warn(self) -> None:
        """Of what could not be looked into."""
        if self.unreadable:
            click.echo(f"{self.unreadable} batches cannot be read as messages and were passed over", err=True)


async def pages(
    client: HttpClient, search: KeySearch, limit: int, progress: Progress
) -> AsyncIterator[list[Message]]:
    """Answer by answer, until `limit` messages were found or there is nothing left to search."""
    query = search.query(int(time.time() * 1000))
    left = limit
    while left > 0:
        query["limit"] = str(min(left, FIND_MESSAGES_MAX))
        page = await client.get(path("topics", search.topic, "messages"), FoundMessages, query=query)
        progress.add(page)
        left -= len(page.messages)
        yield page.messages
        if page.next is None:
            return
        query["cursor"] = page.next
