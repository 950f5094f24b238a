"""Brokers' admin APIs without brokers, by the contract with the operator: state in memory, real HTTP.

The brokers of a `FakeShard` share what a real shard replicates; each has its own file, readiness and lag. Only the leader
answers about topics and groups and takes changes.
"""

from __future__ import annotations

import uuid
from typing import Any

from aiohttp import web

from penstock_operator.api.topic import value_text

DEFAULTS: dict[str, tuple[Any, bool]] = {  # name -> (default, dynamic)
    "replicas": (1, False),
    "shard.peers": ("", False),
    "min.insync.replicas": (1, True),
    "raft.election.timeout.ms": (1000, False),
    "mode": ("Raft", False),
    "replication": ("sync", False),
    "lease.duration.ms": (6000, False),
    "lease.renew.interval.ms": (2000, False),
    "failover.max.lag": (0, False),
    "failover.allow.data.loss": (False, False),
    "tracing.endpoint": ("", False),
    "tracing.sampling": (0.01, True),
    "tracing.rules": ("", True),
    "tracing.headers.file": ("", False),
    "tracing.topic.enabled": (False, False),
    "flush.policy": ("sync", False),
    "flush.interval.ms": (50, False),
    "flush.bytes": (1048576, False),
    "log.disk.bytes": (0, True),
    "log.segment.bytes": (67108864, False),
    "log.retention.ms": (604800000, True),
    "num.partitions": (1, True),
    "auto.create.topics.enable": (True, True),
}


class FakeShard:
    """What all brokers of a shard agree on."""

    def __init__(self) -> None:
        self.topics: dict[str, dict[str, Any]] = {}
        self.groups: dict[str, dict[str, Any]] = {}
        self.dynamic: dict[str, Any] = {}
        self.resets: list[tuple[str, dict[str, Any]]] = []
        self.declarations: list[tuple[str, dict[str, Any]]] = []
        self.requests: list[tuple[str, str]] = []  # writes only
        self.hand_overs: list[tuple[str, str]] = []
        self.refuses_hand_over = False
        self.trusts: list[str] = []
        self.refuses_trust: tuple[int, str] | None = None  # status and sentence
        self.loses_answers = False
        self.recovery: dict[str, Any] | None = None
        self.replicas = 0  # brokers that it was told to have; 0: what their files say
        self.resizes: list[int] = []
        self.resizable = True
        self.leaving = ""  # a sentence that keeps those who are too many where they are
        self.leaving_refused = False
        self.elections: dict[str, dict[str, Any]] = {}  # mode MasterSlave: what a broker says of its Lease
        self.brokers: dict[str, FakeBroker] = {}
        self.cluster_id = "cluster"
        self.shard_uid = "shard"
        self.leader = ""
        self.epoch = 0

    def lead(self, name: str) -> None:
        """Another broker leads, or none (the empty name)."""
        self.leader = name
        self.epoch += bool(name)

    def restarted(self, name: str) -> None:
        """A broker was started anew: if it led, somebody else does now."""
        if name == self.leader and (others := [other for other in self.voters() if other != name]):
            self.lead(others[0])

    def resize(self, replicas: int) -> None:
        """There should be so many: those that are too many leave at once, unless something keeps them."""
        self.resizes.append(replicas)
        self.replicas = replicas
        if not self.leaving:
            self.let_go()

    def let_go(self) -> None:
        """Those that are too many leave now; a leader among them hands over first."""
        self.leaving, self.leaving_refused = "", False
        names = list(self.brokers)
        if self.leader in names[self.replicas :]:
            self.hand_overs.append((self.leader, names[0]))
            self.lead(names[0])
        for name in names[self.replicas :]:
            self.brokers[name].role = None

    def voters(self) -> list[str]:
        """The names of the members that vote."""
        return [name for name, broker in self.brokers.items() if broker.role in ("", "Follower")]


