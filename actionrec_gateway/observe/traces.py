"""Traces of OpenTelemetry, where they are asked for; elsewhere its SDK is not loaded.

POST /predictions/{model}        the request, below the sender's span where its headers name one
  engine                         from the first byte to the engine until its reply comes
    queue                        what the reply's own times leave of that
    decode, transform, inference as the reply says; in truth they overlap where a request has several views
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from starlette.types import Scope

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

_ASKED = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_SERVICE = "actionrec-gateway"
_NANOSECONDS = 1_000_000

_provider: TracerProvider | None = None
_tracer: Tracer | None = None


def asked_for(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment names where traces go, as OpenTelemetry's own variables have it."""
    disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return not disabled and any(environment.get(name) for name in _ASKED)


def start() -> None:
    """Send traces to where the environment says.

    Raises:
        ModuleNotFoundError: OpenTelemetry is not installed.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    global _provider, _tracer
    resource = Resource.create({SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME", _SERVICE)})
    _provider = TracerProvider(resource=resource)
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = _provider.get_tracer(_SERVICE)


def stop() -> None:
    """Send what is left."""
    global _provider, _tracer
    if _provider is not None:
        _provider.shutdown()
    _provider = _tracer = None


class Trace:
    """One request's span.

    Args:
        span: OpenTelemetry's; None: nobody asked for traces.
    """

    def __init__(self, span: Span | None = None, method: str = "") -> None:
        self._span, self._method = span, method

    def names(self) -> dict[str, str]:
        """The ids that a log line gets."""
        if self._span is None:
            return {}
        context = self._span.get_span_context()
        return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}

    def end(self, route: str, status: int, model: str) -> None:
        """Note how the request ended."""
        if self._span is None:
            return
        self._span.update_name(f"{self._method} {route}")
        self._span.set_attributes({"http.route": route, "http.response.status_code": status})
        if model:
            self._span.set_attribute("actionrec.model", model)
        if status >= 500 or not status:
            from opentelemetry.trace import StatusCode

            self._span.set_status(StatusCode.ERROR)


@contextmanager
def request(scope: Scope) -> Iterator[Trace]:
    """The span of a request, below the one that its headers name."""
    if _tracer is None:
        yield Trace()
        return
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    above = TraceContextTextMapPropagator().extract(headers)
    attributes = {
        "http.request.method": scope["method"],
        "actionrec.request_id": scope["state"]["request_id"],
    }
    with _tracer.start_as_current_span(
        scope["method"], above, kind=SpanKind.SERVER, attributes=attributes
    ) as span:
        yield Trace(span, scope["method"])


class Asked:
    """The span of one question to the engine."""

    def __init__(self) -> None:
        self._span: Span | None = None
        self._sent = self._answered = 0
        if _tracer is not None:
            from opentelemetry.trace import SpanKind

            self._span = _tracer.start_span("engine", kind=SpanKind.CLIENT)

    def headers(self) -> dict[str, str]:
        """The headers that tell the engine of it."""
        if self._span is None:
            return {}
        from opentelemetry.trace import set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier, set_span_in_context(self._span))
        return carrier

    def sent(self) -> None:
        """The whole body is on its way."""
        self._sent = time.time_ns()

    def answered(self) -> None:
        """The reply begins, or there is none."""
        self._answered = time.time_ns()
        self._sent = self._sent or self._answered
        if self._span is not None:
            self._span.end(self._answered)

    def timings(self, timings_ms: Mapping[str, float]) -> None:
        """Show the steps in the engine, one after the other up to the reply.

        Args:
            timings_ms: step -> milliseconds.
        """
        if self._span is None or _tracer is None:
            return
        from opentelemetry.trace import set_span_in_context

        below = set_span_in_context(self._span)
        nanoseconds = {step: round(value * _NANOSECONDS) for step, value in timings_ms.items()}
        begin = max(self._sent, self._answered - sum(nanoseconds.values()))
        _tracer.start_span("queue", below, start_time=self._sent).end(begin)
        for step, length in nanoseconds.items():
            _tracer.start_span(step, below, start_time=begin).end(begin + length)
            begin += length
