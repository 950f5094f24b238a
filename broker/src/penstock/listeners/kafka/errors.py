"""The one place where errors become Kafka's wire codes.

`PenstockError` carries Kafka's own numbers already (see `model.errors`), so the table here holds only what differs:
codes that an older version of an API does not know and what they were called then, and the codes of this protocol
that no other door has. Everything that is neither a `PenstockError` nor a `CodecError` is a mistake of ours.
"""

from __future__ import annotations

from typing import NamedTuple

from penstock.model.errors import ErrorCode, PenstockError

# DescribeCluster was asked for controllers on a listener of brokers (KIP-919).
MISMATCHED_ENDPOINT_TYPE = 114

# (API key, code) -> (first version that knows the code, what it is answered as before)
OLDER_CODES: dict[tuple[int, int], tuple[int, ErrorCode]] = {
    (0, ErrorCode.KAFKA_STORAGE_ERROR): (4, ErrorCode.NOT_LEADER_OR_FOLLOWER),
    (1, ErrorCode.KAFKA_STORAGE_ERROR): (6, ErrorCode.NOT_LEADER_OR_FOLLOWER),
    (2, ErrorCode.OFFSET_NOT_AVAILABLE): (5, ErrorCode.LEADER_NOT_AVAILABLE),
    (9, ErrorCode.UNSTABLE_OFFSET_COMMIT): (7, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS),
    (11, ErrorCode.GROUP_MAX_SIZE_REACHED): (4, ErrorCode.COORDINATOR_NOT_AVAILABLE),
    (13, ErrorCode.FENCED_INSTANCE_ID): (3, ErrorCode.UNKNOWN_MEMBER_ID),
    (20, ErrorCode.TOPIC_DELETION_DISABLED): (3, ErrorCode.INVALID_REQUEST),
    (22, ErrorCode.PRODUCER_FENCED): (4, ErrorCode.INVALID_PRODUCER_EPOCH),
}


class PeerFaultError(Exception):
    """The connection cannot go on; the text is the log line's sentence and says what the peer did."""


class Refusal(NamedTuple):
    """A whole request's error: its wire code and the sentence for versions that carry one."""

    code: int
    sentence: str | None


def wire_code(api_key: int, version: int, code: int) -> int:
    """The number that this version of this API knows for an error."""
    if code == 0:
        return 0
    older = OLDER_CODES.get((api_key, code))
    if older is not None and version < older[0]:
        return int(older[1])
    return int(code)


def refusal_of(error: BaseException) -> Refusal:
    """What a request that ended in `error` is answered. Details of our own mistakes stay in our log."""
    if isinstance(error, PenstockError):
        return Refusal(int(error.code), error.sentence)
    return Refusal(
        int(ErrorCode.UNKNOWN_SERVER_ERROR), "the broker failed to serve this request; its log has the cause"
    )


def is_ours(error: BaseException) -> bool:
    """Whether an error is a mistake of the broker, to be logged with its traceback."""
    return not isinstance(error, PenstockError)
