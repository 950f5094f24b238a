"""Spans of passes and of the calls that they make, through OpenTelemetry's SDK. Imported only where tracing is on.

Whether a pass is recorded is decided once, at its start: by the flag of its parent, or by a share of those without one. No
call has a span of its own outside a recorded pass: leader election and the watch on leaders are not traced.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags

from penstock_operator.kube_errors import KubeError
from penstock_operator.tracing import names
from penstock_operator.tracing.current import CURRENT, Outcome, Pass
from penstock_operator.tracing.traceparent import TraceParent
from penstock_operator.tracing.wakes import Wakes

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.util.types import AttributeValue

    from penstock_operator.reconcile.ports import Key

TEXT_MAX: Final = 1024  # characters of one attribute; sentences are shorter
ATTRIBUTES_MAX: Final = 32
EVENTS_MAX: Final = 128  # of one pass


class Spans:
    """Makes spans; `processor` takes those that ended."""

    def __init__(self, processor: SpanProcessor, resource: Resource, sampling: float) -> None:
        limits = SpanLimits(
            max_span_attributes=ATTRIBUTES_MAX,
            max_events=EVENTS_MAX,
            max_span_attribute_length=TEXT_MAX,
            max_event_attributes=ATTRIBUTES_MAX,
        )
        sampler = ParentBased(TraceIdRatioBased(sampling))
        provider = TracerProvider(sampler, resource, shutdown_on_exit=False, span_limits=limits)
        provider.add_span_processor(processor)
        self._tracer = provider.get_tracer(names.SERVICE)
        self.wakes = Wakes()

    @contextmanager
    def pass_over(self, key: Key) -> Iterator[Pass]:
        """The span of one pass; what happens meanwhile in this task and those that it starts belongs to it."""
        woken = self.wakes.take(key)
        attributes: dict[str, AttributeValue] = {
            names.KIND: key.kind,
            names.NAMESPACE: key.namespace,
            names.NAME: key.name,
            names.TRIGGERS: woken.triggers,
        }
        if woken.unnamed:
            attributes[names.TRIGGERS_UNNAMED] = woken.unnamed
        with self._tracer.start_as_current_span(
            f"reconcile {key.kind}",
            _context(woken.parent),
            attributes=attributes,
            record_exception=False,  # the pass says itself how it ended
            set_status_on_exception=False,
        ) as span:
            under_way = TracedPass(span)
            token = CURRENT.set(under_way)
            try:
                yield under_way
            finally:
                CURRENT.reset(token)
                if under_way.settled:
                    self.wakes.settled(key, woken.parent)

    @contextmanager
    def call(self, name: str, attributes: dict[str, AttributeValue]) -> Iterator[None]:
        """The span of one call, when a recorded pass makes it. An error is its status, and goes on."""
        if not trace.get_current_span().is_recording():
            yield
            return
        with self._tracer.start_as_current_span(
            name,
            kind=SpanKind.CLIENT,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException as error:
                fail(span, error)
                raise

    def begin(self, name: str, attributes: dict[str, AttributeValue]) -> trace.Span | None:
        """A call's span that somebody else ends; None outside a recorded pass."""
        if not trace.get_current_span().is_recording():
            return None
        return self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)


class TracedPass(Pass):
    """A pass with a span. See `Pass`."""

    def __init__(self, span: trace.Span) -> None:
        context = span.get_span_context()
        self._span = span
        self.settled = False
        self.trace_id = f"{context.trace_id:032x}"
        if context.trace_flags.sampled:
            self.traceparent = str(TraceParent(context.trace_id, context.span_id, True))
        span.set_attribute(names.OUTCOME, "Done")

    def looks_at(self, resource: dict[str, Any]) -> None:
        """See `Pass`."""
        generation = resource["metadata"].get("generation")
        if isinstance(generation, int):
            self._span.set_attribute(names.GENERATION, generation)

    def acts(self, what: str, why: str) -> None:
        """See `Pass`."""
        self._span.add_event(what, {names.WHY: why[:TEXT_MAX]})

    def is_refused(self, why: str) -> None:
        """See `Pass`."""
        self._span.add_event(names.REFUSED, {names.WHY: why[:TEXT_MAX]})

    def ends(self, outcome: Outcome, sentence: str, *, settled: bool = False) -> None:
        """See `Pass`. A problem waits for a person; that it was found is no error of the pass."""
        self.settled = settled
        self._span.set_attributes({names.OUTCOME: outcome, names.SENTENCE: sentence})

    def fails(self, error: BaseException) -> None:
        """See `Pass`."""
        self.settled = False
        self._span.set_attribute(names.OUTCOME, "Failed")
        fail(self._span, error)
        if isinstance(error, Exception) and not isinstance(error, KubeError | TimeoutError):
            self._span.record_exception(error)  # a mistake of ours: with its traceback


def fail(span: trace.Span, error: BaseException) -> None:
    """Say in the span's status what went wrong."""
    kind = error.reason if isinstance(error, KubeError) else type(error).__name__
    span.set_attribute(names.ERROR, kind)
    span.set_status(StatusCode.ERROR, (str(error) or type(error).__name__)[:TEXT_MAX])


def _context(parent: TraceParent | None) -> Context:
    """Where a pass begins: below its parent, or nowhere."""
    if parent is None:
        return Context()
    flags = TraceFlags(TraceFlags.SAMPLED if parent.sampled else TraceFlags.DEFAULT)
    context = SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(NonRecordingSpan(context), Context())
