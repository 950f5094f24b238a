"""One Kafka connection as a plain state machine: bytes in, requests out, responses in order, no socket.

Problem: a peer may send anything, at any speed, and read its answers or not. Idea: the machine keeps what arrived,
hands out one complete request at a time when it may be started, and gives back responses in the order of their
requests, whatever order they finish in. What the driver must do about it is a value it reads: `wants_read`, `fault`,
`finished`. Requests are cut from what was read as views; record bytes are copied only when a request spans reads.

Which requests run at once: Kafka's broker runs one request of a connection at a time. Produce requests may overlap
here, because producers pipeline them and each is ordered by the log; every other request waits until those before it
are answered and holds back those behind it, so a client sees its own earlier effects. This also means that a
connection has at most one fetch response waiting for a slow reader.

Leaves to others: decoding (codec), what the requests mean (handlers), memory over all connections (`request_memory`).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec

Buffer = bytes | bytearray | memoryview

LENGTH_SIZE = 4
# Request header v0 is API key, version and correlation id: nothing shorter is a request.
REQUEST_BYTES_MIN = 8
# A leftover this many times smaller than the read it is a view of is copied, so that it does not pin the read.
COMPACT_RATIO = 4

PRODUCE_KEY = 0

_length = struct.Struct(">i").unpack_from
_api_key = struct.Struct(">h").unpack_from

_HTTP_STARTS = (b"GET ", b"POST", b"PUT ", b"HEAD", b"DELE", b"OPTI", b"PATC", b"CONN")
_TLS_HANDSHAKE = b"\x16\x03"


class ConnectionLimits(msgspec.Struct, frozen=True):
    """What one connection may hold. `request_bytes_max` is Kafka's `socket.request.max.bytes`."""

    request_bytes_max: int = 100 * 1024 * 1024
    inflight_requests_max: int = 128


class Slot:
    """The place of one request's response in its connection's order.

    `held_bytes` is what the request keeps in memory until it is answered: a produce request's whole frame, nothing
    for others, whose handlers copy what they need when they start.
    """

    __slots__ = ("buffers", "done", "held_bytes")

    def __init__(self, held_bytes: int) -> None:
        self.held_bytes = held_bytes
        self.buffers: Sequence[Buffer] = ()
        self.done = False


