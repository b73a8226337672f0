"""The spans that people mark on the page: a file for each client, in the gateway's folder."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path
from typing import Annotated

from actionrec.errors import ClipError
from pydantic import BaseModel, Field, model_validator

from . import whole

_MOST_SPANS = 20_000
Name = Annotated[str, Field(min_length=1, max_length=400)]
Seconds = Annotated[float, Field(ge=0, le=1_000_000)]


class Span(BaseModel):
    """A part of a video that shows a label."""

    video: Name
    label: Annotated[str, Field(min_length=1, max_length=100)]
    start_seconds: Seconds
    end_seconds: Seconds

    @model_validator(mode="after")
    def _in_order(self) -> Span:
        if self.end_seconds <= self.start_seconds:
            raise ValueError("a span ends after its start")
        return self


class Spans(BaseModel):
    """All spans of a client."""

    revision: int = Field(ge=0, description="Grows with each change, which names the one before.")
    spans: Annotated[list[Span], Field(max_length=_MOST_SPANS)]


class Labels:
    """Keeps them.

    Args:
        run_dir: of the gateway.
    """

    def __init__(self, run_dir: Path) -> None:
        self._folder = run_dir / "labels"
        self._lock = threading.Lock()

    def get(self, client: str) -> Spans:
        """A client's spans; none at first."""
        try:
            return Spans(**json.loads(self._path(client).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return Spans(revision=0, spans=[])

    def put(self, client: str, changed: Spans) -> Spans:
        """Keep other spans in place of a client's.

        Args:
            client: whose.
            changed: the spans, with the revision that they are a change of.

        Returns:
            They, with their own revision.

        Raises:
            ClipError: 409, somebody has changed them meanwhile.
        """
        with self._lock:
            if self.get(client).revision != changed.revision:
                raise ClipError(
                    "LABELS_CHANGED",
                    409,
                    "These labels were changed elsewhere meanwhile.",
                    "Get them again, or send yours with the revision of now.",
                )
            kept = Spans(revision=changed.revision + 1, spans=changed.spans)
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            whole.write(self._path(client), kept.model_dump_json())
        return kept

    def _path(self, client: str) -> Path:
        return self._folder / f"{key_of(client)}.json"


def key_of(client: str) -> str:
    """What the files of a client are called."""
    return hashlib.sha256(client.encode()).hexdigest()[:32]
