"""DescribeConfigs, AlterConfigs and IncrementalAlterConfigs, for topics (resource type 2) and brokers (4)."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.codec.kafka.generated import alter_configs as legacy
from penstock.codec.kafka.generated import incremental_alter_configs as incremental
from penstock.codec.kafka.generated.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)
from penstock.listeners.kafka.errors import Refusal
from penstock.listeners.kafka.handlers.endpoint import repeated
from penstock.listeners.kafka.services import Call
from penstock.model.errors import ErrorCode, PenstockError
from penstock.service.api import ConfigEntry, ConfigOperation

TOPIC = 2
BROKER = 4

# Kafka's DescribeConfigsResponse.ConfigSource and ConfigType.
_SOURCES = {"topic": 1, "dynamic": 2, "file": 4, "default": 5}
_UNKNOWN_SOURCE = 0
_TYPES = {"boolean": 1, "string": 2, "int": 3, "short": 4, "long": 5, "double": 6, "list": 7, "password": 9}
_UNKNOWN_TYPE = 0

# IncrementalAlterConfigs' operations, in the order of their numbers (KIP-339).
_OPERATIONS = ("set", "delete", "append", "subtract")


def source_code(source: str) -> int:
    """Kafka's number for where a value comes from."""
    return _SOURCES.get(source, _UNKNOWN_SOURCE)


async def describe_configs(call: Call, request: DescribeConfigsRequest) -> DescribeConfigsResponse:
    """Every setting with its value, where it comes from, and what it means; or those that were named."""
    brokers: set[str] | None = None
    if any(resource.resource_type == BROKER for resource in request.resources):
        brokers = await _broker_names(call)
    return DescribeConfigsResponse(
        results=[_described(call, request, resource, brokers) for resource in request.resources]
    )


def _described(
    call: Call,
    request: DescribeConfigsRequest,
    resource: DescribeConfigsResource,
    brokers: set[str] | None,
) -> DescribeConfigsResult:
    try:
        entries = _entries(call, resource, brokers)
    except PenstockError as error:
        return DescribeConfigsResult(
            error_code=error.code,
            error_message=error.sentence,
            resource_type=resource.resource_type,
            resource_name=resource.resource_name,
        )
    wanted = resource.configuration_keys
    return DescribeConfigsResult(
        error_message=None,
        resource_type=resource.resource_type,
        resource_name=resource.resource_name,
        configs=[
            _described_entry(entry, request.include_synonyms, request.include_documentation)
            for entry in entries
            if wanted is None or entry.name in wanted
        ],
    )


def _entries(call: Call, resource: DescribeConfigsResource, brokers: set[str] | None) -> list[ConfigEntry]:
    if resource.resource_type == TOPIC:
        return call.services.topics.describe_topic_config(call.context, resource.resource_name)
    _check_resource(resource.resource_type, resource.resource_name, brokers)
    return call.services.topics.describe_broker_config(call.context)


async def _broker_names(call: Call) -> set[str]:
    """The names that a broker resource may have; the empty one stands for all brokers."""
    found = await call.services.topics.metadata(call.context, [])
    return {"", *(str(broker.node_id) for broker in found.brokers)}


def _check_resource(resource_type: int, name: str, brokers: set[str] | None) -> None:
    if resource_type == TOPIC:
        return
    if resource_type != BROKER:
        raise PenstockError(
            ErrorCode.INVALID_REQUEST,
            f"resource type {resource_type} has no configuration here; topics (2) and brokers (4) have",
        )
    if brokers is not None and name not in brokers:
        known = ", ".join(sorted(brokers - {""}))
        raise PenstockError(
            ErrorCode.INVALID_REQUEST, f"there is no broker {name!r}; brokers are {known}, and '' means all"
        )


def _described_entry(
    entry: ConfigEntry, synonyms: bool, documentation: bool
) -> DescribeConfigsResourceResult:
    return DescribeConfigsResourceResult(
        name=entry.name,
        value=None if entry.sensitive else entry.value,
        read_only=entry.read_only,
        config_source=source_code(entry.source),
        is_sensitive=entry.sensitive,
        synonyms=[
            DescribeConfigsSynonym(
                name=name, value=None if entry.sensitive else value, source=source_code(source)
            )
            for name, value, source in entry.synonyms
        ]
        if synonyms
        else [],
        config_type=_TYPES.get(entry.type, _UNKNOWN_TYPE),
        documentation=entry.doc if documentation else None,
    )


