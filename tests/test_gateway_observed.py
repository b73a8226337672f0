"""Promise: what the gateway does is seen from outside: in a log of JSON, in metrics and in traces."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from actionrec_gateway.observe import traces
from motion.clips import random_clip
from testing.media import encode
from tests import helpers_http
from tests.conftest import PROJECT, RunningServer
from tests.helpers_gateway import RunningGateway, running
from tests.hostile_files import frames
from tests.test_gateway_through import AsTorchServe

pytest_plugins = ("tests.fixtures_gateway",)

CLIP = random_clip(11, "moving left").data
PATH = "/predictions/motion"
STEPS = {"decode", "transform", "inference"}


def measured(gateway: RunningGateway) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Name and labels -> value, of all metrics."""
    reply = gateway.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


@pytest.mark.server
def test_a_line_for_each_request(gateway: RunningGateway) -> None:
    """It has the id, the model, the status, the bytes and the times of each step."""
    reply = gateway.post(f"{PATH}?top_k=2", CLIP, headers={"X-Request-ID": "a-line"})
    line = gateway.line_of("a-line")
    assert (line["method"], line["path"], line["model"], line["status"]) == ("POST", PATH, "motion", 200)
    assert line["bytes_in"] == len(CLIP)
    assert line["bytes_out"] == len(reply.content)
    assert {step: line[f"{step}_ms"] for step in STEPS} == reply.json()["timings_ms"]
    assert line["seconds"] > 0
    assert re.fullmatch("[0-9a-f-]{36}", line["engine_id"])  # TorchServe's own, for its logs
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", line["time"])


@pytest.mark.server
def test_refusals_and_looks(gateway: RunningGateway) -> None:
    """A refusal's line has its code; what machines ask every few seconds is not logged while all is well."""
    refused = gateway.post(PATH, b"", headers={"X-Request-ID": "a-refusal"})
    assert refused.status_code == 400
    assert gateway.line_of("a-refusal")["code"] == "EMPTY_BODY"
    missing = gateway.get("/nowhere", headers={"X-Request-ID": "nowhere\u0041"})
    assert gateway.line_of(missing.headers["x-request-id"])["status"] == 404
    looks = [gateway.get(path).headers["x-request-id"] for path in ("/health", "/ready", "/metrics")]
    gateway.line_of(gateway.get("/nowhere").headers["x-request-id"])  # what came before it is written
    assert not [line for line in gateway.lines() if line.get("request_id") in looks]


@pytest.mark.server
def test_metrics(gateway: RunningGateway) -> None:
    """Requests, their times and the times of each step are counted; what waits is a gauge for each model."""
    before = measured(gateway)
    for _ in range(2):
        assert gateway.post(PATH, CLIP).status_code == 200
    assert gateway.post(PATH, b"").status_code == 400
    after = measured(gateway)

    def grown(name: str, **labels: str) -> float:
        key = (name, frozenset(labels.items()))
        return after[key] - before.get(key, 0.0)

    route = "/predictions/{model}"
    assert grown("actionrec_request_seconds_count", route=route, status="200") == 2
    assert grown("actionrec_request_seconds_count", route=route, status="400") == 1
    assert grown("actionrec_errors_total", route=route, code="EMPTY_BODY") == 1
    for step in STEPS:
        assert grown("actionrec_stage_seconds_count", stage=step) == 2
        assert (
            0
            < grown("actionrec_stage_seconds_sum", stage=step)
            < grown("actionrec_request_seconds_sum", route=route, status="200")
        )
    assert after["actionrec_requests_in_flight", frozenset()] == 0
    assert after["actionrec_requests_waiting", frozenset({("model", "motion")})] == 0


@pytest.mark.server
def test_what_waits_and_what_is_in_flight(gateway: RunningGateway) -> None:
    """While more is sent than the workers take, both gauges say so."""
    seen: list[tuple[float, float]] = []
    clips = [threading.Thread(target=gateway.post, args=(f"{PATH}?views=8", CLIP)) for _ in range(24)]
    for thread in clips:
        thread.start()
    while any(thread.is_alive() for thread in clips):
        now = measured(gateway)
        waiting = now.get(("actionrec_requests_waiting", frozenset({("model", "motion")})), 0.0)
        seen.append((now["actionrec_requests_in_flight", frozenset()], waiting))
    assert max(flying for flying, _ in seen) > 1
    assert max(waiting for _, waiting in seen) > 0
    assert all(waiting <= flying for flying, waiting in seen)


@pytest.mark.server
def test_what_is_sent_and_answered(gateway: RunningGateway) -> None:
    """The video's span, size and rate, the best score and the warnings are those of each reply."""
    before = measured(gateway)
    said = gateway.post(PATH, CLIP).json()
    short = gateway.post(PATH, encode(frames(1))).json()
    assert [warning["code"] for warning in short["warnings"]] == ["SHORT_WINDOW"]
    after = measured(gateway)

    def grown(name: str, **labels: str) -> float:
        key = (name, frozenset({"model": "motion", **labels}.items()))
        return after[key] - before.get(key, 0.0)

    replies = (said, short)
    expected = {
        "actionrec_best_score": [reply["predictions"][0]["score"] for reply in replies],
        "actionrec_video_span_seconds": [
            reply["clip"]["end_seconds"] - reply["clip"]["start_seconds"] for reply in replies
        ],
        "actionrec_video_short_side_pixels": [
            min(reply["clip"]["width"], reply["clip"]["height"]) for reply in replies
        ],
        "actionrec_video_frames_per_second": [reply["clip"]["source_fps"] for reply in replies],
        "actionrec_request_bytes": [len(CLIP), len(encode(frames(1)))],
    }
    for name, values in expected.items():
        assert grown(f"{name}_count") == 2
        assert grown(f"{name}_sum") == pytest.approx(sum(values))
    assert grown("actionrec_warnings_total", code="SHORT_WINDOW") == 1
    codecs = Counter(reply["clip"]["codec"] for reply in replies)
    assert {codec: grown("actionrec_videos_total", codec=codec) for codec in codecs} == codecs


