"""Client of a broker's admin API.

Answers become plain data, refusals AdminError with the broker's own sentence, and everything else (no connection, no
answer in time, no JSON) AdminUnreachableError: then nothing is known, and nobody may conclude anything from it.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

import aiohttp
import msgspec

from penstock_operator.reconcile.ports import AdminError, AdminUnreachableError

REQUEST_TIMEOUT_S: Final = 10.0
CONNECT_TIMEOUT_S: Final = 3.0
ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024


class HttpBrokerAdmin:
    """One broker's admin API at `base_url`, over a session that somebody else owns. See `ports.BrokerAdmin`."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str) -> None:
        self._session = session
        self._base_url = base_url.rstrip("/")

    async def not_ready(self) -> list[str]:
        """The broker's own reasons why it is not ready; none when it is."""
        status, answer = await self._ask("GET", "/readyz")
        if status == 200:
            return []
        reasons = answer.get("reasons") if isinstance(answer, dict) else None
        return [str(reason) for reason in reasons] if reasons else [f"/readyz answers {status}"]

    async def cluster(self) -> Any:
        """`GET /v1/cluster`."""
        return await self._call("GET", "/v1/cluster")

    async def broker(self) -> Any:
        """`GET /v1/broker`."""
        return await self._call("GET", "/v1/broker")

    async def groups(self) -> Any:
        """`GET /v1/groups`."""
        return await self._call("GET", "/v1/groups")

    async def settings(self) -> Any:
        """`GET /v1/config`."""
        return await self._call("GET", "/v1/config")

    async def patch_settings(self, settings: dict[str, Any]) -> None:
        """Change dynamic settings; None takes the run-time value back."""
        await self._call("PATCH", "/v1/config", settings)

    async def hand_over(self, to: str) -> None:
        """Have this broker's shard be led by another member; returns once it is."""
        await self._call("POST", "/v1/shard/hand-over", {"to": to})

    async def resize(self, replicas: int) -> None:
        """How many brokers this broker's shard should have; those that are too many then leave one after the other."""
        await self._call("POST", "/v1/shard/resize", {"replicas": replicas})

    async def trust(self, shard_uid: str) -> None:
        """Have the shard, which lost its quorum for good, go on from the copy that this broker holds now."""
        broker = await self.broker()
        storage_id = broker.get("storageId", "") if isinstance(broker, dict) else ""
        await self._call("POST", "/v1/shard/trust", {"shardUid": shard_uid, "storageId": storage_id})

    async def topic(self, name: str) -> Any | None:
        """The topic, or None."""
        return await self._call_or_none("GET", f"/v1/topics/{quote(name, safe='')}")

    async def create_topic(self, name: str, partitions: int, config: dict[str, str]) -> None:
        """Make a topic. One that a client made in the meantime is as good: the next look adopts it."""
        try:
            await self._call("POST", "/v1/topics", {"name": name, "partitions": partitions, "config": config})
        except AdminError as error:
            if error.code != "TOPIC_ALREADY_EXISTS":
                raise

    async def alter_topic(self, name: str, partitions: int | None, config: dict[str, str | None]) -> None:
        """More partitions, other configuration."""
        body: dict[str, Any] = {"config": config} if config else {}
        if partitions is not None:
            body["partitions"] = partitions
        await self._call("PATCH", f"/v1/topics/{quote(name, safe='')}", body)

    async def delete_topic(self, name: str) -> None:
        """Delete a topic; one that does not exist is deleted already."""
        await self._call_or_none("DELETE", f"/v1/topics/{quote(name, safe='')}")

    async def group(self, name: str) -> Any | None:
        """The group, or None."""
        return await self._call_or_none("GET", f"/v1/groups/{quote(name, safe='')}")

    async def declare_group(self, name: str, declaration: dict[str, Any]) -> None:
        """Make a group, or change its topics and settings: `{mode, topics, start}`, for queues `{retry, deadLetter, lease}` too."""
        await self._call("PUT", f"/v1/groups/{quote(name, safe='')}", declaration)

    async def reset_group(self, name: str, to: dict[str, Any], force: bool) -> dict[str, Any]:
        """Move a group's offsets."""
        answer = await self._call(
            "POST", f"/v1/groups/{quote(name, safe='')}/reset", {"to": to, "force": force}
        )
        return answer if isinstance(answer, dict) else {}

    async def delete_group(self, name: str) -> None:
        """Delete a group; one that does not exist is deleted already."""
        await self._call_or_none("DELETE", f"/v1/groups/{quote(name, safe='')}")

    async def _call_or_none(self, method: str, path: str) -> Any | None:
        """Like `_call`, with None for "there is no such thing"."""
        try:
            return await self._call(method, path)
        except AdminError as error:
            if error.status == 404:
                return None
            raise

    async def _call(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = await self._ask(method, path, body)
        if 200 <= status < 300:
            return answer
        problem = answer if isinstance(answer, dict) else {}
        code = str(problem.get("code", ""))
        detail = str(
            problem.get("detail") or problem.get("title") or f"{method} {path} was answered with {status}"
        )
        if status >= 500 and not code:
            raise AdminUnreachableError(detail)
        raise AdminError(status, code, detail)

    async def _ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and decoded body of one request."""
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        url = self._base_url + path
        try:
            async with self._session.request(method, url, json=body, timeout=timeout) as response:
                if (response.content_length or 0) > ANSWER_BYTES_MAX:
                    raise AdminUnreachableError(
                        f"{url} sends {response.content_length} bytes, more than is read"
                    )
                raw = await response.content.read(ANSWER_BYTES_MAX + 1)
                while not response.content.at_eof() and len(raw) <= ANSWER_BYTES_MAX:
                    raw += await response.content.read(ANSWER_BYTES_MAX + 1 - len(raw))
                if len(raw) > ANSWER_BYTES_MAX:
                    raise AdminUnreachableError(f"{url} sends more than {ANSWER_BYTES_MAX} bytes")
                return response.status, _decode(raw, url, response.status)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            cause = str(error) or type(error).__name__
            raise AdminUnreachableError(f"{url} does not answer: {cause}") from error


def _decode(raw: bytes, url: str, status: int) -> Any:
    if not raw:
        return None
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if status >= 400:
            return None  # a proxy's page; the status says enough
        raise AdminUnreachableError(f"{url} answers with something else than JSON: {error}") from error