class KafkaConnection:
    """States: open; `eof` (the peer sends no more, what it sent is still answered); `fault` (close, and say why).

    Call `next_request` until it gives None, then obey `wants_read` and `fault`. For each request call `begin` before
    its handler runs and `complete` when its response is known.
    """

    __slots__ = (
        "_chunk",
        "_limits",
        "_needed",
        "_partial",
        "_position",
        "_slots",
        "_solo",
        "blocked",
        "eof",
        "fault",
        "unstarted_bytes",
        "write_paused",
    )

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        # A request that spans reads grows in `_partial` as its bytes come; `_needed` is its full size, 0 before the
        # length is known. What is behind it waits in `_chunk` from `_position` on.
        self._partial: bytearray | None = None
        self._needed = 0
        self._chunk: bytes = b""
        self._position = 0
        self._slots: list[Slot] = []
        self._solo = False
        self.blocked = False
        self.eof = False
        self.fault: str | None = None
        self.write_paused = False
        self.unstarted_bytes = 0

    # --- input -----------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Takes what was read from the socket. Never more is kept than was received."""
        self.unstarted_bytes += len(data)
        if self._chunk:
            data = self._chunk[self._position :] + data
        self._chunk = data
        self._position = 0

    def receive_eof(self) -> None:
        """The peer sends no more; complete requests are still answered, an incomplete one is forgotten."""
        self.eof = True

    def drain(self) -> None:
        """Starts nothing more: what arrived and was not started is forgotten, what was started is answered."""
        self.eof = True
        self._partial = None
        self._chunk = b""
        self._position = 0

    def forget(self) -> int:
        """Lets go of everything that was not started, because the connection is closed. Returns its bytes."""
        count = self.unstarted_bytes
        self.drain()
        self.unstarted_bytes = 0
        return count

    def next_request(self) -> memoryview | None:
        """The next request (without its length) if one is complete and may start now.

        None leaves `blocked` true when a complete request must wait (for the requests before it, for the peer to
        read its answers, for room among the requests in flight), false when more bytes are needed.
        """
        self.blocked = False
        frame = self._peek() if self._chunk or self._partial is not None else None
        if frame is None:
            if self.write_paused or len(self._slots) >= self._limits.inflight_requests_max:
                self.blocked = True
            return None
        if not self._may_start(_api_key(frame)[0]):
            self.blocked = True
            self._compact()
            return None
        if self._partial is not None:
            self._partial = None
            self._needed = 0
        else:
            self._position += LENGTH_SIZE + len(frame)
            if self._position == len(self._chunk):
                self._chunk = b""
                self._position = 0
        return frame

    @property
    def wants_read(self) -> bool:
        """Whether the driver should read on. Bytes that cannot be worked on are left to the kernel's window."""
        return not (self.blocked or self.eof or self.fault)

    @property
    def missing_bytes(self) -> int:
        """How many bytes the request that is coming in still lacks; 0 when none is."""
        if self._partial is None or self._needed == 0:
            return 0
        return self._needed - len(self._partial)

    @property
    def is_mid_request(self) -> bool:
        """Whether a request has begun to arrive and is not complete."""
        return self._partial is not None and (self._needed == 0 or len(self._partial) < self._needed)

    @property
    def finished(self) -> bool:
        """Whether the peer has ended and everything it asked is answered."""
        return self.eof and not self._slots and not self.blocked

    # --- output ----------------------------------------------------------------------------------

    def begin(self, frame: memoryview) -> Slot:
        """Reserves the place of the response to `frame`, which `next_request` gave.

        A request that is never begun (it could not be read) stays among the unstarted bytes until `forget`.
        """
        count = len(frame) + LENGTH_SIZE
        self.unstarted_bytes -= count
        if _api_key(frame)[0] == PRODUCE_KEY:
            slot = Slot(count)
        else:
            slot = Slot(0)
            self._solo = True
        self._slots.append(slot)
        return slot

    def complete(self, slot: Slot, buffers: Sequence[Buffer]) -> Sequence[Buffer]:
        """Files a response (empty: the request gets none) and returns what may be written now, in order."""
        slots = self._slots
        if slots[0] is not slot:
            slot.buffers = buffers
            slot.done = True
            return ()
        self._solo = False
        del slots[0]
        if not slots or not slots[0].done:
            return buffers
        ready = list(buffers)
        while slots and slots[0].done:
            ready.extend(slots[0].buffers)
            del slots[0]
        return ready

    @property
    def inflight(self) -> int:
        """Requests that were started and whose response was not yet handed out."""
        return len(self._slots)

    # --- inside ----------------------------------------------------------------------------------

    def _may_start(self, key: int) -> bool:
        slots = self._slots
        if self.write_paused or self._solo or len(slots) >= self._limits.inflight_requests_max:
            return False
        return key == PRODUCE_KEY or not slots

    def _peek(self) -> memoryview | None:
        """The first complete frame, left where it is; moves an incomplete one into `_partial`."""
        if self.fault is not None:
            return None
        if self._partial is not None:
            return self._fill_partial(self._partial)
        chunk = self._chunk
        start = self._position + LENGTH_SIZE
        available = len(chunk) - start
        if available < 0:
            if start - LENGTH_SIZE < len(chunk):
                self._keep_partial(0)
            return None
        length: int = _length(chunk, self._position)[0]
        if not self._accepts(length, chunk[self._position : start]):
            return None
        if available >= length:
            return memoryview(chunk)[start : start + length]
        self._keep_partial(LENGTH_SIZE + length)
        return None

    def _keep_partial(self, needed: int) -> None:
        self._partial = bytearray(memoryview(self._chunk)[self._position :])
        self._needed = needed
        self._chunk = b""
        self._position = 0

    def _fill_partial(self, partial: bytearray) -> memoryview | None:
        """Moves bytes from the chunk until the partial request is complete."""
        if self._needed == 0:
            self._take(partial, LENGTH_SIZE)
            if len(partial) < LENGTH_SIZE:
                return None
            length: int = _length(partial, 0)[0]
            if not self._accepts(length, bytes(partial)):
                return None
            self._needed = LENGTH_SIZE + length
        self._take(partial, self._needed)
        if len(partial) < self._needed:
            return None
        return memoryview(partial)[LENGTH_SIZE:]

    def _take(self, partial: bytearray, needed: int) -> None:
        count = min(needed - len(partial), len(self._chunk) - self._position)
        if count <= 0:
            return
        partial += memoryview(self._chunk)[self._position : self._position + count]
        self._position += count
        if self._position == len(self._chunk):
            self._chunk = b""
            self._position = 0

    def _compact(self) -> None:
        left = len(self._chunk) - self._position
        if self._position and left * COMPACT_RATIO < len(self._chunk):
            self._chunk = self._chunk[self._position :]
            self._position = 0

    def _accepts(self, length: int, start: bytes) -> bool:
        if REQUEST_BYTES_MIN <= length <= self._limits.request_bytes_max:
            return True
        self.fault = _length_fault(length, start, self._limits.request_bytes_max)
        return False


def _length_fault(length: int, start: bytes, request_bytes_max: int) -> str:
    if start.startswith(_TLS_HANDSHAKE):
        return (
            "the peer began a TLS handshake, but this listener speaks plain Kafka; "
            "set the client's security.protocol to PLAINTEXT"
        )
    if start in _HTTP_STARTS:
        return "the peer speaks HTTP, but this is a Kafka listener; use the port of the data or admin API"
    if length > request_bytes_max:
        return (
            f"the peer announced a request of {length} bytes, more than socket.request.max.bytes "
            f"({request_bytes_max}); send smaller batches or raise that setting"
        )
    return f"the peer announced a request of {length} bytes, which no Kafka request has; it speaks another protocol"
