"""Errors as problem documents (RFC 9457), from one table of error codes to HTTP statuses.

Every answer that is not a success has a body {type, title, status, detail, code}. `detail` is a sentence for the
person who reads it, `code` the stable name that programs decide on: Kafka's name of the error, because every door of
the house maps from the same table. What goes wrong in HTTP itself (no such page, wrong media type) is
INVALID_REQUEST with its own status.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import web

from penstock.listeners.http.limits import RETRY_AFTER_SECONDS
from penstock.model.errors import ErrorCode, PenstockError

if TYPE_CHECKING:
    from collections.abc import Mapping

PROBLEM_MEDIA_TYPE: Final = "application/problem+json"

HTTP_STATUS: Final[Mapping[ErrorCode, int]] = {
    ErrorCode.UNKNOWN_SERVER_ERROR: 500,
    ErrorCode.OFFSET_OUT_OF_RANGE: 416,
    ErrorCode.CORRUPT_MESSAGE: 400,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: 404,
    ErrorCode.INVALID_FETCH_SIZE: 400,
    ErrorCode.LEADER_NOT_AVAILABLE: 503,
    ErrorCode.NOT_LEADER_OR_FOLLOWER: 503,
    ErrorCode.REQUEST_TIMED_OUT: 504,
    ErrorCode.MESSAGE_TOO_LARGE: 413,
    ErrorCode.OFFSET_METADATA_TOO_LARGE: 400,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS: 503,
    ErrorCode.COORDINATOR_NOT_AVAILABLE: 503,
    ErrorCode.NOT_COORDINATOR: 503,
    ErrorCode.INVALID_TOPIC_EXCEPTION: 400,
    ErrorCode.RECORD_LIST_TOO_LARGE: 413,
    ErrorCode.NOT_ENOUGH_REPLICAS: 503,
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND: 503,
    ErrorCode.INVALID_REQUIRED_ACKS: 400,
    ErrorCode.ILLEGAL_GENERATION: 409,
    ErrorCode.INCONSISTENT_GROUP_PROTOCOL: 409,
    ErrorCode.INVALID_GROUP_ID: 400,
    ErrorCode.UNKNOWN_MEMBER_ID: 404,
    ErrorCode.INVALID_SESSION_TIMEOUT: 400,
    ErrorCode.REBALANCE_IN_PROGRESS: 409,
    ErrorCode.INVALID_COMMIT_OFFSET_SIZE: 400,
    ErrorCode.TOPIC_AUTHORIZATION_FAILED: 403,
    ErrorCode.GROUP_AUTHORIZATION_FAILED: 403,
    ErrorCode.CLUSTER_AUTHORIZATION_FAILED: 403,
    ErrorCode.INVALID_TIMESTAMP: 400,
    ErrorCode.UNSUPPORTED_VERSION: 400,
    ErrorCode.TOPIC_ALREADY_EXISTS: 409,
    ErrorCode.INVALID_PARTITIONS: 400,
    ErrorCode.INVALID_REPLICATION_FACTOR: 400,
    ErrorCode.INVALID_REPLICA_ASSIGNMENT: 400,
    ErrorCode.INVALID_CONFIG: 400,
    ErrorCode.NOT_CONTROLLER: 503,
    ErrorCode.INVALID_REQUEST: 400,
    ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT: 400,
    ErrorCode.POLICY_VIOLATION: 403,
    ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER: 409,
    ErrorCode.DUPLICATE_SEQUENCE_NUMBER: 409,
    ErrorCode.INVALID_PRODUCER_EPOCH: 409,
    ErrorCode.INVALID_TXN_STATE: 409,
    ErrorCode.INVALID_PRODUCER_ID_MAPPING: 409,
    ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: 403,
    ErrorCode.KAFKA_STORAGE_ERROR: 503,
    ErrorCode.UNKNOWN_PRODUCER_ID: 409,
    ErrorCode.NON_EMPTY_GROUP: 409,
    ErrorCode.GROUP_ID_NOT_FOUND: 404,
    ErrorCode.FETCH_SESSION_ID_NOT_FOUND: 404,
    ErrorCode.INVALID_FETCH_SESSION_EPOCH: 409,
    ErrorCode.TOPIC_DELETION_DISABLED: 403,
    ErrorCode.FENCED_LEADER_EPOCH: 409,
    ErrorCode.UNKNOWN_LEADER_EPOCH: 503,
    ErrorCode.UNSUPPORTED_COMPRESSION_TYPE: 400,
    ErrorCode.OFFSET_NOT_AVAILABLE: 503,
    ErrorCode.MEMBER_ID_REQUIRED: 400,
    ErrorCode.GROUP_MAX_SIZE_REACHED: 409,
    ErrorCode.FENCED_INSTANCE_ID: 409,
    ErrorCode.INVALID_RECORD: 400,
    ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC: 409,
    ErrorCode.UNSTABLE_OFFSET_COMMIT: 503,
    ErrorCode.THROTTLING_QUOTA_EXCEEDED: 429,
    ErrorCode.PRODUCER_FENCED: 409,
    ErrorCode.UNKNOWN_TOPIC_ID: 404,
    ErrorCode.INVALID_RECORD_STATE: 409,
}
"""The one table. A test holds that every code but NONE is in it."""

_RETRY_STATUSES = frozenset({429, 503})


class Problem(msgspec.Struct, omit_defaults=True):
    """A problem document. `type` is always `about:blank`: programs decide on `code`, people read `detail`."""

    title: str
    status: int
    detail: str
    code: str
    # Without a default, so that it is always written.
    type: str


class RefusalError(PenstockError):
    """A request that is refused with a status of its own, or with more to say than the table knows.

    `members` are extension members of the problem document; `headers` are added to the answer.
    """

    def __init__(
        self,
        code: ErrorCode,
        sentence: str,
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(code, sentence)
        self.status = HTTP_STATUS[code] if status is None else status
        self.headers = dict(headers or {})
        self.members = dict(members or {})


def invalid(sentence: str, status: int = 400) -> RefusalError:
    """A request that is wrong in itself."""
    return RefusalError(ErrorCode.INVALID_REQUEST, sentence, status=status)


def refuse_error(error: ErrorCode, message: str | None, otherwise: str) -> None:
    """Raises what a service reported about one item, in its own words or in `otherwise`; nothing for NONE."""
    if error is not ErrorCode.NONE:
        raise PenstockError(error, message or otherwise)


def problem_response(error: PenstockError) -> web.Response:
    """The answer to a request that cannot be served."""
    status = HTTP_STATUS.get(error.code, 500)
    headers: dict[str, str] = {}
    members: dict[str, Any] = {}
    if isinstance(error, RefusalError):
        status, headers, members = error.status, error.headers, error.members
    if status in _RETRY_STATUSES:
        headers.setdefault("Retry-After", str(RETRY_AFTER_SECONDS))
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": error.sentence,
        "code": error.code.name,
        **members,
    }
    return web.Response(
        body=msgspec.json.encode(document), status=status, content_type=PROBLEM_MEDIA_TYPE, headers=headers
    )
