"""Rules of `Topic`. The notation is explained in `rules`."""

from __future__ import annotations

from typing import Any, Final

from penstock_operator.api.rules import Rule, unavailable

_NAME_CEL = "(has({0}.spec.topicName) ? {0}.spec.topicName : {0}.metadata.name)"
_PARTITIONS_CEL = "(has({0}.partitions) ? {0}.partitions : 1)"


def _name(resource: dict[str, Any]) -> str:
    name: str = resource["spec"].get("topicName") or resource["metadata"]["name"]
    return name


TOPIC_RULES: Final = (
    Rule(
        name="topic-name",
        path="",
        cel=f"size({_NAME_CEL.format('self')}) <= 249 && !({_NAME_CEL.format('self')} in ['.', '..'])",
        message="the topic's name is not one that Kafka clients accept: write a topicName of at most 249 characters that is not '.' or '..'",
        holds=lambda new, _: len(_name(new)) <= 249 and _name(new) not in (".", ".."),
    ),
    Rule(
        name="topic-name-immutable",
        path="",
        cel=f"{_NAME_CEL.format('self')} == {_NAME_CEL.format('oldSelf')}",
        message="topicName cannot be changed: make a new Topic with the other name",
        holds=lambda new, old: _name(new) == _name(old),
    ),
    Rule(
        name="topic-cluster-immutable",
        path="spec.clusterRef",
        cel="self.name == oldSelf.name",
        message="clusterRef cannot be changed: make a new Topic for the other MessageCluster",
        holds=lambda new, old: new["name"] == old["name"],
    ),
    Rule(
        name="topic-partitions-up-only",
        path="spec",
        cel=f"{_PARTITIONS_CEL.format('self')} >= {_PARTITIONS_CEL.format('oldSelf')}",
        message="partitions cannot become fewer, because their messages would be lost: write the old number or a bigger one",
        holds=lambda new, old: new.get("partitions", 1) >= old.get("partitions", 1),
    ),
    Rule(
        name="topic-type",
        path="spec.type",
        cel="!(self in ['fifo', 'delay'])",
        message=unavailable("type: fifo or delay", "write type: normal or leave it out"),
        holds=lambda new, _: new not in ("fifo", "delay"),
    ),
)
