"""Rows of a server in, replies out: what every engine calls.

    row -> request -> classified with the others -> prediction -> JSON
      (a description)    (`pipeline`)                (`reply`)

What goes wrong with one row is that row's reply, and costs no other row its own. Knows no server.
"""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

from .errors import ClipError
from .model.host import keep_freed_memory
from .pipeline import Classifier
from .reply import Prediction, Timings
from .request import ClipRequest, parse_request

logger = logging.getLogger(__name__)

JSON = "application/json"
"""Media type of all replies."""
_RETRY_SECONDS = 1
"""What a client is told to wait for before it asks again, where that may help."""


@dataclass(frozen=True, slots=True)
class Row:
    """One request as it came."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    """Its body, under ``body`` or ``data``, or the fields of it; see `request`."""
    client: str = ""
    """Who asks, where a front knows it: for fair shares."""
    request_id: str = ""
    """Stands in errors."""
    describe: bool = False
    """It asks what is served here, and brings no video."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one row."""

    status: int
    """Of HTTP."""
    body: bytes
    """A JSON object, in UTF-8; an error's in ASCII."""
    timings: Timings | None = None
    """Where its time went; None for what was not classified."""
    retry_after_seconds: int | None = None
    """After which the same request may be answered; None: it makes no difference, or it is answered."""


class Service:
    """A loaded model that answers rows.

    Args:
        classifier: it.
        others_wait: says whether requests beyond a call's wait for its end; see `Classifier.classify`. None:
            all are waited for.
    """

    def __init__(self, classifier: Classifier, others_wait: Callable[[], bool] | None = None) -> None:
        self.classifier = classifier
        self.others_wait = others_wait

    @classmethod
    def load(
        cls,
        directory: Path,
        device: str = "cpu",
        *,
        rows: int | None = None,
        sandbox: bool | str = True,
        answer_seconds: float | None = None,
    ) -> Service:
        """From an unpacked archive, warmed up, in a process that does nothing else.

        Args:
            directory: of the archive.
            device: where the model runs: ``cpu``, ``cuda:0``.
            rows: of a call, at most: the videos of so many are decoded at once. Default: one a core.
            sandbox: decode in child processes; ``require``: not without the defences that matter.
            answer_seconds: what a call of `answer` may take; rows that are not done by then get an error.

        Raises:
            FileNotFoundError, ValueError, RuntimeError: the archive is not whole, or not for this host.
        """
        if device == "cpu":
            keep_freed_memory()
        classifier = Classifier.load(
            directory, device, open_clips=rows, sandbox=sandbox, answer_seconds=answer_seconds
        )
        described = classifier.describe()
        logger.info("Loaded %s %s: %s", described["name"], described["version"], described["serving"])
        logger.info("Decoding sandbox: %s", described["sandbox"])
        # What lives from here on lives as long as the process. Unfrozen, Python now and then looks through all
        # objects of torch and the model, and a request waits for it (benchmarks/process.py).
        gc.collect()
        gc.freeze()
        return cls(classifier)

    def answer(self, rows: Sequence[Row]) -> list[Reply]:
        """One reply a row, in order. Nothing is raised: that would cost all rows their answers."""
        parsed = [None if row.describe else self._parsed(row) for row in rows]
        requests = [request for request in parsed if isinstance(request, ClipRequest)]
        answers = iter(self.classifier.classify(requests, self.others_wait))
        return [
            self._reply(row, request, next(answers) if isinstance(request, ClipRequest) else request)
            for row, request in zip(rows, parsed, strict=True)
        ]

    def close(self) -> None:
        """End all threads and child processes."""
        self.classifier.close()

    def _parsed(self, row: Row) -> ClipRequest | ClipError:
        manifest = self.classifier.manifest
        try:
            request = parse_request(row.fields, len(manifest.labels), manifest.limits)
            return replace(request, client=row.client)
        except ClipError as error:
            return error
        except Exception:
            logger.exception("A request could not be read")
            return _fault("The request could not be read.")

    def _reply(
        self, row: Row, request: ClipRequest | ClipError | None, answer: Prediction | ClipError | None
    ) -> Reply:
        """A row's reply. What cannot be encoded costs its own row its answer, and no other."""
        try:
            if answer is None:
                return Reply(HTTPStatus.OK, _json(self.classifier.describe()))
            if isinstance(answer, Prediction) and isinstance(request, ClipRequest):
                body = _json(self.classifier.reply(answer, request.top_k))
                return Reply(HTTPStatus.OK, body, answer.timings_ms)
        except Exception:
            logger.exception("A reply could not be made")
            answer = _fault("The reply could not be made.")
        assert isinstance(answer, ClipError)
        return _refused(answer, row.request_id)


def _refused(error: ClipError, request_id: str) -> Reply:
    # In ASCII, so that an engine can put it into a header as well.
    body = json.dumps({"error": error.to_dict(), "request_id": request_id}).encode("ascii")
    again = _RETRY_SECONDS if error.status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return Reply(error.status, body, retry_after_seconds=again)


def _fault(message: str) -> ClipError:
    return ClipError("INTERNAL", 500, message, "The service's log says more.")


def _json(value: Mapping[str, Any]) -> bytes:
    # A lone surrogate, which a request's text can have, has no bytes in UTF-8.
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")
