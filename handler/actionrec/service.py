"""Rows of a server -> replies. Every engine calls this; it knows no server itself.

    row -> request -> classified with the others -> prediction -> JSON
      (a description)    (`pipeline`)                (`reply`)

An error in one row becomes the reply of that row; all other rows are answered.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

from .errors import ClipError, internal
from .model.host import keep_freed_memory
from .pipeline import Classifier
from .reply import Prediction, Timings
from .request import BEST_LABEL, ClipRequest, check_explainable, parse_request
from .sandbox.confine import REQUIRED
from .worker import Report, decode_threads

logger = logging.getLogger(__name__)

JSON = "application/json"
"""Media type of all replies."""
SANDBOX = "ACTIONREC_SANDBOX"
"""Variable with ``require``: no model is loaded without the required defences, whatever its archive says."""
_RETRY_SECONDS = 1
"""``Retry-After``, in seconds, where the same request may succeed later."""


@dataclass(frozen=True, slots=True)
class Row:
    """One request as the server received it."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    """The body under ``body`` or ``data``, or the fields that the server made of it; see `request`."""
    client: str = ""
    """Who sends the request, for fair shares; empty where the front does not say."""
    request_id: str = ""
    """The server's name for the request; error replies repeat it."""
    explain: bool = False
    """Whether the row was sent to where explanations are asked for: the best label's, unless it names one."""
    describe: bool = False
    """Whether the row asks for the model's description and brings no video."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one row."""

    status: int
    """HTTP status."""
    body: bytes
    """A JSON object in UTF-8; an error's is ASCII."""
    timings: Timings | None = None
    """Milliseconds of each step; None where nothing was classified."""
    retry_after_seconds: int | None = None
    """Seconds after which the same request may succeed; None where a retry is of no use."""


@dataclass(frozen=True, slots=True)
class SandboxState:
    """What those who run a server watch of the decoding sandbox."""

    missing: int
    """Defences of `sandbox.confine.REQUIRED` that do not hold; all of them where there is no sandbox."""
    replaced: int
    """Children that have died, or were killed before they had answered, since the start."""


