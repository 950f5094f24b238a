"""The one error of the codec, and the sentences it is raised with.

Generated code checks bounds in line and calls a function of this module only when a check has failed, so that the hot path carries no
message text. What a peer is told (which Kafka error code, or a closed connection) is the listener's business.
"""


class CodecError(ValueError):
    """Bytes that are no valid message, or a value that has no encoding. The text says which field, where, and what is wrong."""


def cut_short(where: str, position: int, needed: int, limit: int) -> CodecError:
    """The buffer ends at `limit`, before the `needed` bytes of `where` that begin at `position`."""
    return CodecError(
        f"{where}: {needed} bytes are needed at byte {position}, but only {max(0, limit - position)} are left"
    )


def bad_length(where: str, position: int, length: int, limit: int) -> CodecError:
    """A length prefix that is negative, or larger than what is left for this field and the ones behind it."""
    if length < 0:
        return CodecError(
            f"{where}: the length before byte {position} is {length} (null), and this field may not be null"
        )
    left = max(0, limit - position)
    return CodecError(
        f"{where}: the length before byte {position} is {length} bytes, but {left} are left for it and the fields behind it"
    )


def bad_count(
    where: str, position: int, count: int, element_bytes: int, limit: int, budget: int
) -> CodecError:
    """An array count that is negative, that the remaining bytes cannot hold, or that exceeds the element budget of a message."""
    if count < 0:
        return CodecError(
            f"{where}: the count before byte {position} is {count} (null), and this array may not be null"
        )
    if count > budget:
        return CodecError(
            f"{where}: the count before byte {position} is {count}, more than the {budget} array elements this message may still hold"
        )
    left = max(0, limit - position)
    return CodecError(
        f"{where}: the count before byte {position} is {count} elements of {element_bytes} bytes or more, but {left} bytes are left"
    )


def not_text(where: str, position: int, cause: UnicodeDecodeError) -> CodecError:
    """A string field whose bytes are not UTF-8."""
    return CodecError(
        f"{where}: the string at byte {position} is not UTF-8 ({cause.reason} at its byte {cause.start})"
    )


def wrong_tag_size(where: str, position: int, tag_end: int) -> CodecError:
    """A tagged field whose value does not fill exactly the size it was announced with."""
    return CodecError(
        f"{where}: the tagged field was announced to end at byte {tag_end}, but its value ends at byte {position}"
    )


def trailing_bytes(where: str, position: int, limit: int) -> CodecError:
    """A message that ended before its frame did."""
    return CodecError(f"{where} ends at byte {position}, but its frame goes on to byte {limit}")


def unencodable(where: str, cause: Exception) -> CodecError:
    """A message that its version has no encoding for: a number out of range, or null where the version allows none."""
    return CodecError(
        f"{where} cannot be encoded: {cause}. A field holds null where this version allows none, or a value out of its range"
    )
