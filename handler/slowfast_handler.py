"""The TorchServe skin: rows in, replies out. Everything else is in `actionrec`, which knows no server."""

from __future__ import annotations

import gc
import json
import logging
import os
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
_CLIENT_HEADER = "X-Actionrec-Client"
"""Who asks: set by the front, which knows its clients, and passed on by no front that does not."""
_OWN_HEADER = "X-Actionrec"
"""Of each reply made here, so that a front can tell it from TorchServe's own."""
_ERROR_HEADER = "X-Actionrec-Error"
"""An error's reply once more: where a front takes the status for its own, as nginx does, the body is lost to
it."""
_MANAGEMENT_VARIABLE = "ACTIONREC_MANAGEMENT_URL"
"""Environment variable: where TorchServe says how many requests wait; without it nothing is known of them."""
_LOOK_SECONDS = 0.25
"""Between two looks at what waits."""
_RETRY_SECONDS = "1"
"""What a client is told to wait for before it asks again, where that may help."""


class SlowFastHandler:
    """One worker's model. TorchServe calls `initialize` once and `handle` a batch at a time."""

    def initialize(self, context: Context) -> None:
        """Load and warm up; the worker is READY only after this returns.

        Args:
            context: TorchServe's, with ``system_properties["model_dir"]`` and ``["gpu_id"]``, and the archive's
                ``model-config.yaml``: ``handler.sandbox`` (true, false or ``require``), ``batchSize`` (more are
                never decoded at once) and ``responseTimeout``.
        """
        # Bodies are taken apart in `actionrec.body`, which bounds what that may cost.
        os.environ["TS_DECODE_INPUT_REQUEST"] = "false"
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
            sandbox=(config.get("handler") or {}).get("sandbox", True),
            answer_seconds=timeout and timeout * _SHARE_OF_TIMEOUT,
        )
        manifest = self.classifier.manifest
        management_url = os.environ.get(_MANAGEMENT_VARIABLE)
        self._queue_url = f"{management_url}/models/{manifest.name}" if management_url else None
        self._looked, self._waits = 0.0, False
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
        parsed = [None if asked[index] else self._parse(row, context, index) for index, row in enumerate(data)]
        requests = [request for request in parsed if isinstance(request, ClipRequest)]
        answers = iter(self.classifier.classify(requests, self._somebody_waits))
        replies = []
        for index, request in enumerate(parsed):
            context.set_response_content_type(index, "application/json")
            context.set_response_header(index, _OWN_HEADER, "1")
            answer = next(answers) if isinstance(request, ClipRequest) else request
            replies.append(self._encoded(answer, request, context, index))
        return replies

    def _somebody_waits(self) -> bool:
        """Whether requests wait in TorchServe's queue, as of the last quarter of a second."""
        now = time.monotonic()
        if self._queue_url and now - self._looked > _LOOK_SECONDS:
            self._looked = now
            try:
                with urllib.request.urlopen(self._queue_url, timeout=1) as reply:
                    self._waits = any(each["jobQueueStatus"]["pendingRequests"] for each in json.load(reply))
            except (OSError, ValueError, TypeError, KeyError) as error:
                logger.warning("TorchServe does not say how many requests wait: %s", error)
                self._waits = False
        return self._waits

    def _parse(self, row: Mapping[str, Any], context: Context, index: int) -> ClipRequest | ClipError:
        try:
            manifest = self.classifier.manifest
            request = parse_request(row, len(manifest.labels), manifest.limits)
            client = context.get_request_header(index, _CLIENT_HEADER)
            # TorchServe puts the types of form fields among the headers.
            return replace(request, client=client if isinstance(client, str) else "")
        except ClipError as error:
            return error
        except Exception:
            logger.exception("A request could not be read")
            return ClipError("INTERNAL", 500, "The request could not be read.", "The service's log says more.")

    def _encoded(
        self,
        answer: Prediction | ClipError | None,
        request: ClipRequest | ClipError | None,
        context: Context,
        index: int,
    ) -> bytes:
        """A row's reply. What cannot be encoded costs its own row its answer, and no other."""
        try:
            if answer is None:
                return _json(self.classifier.describe())
            if isinstance(answer, Prediction) and isinstance(request, ClipRequest):
                reply = _json(self.classifier.reply(answer, request.top_k))
                self._measure(answer, context, index)
                return reply
        except Exception:
            logger.exception("A reply could not be made")
            answer = ClipError("INTERNAL", 500, "The reply could not be made.", "The service's log says more.")
        assert isinstance(answer, ClipError)
        return self._refused(answer, context, index)

    @staticmethod
    def _measure(prediction: Prediction, context: Context, index: int) -> None:
        timings = prediction.timings_ms
        for name, value in (
            ("DecodeTime", timings.decode),
            ("TransformTime", timings.transform),
            ("InferenceTime", timings.inference),
        ):
            context.metrics.add_time(name, value, index, "ms")

    @staticmethod
    def _refused(error: ClipError, context: Context, index: int) -> bytes:
        context.set_response_status(error.status, HTTPStatus(error.status).phrase, index)
        if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
            context.set_response_header(index, "Retry-After", _RETRY_SECONDS)
        reply = {"error": error.to_dict(), "request_id": context.get_request_id(index)}
        context.set_response_header(index, _ERROR_HEADER, json.dumps(reply))
        return _json(reply)


def _json(value: Mapping[str, Any]) -> bytes:
    # Bytes, since TorchServe would send a dict through json.dumps with an indent of 2. A lone surrogate, which
    # a request's text can have, has no bytes in UTF-8.
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")