class Service:
    """A loaded model that answers rows.

    Args:
        classifier: the loaded model.
        others_wait: returns whether requests of other calls wait for this one; see `Classifier.classify`.
            None: every request is waited for.
        when_lost: called with the reason after an error after which this process runs the model no more. None:
            rows get errors from then on.
    """

    def __init__(
        self,
        classifier: Classifier,
        others_wait: Callable[[], bool] | None = None,
        when_lost: Callable[[str], None] | None = None,
    ) -> None:
        self.classifier = classifier
        self.others_wait = others_wait
        self.when_lost = when_lost

    @classmethod
    def load(
        cls,
        directory: Path,
        device: str = "cpu",
        *,
        rows: int | None = None,
        sandbox: bool | str = True,
        answer_seconds: float | None = None,
        decode: str = "cpu",
    ) -> Service:
        """Load an unpacked archive and warm it up, in a process that does nothing else.

        After an error after which it runs the model no more the process ends (`end_process`), for whatever
        watches over it to start another.

        Args:
            directory: the unpacked archive.
            device: where the model runs: ``cpu``, ``cuda:0``.
            rows: the most rows of one call; as many videos are open at once, each in a child of its own.
                Default: as many as are decoded at once, which whoever started this process may say (`worker`).
            sandbox: decode in child processes; ``require``: fail where a required defence is missing. The
                variable `SANDBOX` may ask for that, whatever stands here.
            answer_seconds: seconds that a call of `answer` may take; rows that are not done by then get an
                error.
            decode: ``gpu``: decode large videos on the GPU, in this process.

        Raises:
            FileNotFoundError, ValueError, RuntimeError: the archive is incomplete, or does not fit this host.
        """
        if device == "cpu":
            keep_freed_memory()
        classifier = Classifier.load(
            directory,
            device,
            decode_threads=decode_threads(),
            open_clips=rows,
            sandbox=_insisted(sandbox),
            answer_seconds=answer_seconds,
            decode=decode,
        )
        described = classifier.describe()
        logger.info("Loaded %s %s: %s", described["name"], described["version"], described["serving"])
        logger.info("Decoding sandbox: %s", described["sandbox"])
        logger.info("Decoding: %s", described["decode"])
        # All objects made so far live as long as the process. Unless they are frozen, Python's collector scans
        # those of torch and the model now and then, while a request waits (benchmarks/process.py).
        gc.collect()
        gc.freeze()
        Report(described["serving"]["device"], classifier.decode_threads).save()
        return cls(classifier, when_lost=end_process)

    def answer(self, rows: Sequence[Row]) -> list[Reply]:
        """Answer all rows, in order. Raises nothing: an exception would cost every row its answer."""
        parsed = [None if row.describe else self._parsed(row) for row in rows]
        requests = [request for request in parsed if isinstance(request, ClipRequest)]
        answers = iter(self.classifier.classify(requests, self.others_wait))
        if self.when_lost and self.classifier.runtime.lost:
            self.when_lost(self.classifier.runtime.lost)
        return [
            self._reply(row, request, next(answers) if isinstance(request, ClipRequest) else request)
            for row, request in zip(rows, parsed, strict=True)
        ]

    def sandbox_state(self) -> SandboxState:
        """How the decoding sandbox is."""
        sandbox = self.classifier.sandbox
        if sandbox is None:
            return SandboxState(len(REQUIRED), 0)
        defences = sandbox.defences
        return SandboxState(sum(defences.get(name) != "on" for name in REQUIRED), sandbox.replaced)

    def close(self) -> None:
        """End all threads and child processes."""
        self.classifier.close()

    def _parsed(self, row: Row) -> ClipRequest | ClipError:
        manifest = self.classifier.manifest
        try:
            request = parse_request(row.fields, manifest.labels, manifest.limits)
            if row.explain and request.explain is None:
                check_explainable(request.selection)
                request = replace(request, explain=BEST_LABEL)
            if request.explain is not None and not self.classifier.runtime.head.linear:
                raise not_explainable(manifest.name)
            return replace(request, client=row.client)
        except ClipError as error:
            return error
        except Exception:
            logger.exception("A request could not be read")
            return internal("The request could not be read.")

    def _reply(
        self, row: Row, request: ClipRequest | ClipError | None, answer: Prediction | ClipError | None
    ) -> Reply:
        """The reply to one row. Where it cannot be encoded, this row alone gets an error."""
        try:
            if answer is None:
                return Reply(HTTPStatus.OK, _json(self.classifier.describe()))
            if isinstance(answer, Prediction) and isinstance(request, ClipRequest):
                body = _json(self.classifier.reply(answer, request.top_k))
                return Reply(HTTPStatus.OK, body, answer.timings_ms)
        except Exception:
            logger.exception("A reply could not be made")
            answer = internal("The reply could not be made.")
        assert isinstance(answer, ClipError)
        return _refused(answer, row.request_id)


def not_explainable(name: str) -> ClipError:
    """The refusal to explain a score that is no sum over places."""
    return ClipError(
        "NOT_EXPLAINABLE",
        400,
        f"{name} averages probabilities, so its scores are no sums over places that explain could show.",
        "Leave explain out, or use a SlowFast or Slow model.",
    )


def end_process(reason: str) -> None:
    """End this process at once, with exit code 1. Threads that wait for a GPU for ever do not keep it."""
    logger.critical("This process ends, for another to take its place: it runs the model no more: %s", reason)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def _insisted(sandbox: bool | str) -> bool | str:
    """What is wanted of the sandbox, where the host may insist on more.

    Raises:
        ValueError: the host says something else.
    """
    said = os.environ.get(SANDBOX, "")
    if said not in ("", "require"):
        raise ValueError(f"{SANDBOX} must be require or not set, got {said!r}")
    return said or sandbox


def _refused(error: ClipError, request_id: str) -> Reply:
    # ASCII, so that an engine can also put it into a header.
    body = json.dumps({"error": error.to_dict(), "request_id": request_id}).encode("ascii")
    again = _RETRY_SECONDS if error.status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return Reply(error.status, body, retry_after_seconds=again)


def _json(value: Mapping[str, Any]) -> bytes:
    # A request's text may have a lone surrogate, which UTF-8 cannot encode.
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")
