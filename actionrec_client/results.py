"""Replies as frozen dataclasses. Fields that a newer server adds are in `Result.raw` and `Result.to_dict`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

import numpy as np

from .errors import BadReply
from .explanation import Explanation, Seconds
from .floats import Floats, from_json


@dataclass(frozen=True, slots=True)
class _Record:
    """A dataclass that is made from a JSON object. Fields of the object that it does not have are left out."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From an object of a reply."""
        return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a reply."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Prediction(_Record):
    """One label."""

    label: str
    class_index: int
    score: float
    """0 to 1; those of all labels sum to 1."""


@dataclass(frozen=True, slots=True)
class Clip(_Record):
    """The part of the file that was classified."""

    start_seconds: float
    """From the file's first frame."""
    end_seconds: float
    """From the file's first frame; earlier than asked for where the file ends."""
    source_frames: int
    """Frames of the file in it, before sampling; a frame counts once for each window that it is in."""
    source_fps: float
    """Frames a second, measured."""
    width: int
    """Of a frame as it is shown, in pixels."""
    height: int
    """Of a frame as it is shown, in pixels."""
    codec: str = ""
    """How the file is coded, by FFmpeg's name: ``h264``; empty: the server does not say."""
    views: Mapping[str, int] = field(default_factory=dict)
    """Number of ``windows`` that the scores are the mean of, and of ``crops`` in each."""


@dataclass(frozen=True, slots=True)
class Model(_Record):
    """The model that answered."""

    name: str
    version: str
    weights: str
    """``sha256:<hex>`` of the weights file, or ``random``."""
    runtime: str
    """What runs the model: ``torchscript``, ``aoti``, ``compile``."""
    precision: str
    """``fp32``, ``fp16``, ``bf16``."""


@dataclass(frozen=True, slots=True)
class ClipWarning(_Record):
    """Something that the sender of an answered request should know."""

    code: str
    """Stable, for programs: ``SHORT_WINDOW``."""
    message: str
    """For people."""


@dataclass(frozen=True, slots=True)
class Window(_Record):
    """One window of a timeline."""

    start_seconds: float
    """From the video's first frame."""
    end_seconds: float
    """From the video's first frame."""
    predictions: tuple[Prediction, ...]
    """Best first; none where nothing could be decoded."""
    warnings: tuple[ClipWarning, ...] = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From an entry of a reply's ``timeline``."""
        warnings = tuple(ClipWarning.from_dict(entry) for entry in values.get("warnings", ()))
        return cls(values["start_seconds"], values["end_seconds"], _predictions(values), warnings)


@dataclass(frozen=True, slots=True)
class Segment(_Record):
    """A span of a video that has one label."""

    label: str
    class_index: int
    start_seconds: float
    """From the video's first frame."""
    end_seconds: float
    """From the video's first frame."""
    score: float
    """Mean of the label's score over the span, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to one clip."""

    predictions: tuple[Prediction, ...]
    """Best first."""
    clip: Clip
    model: Model
    timings_ms: Mapping[str, float]
    """Where the server's time went, in milliseconds: ``decode``, ``transform``, ``inference``."""
    warnings: tuple[ClipWarning, ...]
    raw: Mapping[str, Any] = field(repr=False, compare=False)
    """The reply as it came."""

    @property
    def label(self) -> str:
        """The best label."""
        return self.predictions[0].label

    @property
    def score(self) -> float:
        """Of the best label, 0 to 1."""
        return self.predictions[0].score

    @property
    def embedding(self) -> Floats | None:
        """What the model's last layer gets, the mean over the views: float32 [features]. None where it was not
        asked for.

        Raises:
            BadReply: it is no array.
        """
        value = self.raw.get("embedding")
        return None if value is None else _vector(value)

    @property
    def explanation(self) -> Explanation | None:
        """Why the model says a label; None where it was not asked for.

        Raises:
            BadReply: it is of a form that this client does not know.
        """
        values = self.raw.get("explanation")
        if values is None:
            return None
        found = Explanation.from_dict(values)
        scores = [p.score for p in self.predictions if p.class_index == found.class_index]
        return replace(found, score=scores[0] if scores else None)

    def to_dict(self) -> dict[str, Any]:
        """The reply as it came."""
        return dict(self.raw)

    @classmethod
    def from_dict(cls, values: object) -> Self:
        """From a reply.

        Raises:
            BadReply: a field is missing.
        """
        try:
            return cls(**_result_fields(_object(values)))
        except (KeyError, TypeError, AttributeError) as error:
            raise _strange(values) from error


