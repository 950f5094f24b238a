"""A broker's admin API without a broker, by the contract between the two: state in memory, real HTTP."""

from __future__ import annotations

import uuid
from typing import Any

from aiohttp import web

from penstock_operator.api.topic import value_text

DEFAULTS: dict[str, tuple[Any, bool]] = {  # name -> (default, dynamic)
    "flush.policy": ("sync", False),
    "flush.interval.ms": (50, False),
    "flush.bytes": (1048576, False),
    "log.disk.bytes": (0, True),
    "log.segment.bytes": (67108864, False),
    "log.retention.ms": (604800000, True),
    "num.partitions": (1, True),
    "auto.create.topics.enable": (True, True),
}


class FakeBroker:
    """One broker, standalone. `file` is what its configuration file says, read at `start`."""

    def __init__(self, name: str = "orders-0-0") -> None:
        self.name = name
        self.topics: dict[str, dict[str, Any]] = {}
        self.groups: dict[str, dict[str, Any]] = {}
        self.file: dict[str, Any] = {}
        self.dynamic: dict[str, Any] = {}
        self.not_ready: list[str] = []
        self.resets: list[tuple[str, dict[str, Any]]] = []
        self.requests: list[tuple[str, str]] = []  # writes only
        self.cluster_id = "cluster"
        self.shard_uid = "shard"
        self.port = 0
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0) -> None:
        app = web.Application(middlewares=[self._note])
        router = app.router
        router.add_get("/healthz", self._ok)
        router.add_get("/readyz", self._readyz)
        router.add_get("/v1/cluster", self._cluster)
        router.add_get("/v1/config", self._config)
        router.add_patch("/v1/config", self._patch_config)
        router.add_post("/v1/topics", self._create_topic)
        router.add_get("/v1/topics/{name}", self._topic)
        router.add_patch("/v1/topics/{name}", self._patch_topic)
        router.add_delete("/v1/topics/{name}", self._delete_topic)
        router.add_get("/v1/groups/{name}", self._group)
        router.add_put("/v1/groups/{name}", self._put_group)
        router.add_post("/v1/groups/{name}/reset", self._reset_group)
        router.add_delete("/v1/groups/{name}", self._delete_group)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        assert site._server is not None
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def make_topic(self, name: str, partitions: int = 1, config: dict[str, str] | None = None) -> None:
        self.topics[name] = {
            "name": name,
            "topicId": uuid.uuid5(uuid.NAMESPACE_DNS, name).hex[:22],
            "partitions": partitions,
            "config": dict(config or {}),
            "internal": False,
            "messages": 0,
            "bytes": 0,
        }

    @web.middleware
    async def _note(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.method != "GET":
            self.requests.append((request.method, request.path))
        response: web.StreamResponse = await handler(request)
        return response

    async def _ok(self, _: web.Request) -> web.Response:
        return web.json_response({})

    async def _readyz(self, _: web.Request) -> web.Response:
        body = {"ready": not self.not_ready, "reasons": self.not_ready}
        return web.json_response(body, status=503 if self.not_ready else 200)

    async def _cluster(self, _: web.Request) -> web.Response:
        member = {
            "name": self.name,
            "nodeId": 0,
            "role": "Leader",
            "inSync": True,
            "lagBytes": 0,
            "address": {},
        }
        shard = {"id": 0, "uid": self.shard_uid, "leader": self.name, "epoch": 1, "members": [member]}
        body = {"clusterId": self.cluster_id, "clusterName": "orders", "version": "0.1.0", "shards": [shard]}
        return web.json_response(body)

    async def _config(self, _: web.Request) -> web.Response:
        rows = []
        for name, (default, dynamic) in DEFAULTS.items():
            source = "dynamic" if name in self.dynamic else "file" if name in self.file else "default"
            value = self.dynamic.get(name, self.file.get(name, default))
            rows.append(
                {
                    "name": name,
                    "value": value,
                    "default": default,
                    "source": source,
                    "dynamic": dynamic,
                    "doc": "",
                }
            )
        return web.json_response({"config": rows})

    async def _patch_config(self, request: web.Request) -> web.Response:
        changes = await request.json()
        for name in changes:
            if name not in DEFAULTS or not DEFAULTS[name][1]:
                return _problem(
                    400, "INVALID_CONFIG", f"{name} needs a restart: set it in the configuration file"
                )
        for name, value in changes.items():
            if value is None:
                self.dynamic.pop(name, None)
            else:
                self.dynamic[name] = value
        return await self._config(request)

    async def _create_topic(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body["name"] in self.topics:
            return _problem(409, "TOPIC_ALREADY_EXISTS", f"topic {body['name']} exists already")
        bad = next((value for value in body.get("config", {}).values() if value == "nonsense"), None)
        if bad is not None:
            return _problem(400, "INVALID_CONFIG", "nonsense is not a value")
        self.make_topic(body["name"], body.get("partitions", 1), body.get("config"))
        return web.json_response(self._details(body["name"]), status=201)

    def _details(self, name: str) -> dict[str, Any]:
        topic = self.topics[name]
        partitions = [
            {"partition": p, "logStart": 0, "highWatermark": 0, "bytes": 0, "leader": self.name, "epoch": 1}
            for p in range(topic["partitions"])
        ]
        return {**topic, "partitionDetails": partitions, "effectiveConfig": {}}

    async def _topic(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        return web.json_response(self._details(name)) if name in self.topics else _unknown_topic(name)

    async def _patch_topic(self, request: web.Request) -> web.Response:
        name, body = request.match_info["name"], await request.json()
        topic = self.topics.get(name)
        if topic is None:
            return _unknown_topic(name)
        if body.get("partitions", topic["partitions"]) < topic["partitions"]:
            return _problem(400, "INVALID_PARTITIONS", "partitions cannot become fewer")
        topic["partitions"] = body.get("partitions", topic["partitions"])
        for key, value in body.get("config", {}).items():
            if value is None:
                topic["config"].pop(key, None)
            else:
                topic["config"][key] = value_text(value)
        return web.json_response(self._details(name))

    async def _delete_topic(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        return web.Response(status=204) if self.topics.pop(name, None) else _unknown_topic(name)

    async def _group(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        return web.json_response(self.groups[name]) if name in self.groups else _unknown_group(name)

    async def _put_group(self, request: web.Request) -> web.Response:
        name, body = request.match_info["name"], await request.json()
        missing = [topic for topic in body["topics"] if topic not in self.topics]
        if missing:
            return _unknown_topic(missing[0])
        group = self.groups.setdefault(
            name,
            {"name": name, "mode": "stream", "state": "Empty", "members": [], "offsets": [], "lag": 0},
        )
        group |= {"topics": body["topics"], "declared": True}
        group.setdefault("start", body["start"])
        return web.json_response(group)

    async def _reset_group(self, request: web.Request) -> web.Response:
        name, body = request.match_info["name"], await request.json()
        group = self.groups.get(name)
        if group is None:
            return _unknown_group(name)
        if group["members"] and not body.get("force"):
            return _problem(409, "NON_EMPTY_GROUP", f"group {name} has active members")
        self.resets.append((name, body["to"]))
        offsets = [{"topic": topic, "partition": 0, "from": 5, "to": 0} for topic in group["topics"]]
        return web.json_response({"offsets": offsets})

    async def _delete_group(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.groups:
            return _unknown_group(name)
        if self.groups[name]["members"]:
            return _problem(409, "NON_EMPTY_GROUP", f"group {name} has active members")
        del self.groups[name]
        return web.Response(status=204)


def _problem(status: int, code: str, detail: str) -> web.Response:
    body = {"type": "about:blank", "title": code, "status": status, "detail": detail, "code": code}
    return web.json_response(body, status=status, content_type="application/problem+json")


def _unknown_topic(name: str) -> web.Response:
    return _problem(404, "UNKNOWN_TOPIC_OR_PARTITION", f"there is no topic {name}")


def _unknown_group(name: str) -> web.Response:
    return _problem(404, "GROUP_ID_NOT_FOUND", f"there is no group {name}")
