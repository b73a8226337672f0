"""The videos that labels are marked on: files that the gateway names, beside the labels in its folder."""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from actionrec.errors import ClipError
from pydantic import BaseModel

from ...jobs.files import NewFile
from .. import whole
from ..labels import key_of


class Video(BaseModel):
    """A video of a client's that is kept."""

    name: str
    bytes: int
    sha256: str
    file: str
    """What it is called here."""


class Videos:
    """Keeps them.

    Args:
        run_dir: of the gateway.
        most_bytes: that the videos of one client may take.
    """

    def __init__(self, run_dir: Path, most_bytes: int) -> None:
        self._run_dir, self._most_bytes = run_dir.resolve(), most_bytes
        self._lock = threading.Lock()

    def home(self, client: str) -> Path:
        """The folder of all that is of a client's learning."""
        path = self._run_dir / "teach" / key_of(client)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def folder(self, client: str) -> Path:
        """The folder of a client's videos."""
        path = self.home(client) / "videos"
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def all(self, client: str) -> dict[str, Video]:
        """A client's videos by the names that he gave them."""
        try:
            found = json.loads(self._index(client).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return {one["name"]: Video(**one) for one in found}

    def free_bytes(self, client: str, name: str) -> int:
        """Bytes that a video of this name may have before the client's videos take more than they may."""
        others = sum(one.bytes for one in self.all(client).values() if one.name != name)
        return max(0, self._most_bytes - others)

    def disk_bytes(self, client: str) -> int:
        """Room on the disk."""
        found = os.statvfs(self.folder(client))
        return found.f_bavail * found.f_frsize

    @contextmanager
    def new(self, client: str) -> Iterator[tuple[str, NewFile]]:
        """What a video will be called, and it, to be written; gone at the end of the block unless kept."""
        path = self.folder(client) / uuid.uuid4().hex
        file = NewFile(path.with_suffix(".part"), path)
        try:
            yield path.name, file
        finally:
            file.close()

    def keep(self, client: str, name: str, called: str, file: NewFile) -> Video:
        """Keep a video that was written, in place of the one of the same name.

        Args:
            client: whose.
            name: the client's own.
            called: see `new`.
            file: it.

        Raises:
            ClipError: 413, it and the others are too much.
            OSError: the disk is full.
        """
        with self._lock:
            free = self.free_bytes(client, name)
            if file.size > free:
                raise too_much(self._most_bytes)
            file.keep()
            kept = self.all(client)
            old = kept.get(name)
            kept[name] = video = Video(name=name, bytes=file.size, sha256=file.sha256, file=called)
            self._write(client, kept)
            if old:
                (self.folder(client) / old.file).unlink(missing_ok=True)
            return video

    def remove_all(self, client: str) -> None:
        """Remove all videos of a client's."""
        with self._lock:
            self._write(client, {})
            for path in self.folder(client).iterdir():
                with suppress(OSError):
                    path.unlink()

    def _index(self, client: str) -> Path:
        return self.home(client) / "videos.json"

    def _write(self, client: str, kept: Mapping[str, Video]) -> None:
        whole.write(self._index(client), json.dumps([one.model_dump() for one in kept.values()]))


def too_much(most_bytes: int) -> ClipError:
    """The error for more videos than a client may have here."""
    return ClipError(
        "TOO_MANY_VIDEOS",
        413,
        f"Your videos would take more than {most_bytes:,} bytes on the server.",
        "Remove those that are there, or ask the operator for more: GATEWAY_TEACH_BYTES.",
    )