class FakeBroker:
    """One broker; alone it leads. `file` is what its configuration file says, read when it starts."""

    def __init__(self, name: str = "orders-0-0", shard: FakeShard | None = None) -> None:
        self.name = name
        self.shard = shard or FakeShard()
        self.shard.brokers[name] = self
        if shard is None:
            self.shard.lead(name)
        self.file: dict[str, Any] = {}
        self.not_ready: list[str] = []
        self.not_ready_as_leader: list[str] = []
        self.role: str | None = (
            ""  # Learner, or None for a broker that is no member; otherwise what the shard's leader makes it
        )
        self.in_sync = True
        self.lag_bytes = 0
        self.believes: str | None = None  # a leader that only this broker believes in
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def topics(self) -> dict[str, dict[str, Any]]:
        return self.shard.topics

    @property
    def groups(self) -> dict[str, dict[str, Any]]:
        return self.shard.groups

    @property
    def dynamic(self) -> dict[str, Any]:
        return self.shard.dynamic

    @property
    def resets(self) -> list[tuple[str, dict[str, Any]]]:
        return self.shard.resets

    @property
    def declarations(self) -> list[tuple[str, dict[str, Any]]]:
        return self.shard.declarations

    @property
    def requests(self) -> list[tuple[str, str]]:
        return self.shard.requests

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> None:
        app = web.Application(middlewares=[self._note, self._only_leader])
        router = app.router
        router.add_get("/healthz", self._ok)
        router.add_get("/readyz", self._readyz)
        router.add_get("/v1/cluster", self._cluster)
        router.add_get("/v1/broker", self._broker)
        router.add_post("/v1/shard/hand-over", self._hand_over)
        router.add_post("/v1/shard/trust", self._trust)
        router.add_post("/v1/shard/resize", self._resize)
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
        site = web.TCPSite(self._runner, host, port)
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

    @web.middleware
    async def _only_leader(self, request: web.Request, handler: Any) -> web.StreamResponse:
        shared = (
            request.path.startswith(("/v1/topics", "/v1/groups", "/v1/shard")) or request.method == "PATCH"
        )
        if shared and request.path != "/v1/shard/trust" and self.shard.leader != self.name:
            return _problem(503, "NOT_LEADER_OR_FOLLOWER", f"{self.shard.leader or 'nobody'} leads")
        response: web.StreamResponse = await handler(request)
        return response

    async def _ok(self, _: web.Request) -> web.Response:
        return web.json_response({})

    async def _readyz(self, _: web.Request) -> web.Response:
        leads = self.shard.leader == self.name
        reasons = self.not_ready + (self.not_ready_as_leader if leads else [])
        return web.json_response({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)

    def _role(self, broker: FakeBroker) -> str:
        return "Leader" if broker.name == self.shard.leader else broker.role or "Follower"

    async def _cluster(self, _: web.Request) -> web.Response:
        shard = self.shard
        members = [
            {
                "name": broker.name,
                "nodeId": number,
                "role": self._role(broker),
                "inSync": broker.in_sync,
                "lagBytes": broker.lag_bytes,
                "address": {"outside": f"10.0.0.{number + 1}:3000{number}"},
            }
            for number, broker in enumerate(shard.brokers.values())
            if broker.role is not None
        ]
        known = {
            "id": 0,
            "uid": shard.shard_uid,
            "leader": shard.leader if self.believes is None else self.believes,
            "epoch": shard.epoch if self.believes is None else shard.epoch - 1,
            "members": members,
            "recovery": shard.recovery,
            "replicas": shard.replicas or self.file.get("replicas", 0),
            "resizable": shard.resizable,
            "leaving": shard.leaving if shard.leader == self.name else "",
            "leavingRefused": shard.leaving_refused,
        }
        body = {"clusterId": shard.cluster_id, "clusterName": "orders", "version": "0.1.0"}
        return web.json_response({**body, "mode": self.file.get("mode", "Raft"), "shards": [known]})

    async def _broker(self, _: web.Request) -> web.Response:
        body = {"name": self.name, "role": self._role(self), "shardUid": self.shard.shard_uid}
        body["storageId"] = f"storage-{self.name}"
        if self.name in self.shard.elections:
            body["election"] = self.shard.elections[self.name]
        return web.json_response({**body, "rates": {"messagesInPerSecond": 12.3}})

    async def _hand_over(self, request: web.Request) -> web.Response:
        heir = (await request.json()).get("to", "")
        if self.shard.refuses_hand_over or not self.shard.brokers[heir].in_sync:
            return _problem(409, "HAND_OVER_REFUSED", f"{heir} did not take over in time")
        self.shard.hand_overs.append((self.name, heir))
        self.shard.lead(heir)
        return web.json_response({"leader": heir, "epoch": self.shard.epoch})

    async def _resize(self, request: web.Request) -> web.Response:
        replicas = (await request.json())["replicas"]
        self.shard.resize(replicas)
        return web.json_response({"replicas": replicas})

    async def _trust(self, request: web.Request) -> web.Response:
        body = await request.json()
        if self.shard.refuses_trust is not None:
            status, sentence = self.shard.refuses_trust
            code = "INVALID_REQUEST" if status < 500 else "LEADER_NOT_AVAILABLE"
            return _problem(status, code, f"not trusted: {sentence}")
        assert body["storageId"] == f"storage-{self.name}"
        self.shard.shard_uid = body["shardUid"]
        self.shard.trusts.append(self.name)
        generation = len(self.shard.trusts)
        self.shard.recovery = {
            "generation": generation,
            "broker": self.name,
            "epoch": 10_000 * generation,
            "lastIndex": 120,
            "lastEpoch": 7,
            "commitIndex": 118,
            "at": "2026-11-21T08:00:00Z",
        }
        self.shard.epoch = 10_000 * generation
        self.shard.lead(self.name)
        if self.shard.loses_answers:
            return web.Response(status=502)
        return web.json_response(self.shard.recovery)

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
            {"name": name, "mode": body["mode"], "state": "Empty", "members": [], "offsets": [], "lag": 0},
        )
        if group["mode"] != body["mode"]:
            return _problem(409, "INCONSISTENT_GROUP_PROTOCOL", f"group {name} has mode {group['mode']}")
        group |= {"topics": body["topics"], "declared": True}
        group.setdefault("start", body["start"])
        self.declarations.append((name, body))
        if body["mode"] == "queue":
            group["queue"] = group.get("queue", QUEUE_WITHOUT_MESSAGES) | _queue_settings(body)
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


QUEUE_WITHOUT_MESSAGES = {
    "inFlight": 0, "waiting": 0, "deadLetters": 0, "oldestMessageAgeMs": None, "windowFull": False
}  # fmt: skip


def _queue_settings(declaration: dict[str, Any]) -> dict[str, Any]:
    """What a broker shows of a queue group's settings: not how long failed messages wait."""
    return {
        "deadLetterTopic": declaration["deadLetter"]["topicName"],
        "leaseMs": declaration["lease"]["durationMs"],
        "maxInFlight": declaration["lease"]["maxInFlight"],
        "maxDeliveries": declaration["retry"]["maxDeliveries"],
    }


def _unknown_group(name: str) -> web.Response:
    return _problem(404, "GROUP_ID_NOT_FOUND", f"there is no group {name}")
