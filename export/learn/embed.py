"""Examples -> embeddings of their windows, made by the decoding, sampling and model that serve.

Each is kept under the video's content, the recipe and the network. So a run that was stopped goes on where it
was, and a new label, another name or a renamed file costs nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from actionrec.errors import ClipError
from actionrec.head import Floats
from actionrec.manifest import Artifact, Manifest
from actionrec.pipeline import Classifier
from actionrec.reply import Prediction
from actionrec.request import ClipRequest
from actionrec.sampling import Selection

from .. import checksum
from ..errors import ExportError
from ..weights import RANDOM
from .cache import Arrays, key_of
from .data import Example

WINDOWS = 3
"""Windows of an example, spread as a request's `views` are. The first one is what a plain request sees."""
_FORMAT = 1
"""Of what is kept; another number finds nothing that was kept before."""
_CLIPS = 4
"""Examples that are embedded together: enough for decoding and model to overlap, and lost where a run is
killed."""
_BYTES = 1 << 28
"""Bytes of video in memory, unless one file has more."""


@dataclass(frozen=True)
class Embedded:
    """The windows of an example."""

    embeddings: Floats
    """float32 [windows, features]; at least one window."""
    seconds: npt.NDArray[np.float64]
    """float64 [windows, 2]: start and end of each in the video."""


def selection_of(example: Example) -> Selection:
    """What a request asks for to see an example's windows."""
    return Selection(example.start_seconds, example.end_seconds, views=WINDOWS)


class Embedder:
    """Embeds examples, and keeps what it has embedded.

    Args:
        load: loads the base archive; called when the first example is not in the cache.
        manifest: the base archive's.
        directory: the same, unpacked.
        artifact: the one that is served here.
        cache: what was embedded before.
    """

    def __init__(
        self,
        load: Callable[[], Classifier],
        manifest: Manifest,
        directory: Path,
        artifact: Artifact,
        cache: Arrays,
    ) -> None:
        self._load, self._cache = load, cache
        self._classifier: Classifier | None = None
        network = manifest.weights
        if network == RANDOM:  # the word is the same whatever the numbers are
            network = checksum.sha256_of(directory / artifact.file)
        self._recipe: dict[str, Any] = {
            "format": _FORMAT,
            "network": network,
            "runtime": artifact.runtime,
            "precision": artifact.precision,
            "spec": manifest.spec.to_dict(),
            "windows": WINDOWS,
        }

    def embed(
        self, examples: Sequence[Example], done: Callable[[Example], None]
    ) -> tuple[dict[Example, Embedded], dict[Example, str]]:
        """Embed examples.

        Args:
            examples: in any order.
            done: called with each one when it is embedded, or cannot be.

        Returns:
            The embedded ones, and the others with the reason, a line each.

        Raises:
            ExportError: the model failed.
        """
        found: dict[Example, Embedded] = {}
        unreadable: dict[Example, str] = {}
        missing = []
        for example in examples:
            kept = self._cache.get(self._key(example))
            if kept is None:
                missing.append(example)
                continue
            found[example] = Embedded(kept["embeddings"], kept["seconds"])
            done(example)
        for some in _chunks(missing):
            for example, answer in zip(some, self._answers(some), strict=True):
                if isinstance(answer, str):
                    unreadable[example] = answer
                else:
                    found[example] = answer
                    kept = {"embeddings": answer.embeddings, "seconds": answer.seconds}
                    self._cache.put(self._key(example), kept)
                done(example)
        return found, unreadable

    def close(self) -> None:
        """End the decoding processes."""
        if self._classifier is not None:
            self._classifier.close()

    def _key(self, example: Example) -> str:
        span = [example.start_seconds, example.end_seconds]
        return key_of({**self._recipe, "video": example.sha256, "span": span})

    def _answers(self, examples: Sequence[Example]) -> list[Embedded | str]:
        """For each example its windows, or why it cannot be read."""
        if self._classifier is None:
            self._classifier = self._load()
        videos = _read(examples)
        readable = [example for example in examples if isinstance(videos[example.path], bytes)]
        requests = [
            ClipRequest(video, selection=selection_of(example), embedding=True)
            for example in readable
            if isinstance(video := videos[example.path], bytes)
        ]
        answers = dict(zip(readable, self._classifier.classify(requests), strict=True))
        return [
            reason if isinstance(reason := videos[example.path], str) else _embedded(answers[example], example)
            for example in examples
        ]


def _embedded(answer: Prediction | ClipError, example: Example) -> Embedded | str:
    if isinstance(answer, ClipError):
        if answer.status >= 500:
            raise ExportError(f"{example.path}: {answer.message} ({answer.code})", answer.hint)
        return f"{answer.message} ({answer.code})"
    seen = [(window, window.embedding) for window in answer.windows if window.embedding is not None]
    return Embedded(
        np.stack([embedding for _, embedding in seen]),
        np.array([(window.start_seconds, window.end_seconds) for window, _ in seen]),
    )


def _chunks(examples: Sequence[Example]) -> Iterator[list[Example]]:
    chunk: list[Example] = []
    size = 0
    for example in examples:
        more = example.path.stat().st_size if example.path.exists() else 0
        if chunk and (len(chunk) == _CLIPS or size + more > _BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(example)
        size += more
    if chunk:
        yield chunk


def _read(examples: Sequence[Example]) -> dict[Path, bytes | str]:
    """The examples' files, each once; a reason where one is not what it was."""
    found: dict[Path, bytes | str] = {}
    for example in examples:
        if example.path in found:
            continue
        try:
            data = example.path.read_bytes()
        except OSError as error:
            found[example.path] = error.strerror or str(error)
            continue
        changed = hashlib.sha256(data).hexdigest() != example.sha256
        found[example.path] = "it changed while it was read" if changed else data
    return found