@pytest.mark.server
def test_names_of_metrics(gateway: RunningGateway) -> None:
    """Names follow Prometheus' conventions, each has its help, and no label says who asked."""
    families = list(text_string_to_metric_families(gateway.get("/metrics").text))
    assert {family.name for family in families} >= {
        "actionrec_request_seconds",
        "actionrec_stage_seconds",
        "actionrec_requests_in_flight",
        "actionrec_requests_waiting",
        "actionrec_jobs",
        "actionrec_request_bytes",
        "actionrec_best_score",
        "actionrec_video_span_seconds",
        "actionrec_videos",
        "actionrec_video_short_side_pixels",
        "actionrec_video_frames_per_second",
        "actionrec_warnings",
        "actionrec_engine_up",
        "actionrec_workers_ready",
        "actionrec_workers_wanted",
        "actionrec_worker_started_seconds",
        "actionrec_worker_memory_bytes",
        "actionrec_worker_children",
        "actionrec_gateway_process_resident_memory_bytes",
    }
    for family in families:
        assert family.name.startswith("actionrec_")
        assert family.documentation
        labels = {label for sample in family.samples for label in sample.labels}
        known = {"route", "status", "code", "codec", "stage", "model", "state", "worker", "served", "le"}
        assert labels <= known


class Collector(BaseHTTPRequestHandler):
    """Takes traces as an OpenTelemetry collector does."""

    spans: list[Any]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            import gzip

            body = gzip.decompress(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def collected() -> Iterator[tuple[str, list[Any]]]:
    """A collector's address, and the spans that came."""
    spans: list[Any] = []
    handler = type("Handler", (Collector,), {"spans": spans})
    with helpers_http.running(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as url:
        yield url, spans


@pytest.mark.server
def test_traces(
    motion_server: RunningServer,
    tmp_path_factory: pytest.TempPathFactory,
    collected: tuple[str, list[Any]],
) -> None:
    """A request's trace goes on from the sender's, and has the engine, its queue and each step, in time."""
    collector, spans = collected
    trace_id, span_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    with running(
        tmp_path_factory.mktemp("traced"),
        motion_server.inference_url,
        motion_server.management_url,
        environment={"OTEL_EXPORTER_OTLP_ENDPOINT": collector},
    ) as gateway:
        headers = {"traceparent": f"00-{trace_id}-{span_id}-01", "X-Request-ID": "traced"}
        assert gateway.post(PATH, CLIP, headers=headers).status_code == 200
        line = gateway.line_of("traced")
        assert line["trace_id"] == trace_id
        gateway.process.terminate()
        gateway.process.wait(60)
    found = {span.name: span for span in spans if span.trace_id.hex() == trace_id}
    assert found.keys() == {"POST /predictions/{model}", "engine", "queue", *STEPS}
    request, engine = found["POST /predictions/{model}"], found["engine"]
    assert request.parent_span_id.hex() == span_id
    assert request.span_id.hex() == line["span_id"]
    assert engine.parent_span_id == request.span_id
    steps = [found[name] for name in ("queue", "decode", "transform", "inference")]
    assert {step.parent_span_id for step in steps} == {engine.span_id}
    assert engine.start_time_unix_nano <= steps[0].start_time_unix_nano
    for before, after in itertools.pairwise(steps):
        assert before.end_time_unix_nano == after.start_time_unix_nano
    for step in steps[1:]:
        milliseconds = (step.end_time_unix_nano - step.start_time_unix_nano) / 1e6
        assert milliseconds == pytest.approx(line[f"{step.name}_ms"], abs=0.01)


@pytest.mark.server
def test_the_engine_is_told_of_the_trace(
    tmp_path_factory: pytest.TempPathFactory, collected: tuple[str, list[Any]]
) -> None:
    """The engine's request names the span of the question to it, so that what it sends is below that."""
    collector, spans = collected
    with (
        helpers_http.running(ThreadingHTTPServer(("127.0.0.1", 0), AsTorchServe)) as url,
        running(
            tmp_path_factory.mktemp("told"), url, url, environment={"OTEL_EXPORTER_OTLP_ENDPOINT": collector}
        ) as gateway,
    ):
        told = gateway.post("/predictions/trace-503", b"clip").json()["error"]["code"]
        gateway.process.terminate()
        gateway.process.wait(60)
    (engine,) = [span for span in spans if span.name == "engine"]
    assert told.split("-")[:3] == ["00", engine.trace_id.hex(), engine.span_id.hex()]


def test_traces_are_for_those_who_ask() -> None:
    """Without OpenTelemetry's own variables its SDK is not loaded (FastAPI loads its API), nor is torch."""
    code = (
        "import sys; import actionrec_gateway.app, actionrec_gateway.torchserve, actionrec_gateway.__main__; "
        "unwanted = {'opentelemetry.sdk', 'opentelemetry.exporter', 'torch', 'ts'}; "
        "print(sorted(unwanted & set(sys.modules)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=120
    )
    assert said.stdout.strip() == "[]"
    assert not traces.asked_for({})
    assert not traces.asked_for({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"})
    assert traces.asked_for({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"})
