"""Windows of examples, decoded by what serves, in its sandbox, and kept on disk within a bound."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from actionrec.errors import ClipError
from actionrec.limits import Limits
from actionrec.sampling import Selection
from actionrec.sandbox.pool import Sandbox
from actionrec.spec import ClipSpec
from numpy.typing import NDArray

from training.whole import whole

from ...errors import ExportError
from ..cache import key_of
from ..data import Example

_FORMAT = 1
"""Of the files; another number finds none of the old ones."""

_THREADS = os.cpu_count() or 1
_STARTING = Lock()

Frames = NDArray[Any]
"""int16 [T, H, W, 3] in steps of 1/128 level, or uint8 in whole levels."""


class Room:
    """How much may be on the disk.

    Args:
        most_bytes: in all.
    """

    def __init__(self, most_bytes: float) -> None:
        self._left = most_bytes
        self._lock = Lock()

    def take(self, count: int) -> bool:
        """Whether there is room for so many bytes more; if so, it is taken."""
        with self._lock:
            if count > self._left:
                return False
            self._left -= count
            return True


class Clips:
    """The windows of examples, spread over each as a request's `views` are.

    Args:
        folder: for the files.
        spec: what frames are decoded to.
        count: windows of an example; a short one has fewer.
        limits: of decoding.
        exact: int16, as the model is served them; otherwise uint8, which takes half of the room.

    It can go to another process. Close it, or use it in a ``with`` statement.
    """

    def __init__(self, folder: Path, spec: ClipSpec, count: int, limits: Limits, *, exact: bool) -> None:
        self.spec = spec
        self._folder, self._count, self._limits, self._exact = folder, count, limits, exact
        self._counts: dict[Example, int] = {}
        self._sandbox: Sandbox | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_sandbox": None}

    def __enter__(self) -> Clips:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the decoding processes; new ones are started where they are needed."""
        if self._sandbox is not None:
            self._sandbox.close()
            self._sandbox = None

    def prepare(self, examples: Sequence[Example], room: Room, done: Callable[[], object]) -> dict[Path, str]:
        """Decode all that is not on the disk, and keep as much of it as there is room for. What an earlier run
        kept of other examples is removed.

        Args:
            examples: in any order.
            room: for all windows of one example, or none of it.
            done: called after each.

        Returns:
            Why a video cannot be read, a line each.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        needed = {self._path(example) for example in examples}
        for path in self._folder.iterdir():
            if path not in needed:
                path.unlink()
        unreadable: dict[Path, str] = {}
        with ThreadPoolExecutor(_THREADS) as threads:
            for example, found in zip(
                examples, threads.map(lambda one: self._prepared(one, room), examples), strict=True
            ):
                if isinstance(found, str):
                    unreadable[example.path] = found
                else:
                    self._counts[example] = found
                done()
        self.close()
        return unreadable

    def count(self, example: Example) -> int:
        """Windows of a prepared example, at least 1."""
        return self._counts[example]

    def frames(self, example: Example, number: int) -> Frames:
        """One window of a prepared example, [T, H, W, 3].

        Raises:
            OSError, ClipError: the video is not what it was.
        """
        try:
            kept: Frames = np.load(self._path(example), mmap_mode="r")[number]
            return kept
        except FileNotFoundError:
            again: Frames = next(islice(self._decoded(example), number, None))
            return again

    def _prepared(self, example: Example, room: Room) -> int | str:
        path = self._path(example)
        if path.exists():
            room.take(path.stat().st_size)
            return len(np.load(path, mmap_mode="r"))
        try:
            frames = list(self._decoded(example))
        except OSError as error:
            return error.strerror or str(error)
        except ClipError as error:
            if error.status >= 500:
                raise ExportError(f"{example.path}: {error.message} ({error.code})", error.hint) from error
            return f"{error.message} ({error.code})"
        if room.take(sum(one.nbytes for one in frames)):
            with whole(path) as file:
                np.save(file, np.stack(frames))
        return len(frames)

    def _decoded(self, example: Example) -> Iterator[Frames]:
        selection = Selection(example.start_seconds, example.end_seconds, views=self._count)
        data = example.path.read_bytes()
        if hashlib.sha256(data).hexdigest() != example.sha256:
            raise OSError(f"{example.path} changed while it was learned from")
        with _STARTING:
            if self._sandbox is None:
                self._sandbox = Sandbox(self.spec, self._limits, _THREADS)
        for decoded in self._sandbox.windows(data, self.spec, selection, self._limits):
            if not decoded.missing:
                frames: Frames = decoded.frames if self._exact else decoded.rounded()
                yield frames

    def _path(self, example: Example) -> Path:
        values = {
            "format": _FORMAT,
            "video": example.sha256,
            "span": [example.start_seconds, example.end_seconds],
            "spec": self.spec.to_dict(),
            "windows": self._count,
            "exact": self._exact,
        }
        return self._folder / f"{key_of(values)[:32]}.npy"
