"""TorchServe's handler: its rows and headers in, its responses out. `actionrec.service` does the work."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from actionrec.model.host import device_of_worker
from actionrec.service import JSON, Reply, Row, Service
from torchserve_metrics import SandboxMetrics
from torchserve_queue import Queue
from ts.context import Context

_FLAGS = ("explain", "describe")  # request headers that TorchServe sets
_SHARE_OF_TIMEOUT = 0.9  # of ``responseTimeout``: TorchServe kills a worker that takes longer than that
_CLIENT = "X-Actionrec-Client"  # request header with the client's name, set by the front
_OWN = "X-Actionrec"  # header of every reply made here, so that a front can tell it from TorchServe's own
_ERROR = "X-Actionrec-Error"  # header with a copy of an error's body: nginx drops the body of some statuses


class SlowFastHandler:
    """One worker's model. TorchServe calls `initialize` once, then `handle` with one batch at a time."""

    def initialize(self, context: Context) -> None:
        """Load the model with the settings of ``model-config.yaml``."""
        os.environ["TS_DECODE_INPUT_REQUEST"] = "false"  # bodies are taken apart in `actionrec.body`
        properties, config = context.system_properties, context.model_yaml_config or {}
        self.service = Service.load(
            Path(properties["model_dir"]),
            device_of_worker(properties.get("gpu_id")),
            rows=properties["batch_size"],
            answer_seconds=(config.get("responseTimeout") or 0) * _SHARE_OF_TIMEOUT or None,
            **(config.get("handler") or {}),  # sandbox, decode
        )
        self.service.others_wait = Queue(self.service.classifier.manifest.name).waits
        self.sandbox_metrics = SandboxMetrics(self.service)

    def handle(self, data: Sequence[Mapping[str, Any]], context: Context) -> list[bytes]:
        """Answer a batch: one body per row, in order. Each row has its own status."""
        rows = []
        for index, fields in enumerate(data):
            client = str(context.get_request_header(index, _CLIENT) or "")
            flags = [context.get_request_header(index, flag) == "True" for flag in _FLAGS]
            rows.append(Row(fields, client, context.get_request_id(index), *flags))
        replies = self.service.answer(rows)
        self.sandbox_metrics.add_to(context)
        return [_sent(reply, context, index) for index, reply in enumerate(replies)]


def _sent(reply: Reply, context: Context, index: int) -> bytes:
    headers = {"content-type": JSON, _OWN: "1"}
    if reply.status != HTTPStatus.OK:
        context.set_response_status(reply.status, HTTPStatus(reply.status).phrase, index)
        headers[_ERROR] = reply.body.decode("ascii")
        headers |= {"Retry-After": str(reply.retry_after_seconds)} if reply.retry_after_seconds else {}
    for name, text in headers.items():
        context.set_response_header(index, name, text)
    for step, milliseconds in reply.timings.to_dict().items() if reply.timings else ():
        context.metrics.add_time(f"{step.title()}Time", milliseconds, index, "ms")
    return reply.body
