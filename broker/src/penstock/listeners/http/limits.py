"""Every bound of the HTTP listeners, in one place, so that none is hidden in a handler.

Reaching one of them is an ordinary answer (413, 429, 503) with a sentence, never a failure. Sizes are bytes, times
are seconds unless the name says otherwise.
"""

from __future__ import annotations

from typing import Final

# --- both APIs --------------------------------------------------------------------------------------

CONNECTIONS_MAX: Final = 4096
"""Open connections of one HTTP listener; the next one is answered 503 and closed."""

REQUESTS_IN_FLIGHT_MAX: Final = 1024
"""Requests of one listener that are being served, long polls included; beyond it 429."""

BODY_BYTES_IN_FLIGHT_MAX: Final = 32 * 1024 * 1024
"""Bytes of all request bodies that one listener holds at a time; beyond it 429."""

BODY_READ_TIMEOUT_SECONDS: Final = 30.0
"""How long a client may take to send a request's body; then 408."""

KEEPALIVE_SECONDS: Final = 75.0
"""How long an idle connection is kept between two requests."""

HEADER_BYTES_MAX: Final = 8190
"""Longest request line and longest header field; beyond it 400."""

SHUTDOWN_SECONDS: Final = 10.0
"""How long a stopping listener waits for the requests that it is serving."""

CLIENT_ID_LENGTH_MAX: Final = 100
"""Characters of the User-Agent that are kept as the client's id."""

RETRY_AFTER_SECONDS: Final = 1
"""What `Retry-After` says when the same request may succeed later."""

# --- requests that are passed on to the leader ------------------------------------------------------

LEADER_CONNECTIONS_MAX: Final = REQUESTS_IN_FLIGHT_MAX
"""Connections of one listener to leaders: as many as requests, so that long polls do not keep others waiting."""

LEADER_CONNECT_SECONDS: Final = 2.0
"""How long connecting to the leader may take; then 503."""

LEADER_ANSWER_SECONDS: Final = 45.0
"""How long the leader may take to answer, and be silent within an answer: longer than any request makes it wait; then
504."""

REPLACED_LEADER_SECONDS: Final = 1.0
"""How long a leader that another one has replaced may still take to answer: it hangs, or is only finishing."""

LEADER_KEEPALIVE_SECONDS: Final = 30.0
"""How long an idle connection to the leader is kept: less than KEEPALIVE_SECONDS, so that the leader never closes one that
is just being used again."""

RELAY_BUFFER_BYTES: Final = 64 * 1024
"""About half of what is held of one answer between the leader and a client that reads slowly."""

RELAY_WRITE_SECONDS: Final = 30.0
"""How long a client may take nothing of an answer that is relayed to it; then its connection is closed."""

# --- admin API --------------------------------------------------------------------------------------

ADMIN_BODY_BYTES_MAX: Final = 1024 * 1024
"""Longest body of an admin request."""

PREVIEW_BYTES_DEFAULT: Final = 1024
PREVIEW_BYTES_MAX: Final = 64 * 1024
"""Bytes of a message's key, and of its value, that are shown."""

HEADERS_SHOWN_MAX: Final = 100
HEADER_PREVIEW_BYTES_MAX: Final = 1024
"""Headers of one message that are shown, and bytes of each one's value (characters of its name)."""

GROUPS_SHOWN_MAX: Final = 1000
"""Groups that are shown with one message."""

FIND_MESSAGES_DEFAULT: Final = 10
FIND_MESSAGES_MAX: Final = 100
"""Messages in one answer to a search."""

# --- data API ---------------------------------------------------------------------------------------

DATA_BODY_BYTES_MAX: Final = 4 * 1024 * 1024
"""Longest body of a produce request."""

MESSAGES_PER_REQUEST_MAX: Final = 5000
"""Messages in one produce request."""

HEADERS_PER_MESSAGE_MAX: Final = 1000
"""Headers of one message."""

BATCH_MESSAGES_MAX: Final = 1000
"""Messages that the HTTP batcher puts into one record batch."""

BATCH_BYTES_MAX: Final = 512 * 1024
"""Bytes of keys, values and headers in one record batch; a single larger message is a batch of its own."""

MESSAGES_PENDING_MAX: Final = 100_000
"""Messages that wait for their acknowledgement in one listener; beyond it 429."""

PRODUCE_TIMEOUT_MS: Final = 30_000
"""How long a produce request waits for its acknowledgement."""

PARTITION_COUNTS_MAX: Final = 10_000
"""Topics whose partition count is remembered."""

PARTITION_COUNT_SECONDS: Final = 1.0
"""How long a partition count is believed."""

METADATA_ATTEMPTS_MAX: Final = 20
METADATA_RETRY_SECONDS: Final = 0.05
"""How often, and at what distance, a topic that is just being made is asked for."""

FETCH_MESSAGES_DEFAULT: Final = 100
FETCH_MESSAGES_MAX: Final = 1000
"""Messages in one answer."""

FETCH_BYTES_DEFAULT: Final = 1024 * 1024
FETCH_BYTES_MAX: Final = 8 * 1024 * 1024
"""Bytes that are read from the log for one answer (a first batch that is larger comes whole)."""

FETCH_WAIT_MS_MAX: Final = 30_000
"""Longest long poll."""

BROWSE_PARTITIONS_MAX: Final = 500
"""Partitions of a topic that can be read merged; the cursor must fit into a request line."""

BROWSE_PARTITION_BYTES_MIN: Final = 16 * 1024
"""Least that is read of each partition for one merged answer."""

DECODE_INLINE_RECORDS_MAX: Final = 2000
"""Records that are decoded on the event loop; a larger answer is decoded in a thread."""

ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes of keys and values in one answer, after decompression (a first message that is larger comes whole)."""

# --- queue groups -----------------------------------------------------------------------------------

LEASE_MESSAGES_MAX: Final = 1000
"""Messages that one request leases."""

LEASE_WAIT_MS_MAX: Final = 30_000
"""Longest wait of a lease for messages: shorter than LEADER_ANSWER_SECONDS."""

RECEIPTS_MAX: Final = 1000
"""Receipts in one request."""

RECEIPT_LENGTH_MAX: Final = 200
"""Characters of what a client may send as a receipt."""

MEMBER_LENGTH_MAX: Final = 100
"""Characters of a member's name."""
