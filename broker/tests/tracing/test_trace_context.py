"""W3C Trace Context (level 1), section by section; and that nothing else than a right header is ever a context."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from penstock.tracing.context import (
    TRACEPARENT_BYTES_MAX,
    TRACESTATE_BYTES_MAX,
    TraceContext,
    context_in,
    parse_traceparent,
    parse_tracestate,
    traceparent,
)

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
RIGHT = f"00-{TRACE}-{SPAN}-01".encode()
CONTEXT = TraceContext(int(TRACE, 16), int(SPAN, 16), True)


def test_a_right_header_is_read() -> None:
    assert parse_traceparent(RIGHT) == CONTEXT
    assert parse_traceparent(RIGHT[:-2] + b"00") == CONTEXT._replace(sampled=False)
    # Section 3.2.2.5: other flags say nothing.
    assert parse_traceparent(RIGHT[:-2] + b"fe") == CONTEXT._replace(sampled=False)
    assert parse_traceparent(RIGHT[:-2] + b"ff") == CONTEXT
    assert traceparent(CONTEXT.trace_id, CONTEXT.span_id).encode() == RIGHT


def test_a_version_to_come_may_go_on_and_version_0_may_not() -> None:
    assert parse_traceparent(b"01" + RIGHT[2:]) == CONTEXT
    assert parse_traceparent(b"cc" + RIGHT[2:] + b"-what the future will be like") == CONTEXT
    assert parse_traceparent(b"cc" + RIGHT[2:] + b".what") is None
    assert parse_traceparent(RIGHT + b"-what") is None
    assert parse_traceparent(RIGHT + b"-") is None


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        b"",
        b"00",
        RIGHT[:-1],
        RIGHT + b"0",
        RIGHT + b"\n",
        b" " + RIGHT,
        RIGHT.upper(),
        b"ff" + RIGHT[2:],
        RIGHT.replace(TRACE.encode(), b"0" * 32),
        RIGHT.replace(SPAN.encode(), b"0" * 16),
        RIGHT.replace(b"-", b"_"),
        RIGHT.replace(b"b7", b"g7"),
        RIGHT.replace(b"b7", "Ａ".encode()[:2]),
        b"0x" + RIGHT[2:],
        b"01" + RIGHT[2:] + b"-" + b"a" * TRACEPARENT_BYTES_MAX,
    ],
)
def test_anything_else_is_none(wrong: bytes | None) -> None:
    assert parse_traceparent(wrong) is None


@given(st.binary(max_size=80))
def test_hostile_bytes_are_no_error(data: bytes) -> None:
    assert parse_traceparent(data) is None
    parse_tracestate([data])
    context_in([("traceparent", RIGHT), ("tracestate", data)])


@given(st.integers(0, len(RIGHT) - 1), st.integers(0, 255))
def test_one_changed_byte_is_read_as_opentelemetry_reads_it(position: int, byte: int) -> None:
    changed = RIGHT[:position] + bytes([byte]) + RIGHT[position + 1 :]
    ours = parse_traceparent(changed)
    if not changed.isascii():
        assert ours is None
        return
    theirs = TraceContextTextMapPropagator().extract({"traceparent": changed.decode()})
    spans = [value.get_span_context() for value in theirs.values()]
    if ours is None:
        # Where they are more lenient than the text is (white space around it), so be it; they take nothing else.
        assert not spans or changed.decode().strip() != changed.decode()
    else:
        assert [(s.trace_id, s.span_id, bool(s.trace_flags & 1)) for s in spans] == [ours[:3]]


def test_tracestate_keeps_order_and_joins_headers() -> None:
    assert parse_tracestate([b"rojo=00f067aa0ba902b7 , ,congo=t61rcWkgMzE", b"1a@b=x y"]) == (
        ("rojo", "00f067aa0ba902b7"),
        ("congo", "t61rcWkgMzE"),
        ("1a@b", "x y"),
    )
    assert parse_tracestate([b""]) == ()


@pytest.mark.parametrize(
    "wrong",
    [
        b"a",
        b"a=",
        b"=b",
        b"A=b",
        b"a=b,a=c",
        b"a=b=c",
        b"1a=b",
        b"a=\xff",
        b"a=b\nc",
        b"a@b@c=d",
        b"a=" + b"x" * 257,
        b",".join(b"k%d=v" % number for number in range(33)),
        b"a=b" + b"," * TRACESTATE_BYTES_MAX,
    ],
)
def test_a_wrong_tracestate_is_left_out_and_the_parent_stays(wrong: bytes) -> None:
    assert parse_tracestate([wrong]) == ()
    assert context_in([("traceparent", RIGHT), ("tracestate", wrong)]) == CONTEXT


def test_the_context_among_headers() -> None:
    state = ("tracestate", b"a=b")
    assert context_in([("x", b"y"), state, ("traceparent", RIGHT)]) == CONTEXT._replace(state=(("a", "b"),))
    assert context_in([state]) is None
    assert context_in([("traceparent", RIGHT), ("traceparent", RIGHT)]) is None
    assert context_in([("Traceparent", RIGHT)]) is None
    assert context_in([("traceparent", None), state]) is None
