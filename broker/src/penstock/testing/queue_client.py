"""A client of queue groups over HTTP, as a program would write one: blocking, one connection for each request."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote

ANSWER_TIMEOUT_S = 60.0


class RefusedError(Exception):
    """The server's problem document."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(f"{status} {problem.get('code')}: {problem.get('detail')}")
        self.status = status
        self.code = str(problem.get("code", ""))
        self.detail = str(problem.get("detail", ""))


class NoAnswerError(Exception):
    """Nobody answered, or not to the end: what was asked may have been done."""


def call(
    base: str, path: str, body: object | None = None, method: str = "", timeout_s: float = ANSWER_TIMEOUT_S
) -> Any:
    """One request; JSON in and out. Raises RefusedError, NoAnswerError."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        base + path, data, {"Content-Type": "application/json"}, method=method or None
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            told = answer.read()
    except urllib.error.HTTPError as error:
        with error:
            try:
                problem = json.loads(error.read())
            except ValueError:
                problem = {}
        raise RefusedError(error.code, problem) from error
    except (OSError, ValueError) as error:
        raise NoAnswerError(f"{base}{path}: {error}") from error
    except Exception as error:  # http.client's, of an answer that was cut off
        raise NoAnswerError(f"{base}{path}: {error!r}") from error
    return json.loads(told) if told else None


class QueueClient:
    """The members of one group, against one broker: `http` and `admin` are base URLs."""

    def __init__(self, http: str, admin: str, group: str) -> None:
        self.http = http
        self.admin = admin
        self.group = group

    def declare(self, *topics: str, start: str = "earliest", **settings: object) -> Any:
        """Declares the group over `topics`; `settings` as the admin API names them."""
        body = {"mode": "queue", "topics": list(topics), "start": {"at": start}, **settings}
        return call(self.admin, f"/v1/groups/{quote(self.group, safe='')}", body, "PUT")

    def lease(self, most: int = 1, wait_ms: int = 0, lease_ms: int | None = None) -> list[dict[str, Any]]:
        """What was leased."""
        body: dict[str, object] = {"max": most, "waitMs": wait_ms}
        if lease_ms is not None:
            body["leaseMs"] = lease_ms
        found: list[dict[str, Any]] = self.post("lease", body)["messages"]
        return found

    def settle(self, verb: str, receipts: list[str], **more: object) -> dict[str, str]:
        """What became of each receipt: the code of its error, empty where there is none."""
        results = self.post(verb, {"receipts": receipts, **more})["results"]
        return {each["receipt"]: each.get("error", {}).get("code", "") for each in results}

    def post(self, verb: str, body: object) -> Any:
        """One request of the data API."""
        return call(self.http, f"/v1/groups/{quote(self.group, safe='')}/{verb}", body)

    def view(self) -> Any:
        """The group as the admin API shows it."""
        return call(self.admin, f"/v1/groups/{quote(self.group, safe='')}")
