"""How replicas are compared: what counts as agreement, what as a finding, and what is asked again."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from penstock.testing.replicas import Digest, DisagreementError, ask_digest, replicas_agree

if TYPE_CHECKING:
    from collections.abc import Iterator

URLS = ["a", "b", "c"]


class Replicas:
    """Answers as three replicas would; a test changes one of them."""

    def __init__(self) -> None:
        self.commit = dict.fromkeys(URLS, 10)
        self.first = dict.fromkeys(URLS, 1)
        self.entries = dict.fromkeys(URLS, "e0")
        self.machines = {url: {"catalog": "c0", "groups": "g0"} for url in URLS}
        self.asked: list[tuple[str, int | None]] = []

    def ask(self, url: str, first: int | None) -> Digest:
        self.asked.append((url, first))
        commit = self.commit[url]
        return Digest(url, commit, first or self.first[url], commit, self.entries[url], self.machines[url])


def test_the_same_is_agreement() -> None:
    replicas = Replicas()
    agreement = replicas_agree(URLS, ask=replicas.ask, timeout_s=0)
    assert (agreement.index, agreement.first_index) == (10, 1)
    assert replicas.asked == [("a", None), ("b", None), ("c", None)]
    assert agreement.line() == (
        "3 replicas agree on entries 1 to 10 (e0) and on the state of catalog, groups"
    )


def test_one_replica_agrees_with_nobody() -> None:
    agreement = replicas_agree(URLS[:1], ask=Replicas().ask, timeout_s=0)
    assert agreement.line() == "one replica, with entries 1 to 10 (e0) and the state of catalog, groups"


def test_entries_that_everybody_has_are_compared() -> None:
    replicas = Replicas()
    replicas.first["b"] = 5
    assert replicas_agree(URLS, ask=replicas.ask, timeout_s=0).first_index == 5
    assert replicas.asked[3:] == [("a", 5), ("b", 5), ("c", 5)]


def test_other_entries_are_a_finding() -> None:
    replicas = Replicas()
    replicas.entries["c"] = "e1"
    with pytest.raises(DisagreementError, match="entries 1 to 10: e0 in a, e1 in c"):
        replicas_agree(URLS, ask=replicas.ask, timeout_s=60)


@pytest.mark.parametrize("machines", [{"catalog": "c0", "groups": "g1"}, {"catalog": "c0"}])
def test_other_state_is_a_finding(machines: dict[str, str]) -> None:
    replicas = Replicas()
    replicas.machines["b"] = machines
    with pytest.raises(DisagreementError, match="state of groups at entry 10: g0 in a"):
        replicas_agree(URLS, ask=replicas.ask, timeout_s=60)


def test_a_replica_that_is_behind_is_asked_again() -> None:
    replicas = Replicas()
    replicas.commit["b"] = 9

    def ask(url: str, first: int | None) -> Digest:
        if len(replicas.asked) == len(URLS):
            replicas.commit["b"] = 10
        return replicas.ask(url, first)

    assert replicas_agree(URLS, ask=ask, timeout_s=60).index == 10


def test_a_replica_that_does_not_answer_is_asked_again() -> None:
    replicas = Replicas()

    def ask(url: str, first: int | None) -> Digest:
        answer = replicas.ask(url, first)
        if len(replicas.asked) == 1:
            raise OSError("not yet")
        return answer

    assert replicas_agree(URLS, ask=ask, timeout_s=60).index == 10


def test_time_that_runs_out_is_no_agreement() -> None:
    replicas = Replicas()
    replicas.commit["b"] = 5
    with pytest.raises(DisagreementError, match="within 0 s: b has committed 5 entries, a 10"):
        replicas_agree(URLS, ask=replicas.ask, timeout_s=0)


@contextmanager
def admin(answer: bytes, status: int = 200) -> Iterator[tuple[str, list[str]]]:
    """An admin API with one answer; its URL and the paths it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def test_the_admin_api_is_asked() -> None:
    told = {"commitIndex": 9, "firstIndex": 2, "index": 7, "entries": "e", "machines": {"groups": "g"}}
    with admin(json.dumps(told).encode()) as (url, asked):
        assert ask_digest(url, 2) == Digest(url, 9, 2, 7, "e", {"groups": "g"})
        ask_digest(url, None)
    assert asked == ["/v1/shard/digest?first=2", "/v1/shard/digest"]


def test_a_refusal_is_quoted() -> None:
    with admin(b"entry 7 is not applied yet", 409) as (url, _), pytest.raises(OSError, match="409: entry 7"):
        ask_digest(url, 7)
