"""Whether a batch is followed, decided before any span of it exists.

In this order: a rule that names its first message; the sampled flag that its producer's context carries; a ratio, by the
trace id that is derived from where the batch stands, so that every broker decides alike. The ratio is judged by the trace
id's lowest 64 bits, as OpenTelemetry's `TraceIdRatioBased` does it.
"""

from __future__ import annotations

from typing import NamedTuple

from penstock.tracing.context import State, TraceContext
from penstock.tracing.derived import derived_trace_id

_LOW_BITS = (1 << 64) - 1
BOUND_ALL = 1 << 64


class Sampled(NamedTuple):
    """The trace that a batch belongs to. `parent_id` is the producer's span, 0 where it sent no context."""

    trace_id: int
    parent_id: int = 0
    state: State = ()


def ratio_bound(ratio: float) -> int:
    """What the lowest 64 bits of a trace id must be below. `ratio` is from 0 to 1."""
    return round(ratio * BOUND_ALL)


def picked(trace_id: int, bound: int) -> bool:
    """Whether the ratio behind `bound` picks a trace."""
    return trace_id & _LOW_BITS < bound


def decide(
    context: TraceContext | None, seed: int, base_offset: int, bound: int, always: bool = False
) -> Sampled | None:
    """None: not followed. `seed` is the partition's; `always`: a rule names the batch's first message."""
    if context is not None:
        if context.sampled or always:
            return Sampled(context.trace_id, context.span_id, context.state)
        return None
    if not bound and not always:
        return None
    trace_id = derived_trace_id(seed, base_offset)
    return Sampled(trace_id) if picked(trace_id, bound) or always else None
