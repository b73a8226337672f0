"""The TorchServe skin: rows in, replies out. Everything else is in `actionrec`, which knows no server."""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from actionrec.errors import ClipError
from actionrec.host import keep_freed_memory
from actionrec.pipeline import Classifier
from actionrec.request import ClipRequest, parse_request
from actionrec.result import Prediction

if TYPE_CHECKING:
    from ts.context import Context

logger = logging.getLogger(__name__)

_SHARE_OF_TIMEOUT = 0.9
"""Of ``responseTimeout``, at which TorchServe kills a worker; what is not done by then gets an error."""


class SlowFastHandler:
    """One worker's model. TorchServe calls `initialize` once and `handle` a batch at a time."""

    def initialize(self, context: Context) -> None:
        """Load and warm up; the worker is READY only after this returns.

        Args:
            context: TorchServe's, with ``system_properties["model_dir"]`` and ``["gpu_id"]``, and the archive's
                ``model-config.yaml``: ``handler.sandbox``, ``batchSize`` (more are never decoded at once) and
                ``responseTimeout``.
        """
        properties = context.system_properties
        gpu = properties.get("gpu_id")
        device = f"cuda:{gpu}" if gpu is not None and torch.cuda.is_available() else "cpu"
        if device == "cpu":
            keep_freed_memory()
        config = context.model_yaml_config or {}
        timeout = config.get("responseTimeout")
        self.classifier = Classifier.load(
            Path(properties["model_dir"]),
            device,
            open_clips=config.get("batchSize"),
            sandbox=bool((config.get("handler") or {}).get("sandbox", True)),
            answer_seconds=timeout and timeout * _SHARE_OF_TIMEOUT,
        )
        manifest = self.classifier.manifest
        described = self.classifier.describe()
        logger.info("Loaded %s %s: %s", manifest.name, manifest.version, described["serving"])
        logger.info("Decoding sandbox: %s", described["sandbox"])
        # What lives from here on lives as long as the worker. Unfrozen, Python now and then looks through all
        # objects of torch and the model, and a request waits for it (benchmarks/process.py).
        gc.collect()
        gc.freeze()

    def handle(self, data: Sequence[Mapping[str, Any]], context: Context) -> list[bytes]:
        """One reply a row, each with its own status; nothing is raised, which would fail the whole batch."""
        # TorchServe asks for a description by a header, which any client can send too: so row by row.
        asked = [context.get_request_header(index, "describe") == "True" for index in range(len(data))]
        parsed = [None if asked[index] else self._parse(row) for index, row in enumerate(data)]
        requests = [request for request in parsed if isinstance(request, ClipRequest)]
        answers = iter(self.classifier.classify(requests))
        replies = []
        for index, request in enumerate(parsed):
            if request is None:
                replies.append(_json(self.classifier.describe()))
                continue
            answer = request if isinstance(request, ClipError) else next(answers)
            if isinstance(answer, ClipError):
                replies.append(self._refuse(answer, context, index))
            else:
                assert isinstance(request, ClipRequest)
                replies.append(self._reply(answer, request, context, index))
        return replies

    def _parse(self, row: Mapping[str, Any]) -> ClipRequest | ClipError:
        try:
            manifest = self.classifier.manifest
            return parse_request(row, len(manifest.labels), manifest.limits)
        except ClipError as error:
            return error
        except Exception:
            logger.exception("A request could not be read")
            return ClipError("INTERNAL", 500, "The request could not be read.", "The service's log says more.")

    def _reply(self, prediction: Prediction, request: ClipRequest, context: Context, index: int) -> bytes:
        timings = prediction.timings_ms
        for name, value in (
            ("DecodeTime", timings.decode),
            ("TransformTime", timings.transform),
            ("InferenceTime", timings.inference),
        ):
            context.metrics.add_time(name, value, index, "ms")
        context.set_response_content_type(index, "application/json")
        return _json(self.classifier.reply(prediction, request.top_k))

    def _refuse(self, error: ClipError, context: Context, index: int) -> bytes:
        context.set_response_status(error.status, HTTPStatus(error.status).phrase, index)
        context.set_response_content_type(index, "application/json")
        return _json({"error": error.to_dict(), "request_id": context.get_request_id(index)})


def _json(value: Mapping[str, Any]) -> bytes:
    # Bytes, since TorchServe would send a dict through json.dumps with an indent of 2.
    return json.dumps(value, ensure_ascii=False).encode()