@dataclass(frozen=True, slots=True, eq=False)
class WindowEmbeddings:
    """The embeddings of a video's windows, in order of time."""

    spans: Seconds
    """float64 [windows, 2]: start and end of each, in seconds from the video's first frame."""
    vectors: Floats
    """float32 [windows, features]"""


@dataclass(frozen=True, slots=True)
class Timeline(Result):
    """The answer to a whole video, window after window."""

    windows: tuple[Window, ...]
    """In order of their starts."""
    segments: tuple[Segment, ...]
    """Neighbouring windows merged into spans."""
    cuts: tuple[float, ...]
    """When the picture changes at once, in seconds."""

    @property
    def embeddings(self) -> WindowEmbeddings:
        """One of each window that could be decoded; none where they were not asked for.

        Raises:
            BadReply: one is no array, or they are of different lengths.
        """
        entries = [entry for entry in self.raw["timeline"] if entry.get("embedding") is not None]
        vectors = [_vector(entry["embedding"]) for entry in entries]
        if len({len(vector) for vector in vectors}) > 1:
            raise _strange([entry["embedding"] for entry in entries])
        spans = [(entry["start_seconds"], entry["end_seconds"]) for entry in entries]
        return WindowEmbeddings(
            np.array(spans, np.float64).reshape(-1, 2),
            np.stack(vectors) if vectors else np.empty((0, 0), np.float32),
        )

    @classmethod
    def from_dict(cls, values: object) -> Self:
        """From a reply to a request with ``stride_seconds``.

        Raises:
            BadReply: a field is missing.
        """
        try:
            reply = _object(values)
            return cls(
                **_result_fields(reply),
                windows=tuple(Window.from_dict(entry) for entry in reply["timeline"]),
                segments=tuple(Segment.from_dict(entry) for entry in reply["segments"]),
                cuts=tuple(reply["cuts"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise _strange(values) from error


@dataclass(frozen=True, slots=True)
class ServedModel(_Record):
    """A model that a server has loaded."""

    name: str
    version: str
    workers: tuple[str, ...]
    """Status of each worker: ``READY`` or what else TorchServe calls it."""
    least_workers: int
    """How many workers the server was told to have."""

    @property
    def ready(self) -> bool:
        """At least one worker, all that were asked for, and every one READY."""
        enough = len(self.workers) >= max(1, self.least_workers)
        return enough and all(status == "READY" for status in self.workers)


def _object(values: object) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise TypeError(f"a reply is an object, not a {type(values).__name__}")
    return values


def _result_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "predictions": _predictions(values),
        "clip": Clip.from_dict(values["clip"]),
        "model": Model.from_dict(values["model"]),
        "timings_ms": dict(values["timings_ms"]),
        "warnings": tuple(ClipWarning.from_dict(entry) for entry in values["warnings"]),
        "raw": values,
    }


def _vector(value: object) -> Floats:
    try:
        return from_json(value)
    except (ValueError, TypeError) as error:
        raise _strange(value) from error


def _predictions(values: Mapping[str, Any]) -> tuple[Prediction, ...]:
    return tuple(Prediction.from_dict(entry) for entry in values["predictions"])


def _strange(values: object) -> BadReply:
    return BadReply("BAD_REPLY", 200, f"The reply is of another kind of server: {str(values)[:200]}.")