def refuse_describe_configs(
    request: DescribeConfigsRequest, version: int, refusal: Refusal
) -> DescribeConfigsResponse:
    """The error for every resource."""
    return DescribeConfigsResponse(
        results=[
            DescribeConfigsResult(
                error_code=refusal.code,
                error_message=refusal.sentence,
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
            )
            for resource in request.resources
        ]
    )


async def incremental_alter_configs(
    call: Call, request: incremental.IncrementalAlterConfigsRequest
) -> incremental.IncrementalAlterConfigsResponse:
    """Changes single settings (KIP-339)."""
    twice = repeated((resource.resource_type, resource.resource_name) for resource in request.resources)
    responses = []
    for resource in request.resources:
        refusal = await _alter(
            call,
            resource.resource_type,
            resource.resource_name,
            twice,
            [(config.name, config.config_operation, config.value) for config in resource.configs],
            replace=False,
            validate_only=request.validate_only,
        )
        responses.append(
            incremental.AlterConfigsResourceResponse(
                error_code=refusal.code,
                error_message=refusal.sentence,
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
            )
        )
    return incremental.IncrementalAlterConfigsResponse(responses=responses)


async def alter_configs(call: Call, request: legacy.AlterConfigsRequest) -> legacy.AlterConfigsResponse:
    """Replaces all settings of a resource; what is not named goes back to its default."""
    twice = repeated((resource.resource_type, resource.resource_name) for resource in request.resources)
    responses = []
    for resource in request.resources:
        refusal = await _alter(
            call,
            resource.resource_type,
            resource.resource_name,
            twice,
            [(config.name, 0, config.value) for config in resource.configs],
            replace=True,
            validate_only=request.validate_only,
        )
        responses.append(
            legacy.AlterConfigsResourceResponse(
                error_code=refusal.code,
                error_message=refusal.sentence,
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
            )
        )
    return legacy.AlterConfigsResponse(responses=responses)


async def _alter(
    call: Call,
    resource_type: int,
    name: str,
    twice: set[tuple[int, str]],
    changes: Sequence[tuple[str, int, str | None]],
    *,
    replace: bool,
    validate_only: bool,
) -> Refusal:
    """Alters one resource and says how it went; code 0 is success."""
    try:
        operations = _operations(changes)
        if (resource_type, name) in twice:
            raise PenstockError(
                ErrorCode.INVALID_REQUEST, f"resource {name!r} is named more than once in this request"
            )
        if resource_type == TOPIC:
            await call.services.topics.alter_topic_config(
                call.context, name, operations, replace=replace, validate_only=validate_only
            )
        else:
            _check_resource(resource_type, name, await _broker_names(call))
            await call.services.topics.alter_broker_config(
                call.context, operations, replace=replace, validate_only=validate_only
            )
    except PenstockError as error:
        return Refusal(error.code, error.sentence)
    return Refusal(0, None)


def _operations(changes: Sequence[tuple[str, int, str | None]]) -> list[ConfigOperation]:
    again = repeated(name for name, _, _ in changes)
    if again:
        raise PenstockError(
            ErrorCode.INVALID_REQUEST, f"setting {min(again)!r} is changed more than once in this request"
        )
    operations = []
    for name, number, value in changes:
        if not 0 <= number < len(_OPERATIONS):
            raise PenstockError(
                ErrorCode.INVALID_REQUEST,
                f"operation {number} on setting {name!r} is unknown; 0 sets, 1 deletes, 2 appends, 3 subtracts",
            )
        if value is None and _OPERATIONS[number] != "delete":
            raise PenstockError(
                ErrorCode.INVALID_REQUEST,
                f"setting {name!r} has no value; give one, or use the delete operation to go back to the default",
            )
        operations.append(ConfigOperation(name, _OPERATIONS[number], value))
    return operations


def refuse_incremental_alter_configs(
    request: incremental.IncrementalAlterConfigsRequest, version: int, refusal: Refusal
) -> incremental.IncrementalAlterConfigsResponse:
    """The error for every resource."""
    return incremental.IncrementalAlterConfigsResponse(
        responses=[
            incremental.AlterConfigsResourceResponse(
                error_code=refusal.code,
                error_message=refusal.sentence,
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
            )
            for resource in request.resources
        ]
    )


def refuse_alter_configs(
    request: legacy.AlterConfigsRequest, version: int, refusal: Refusal
) -> legacy.AlterConfigsResponse:
    """The error for every resource."""
    return legacy.AlterConfigsResponse(
        responses=[
            legacy.AlterConfigsResourceResponse(
                error_code=refusal.code,
                error_message=refusal.sentence,
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
            )
            for resource in request.resources
        ]
    )
