"""The videos of jobs: files that the gateway names, whole or not there, and gone when their job is done."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from actionrec.errors import ClipError

_PART, _URL = ".part", ".url"
_FORGOTTEN_SECONDS = 3600.0
"""After which a file that nobody writes to and no job has is not wanted any more."""


class NewFile:
    """A video that is being written.

    Args:
        part: where.
        path: where it goes when it is whole.
    """

    def __init__(self, part: Path, path: Path) -> None:
        self._part, self._path = part, path
        self._file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._hash = hashlib.sha256()
        self.size = 0
        """Bytes so far."""

    def write(self, data: bytes) -> None:
        """Write more of it.

        Raises:
            OSError: the disk is full.
        """
        self._hash.update(data)
        self.size += len(data)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._file, rest) :]

    @property
    def sha256(self) -> str:
        """Of what was written, in hexadecimal."""
        return self._hash.hexdigest()

    def keep(self) -> None:
        """It is whole: give it its name.

        Raises:
            OSError: the disk is full.
        """
        os.fsync(self._file)
        self._part.replace(self._path)

    def close(self) -> None:
        """Remove it, unless it is kept."""
        os.close(self._file)
        with suppress(OSError):
            self._part.unlink()


class Files:
    """The folder of the videos.

    Args:
        run_dir: in which it lies.
    """

    def __init__(self, run_dir: Path) -> None:
        self._folder = run_dir / "uploads"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, job_id: str) -> Path:
        """Where a job's video is, when it is there."""
        return self._folder / job_id

    @contextmanager
    def new(self, job_id: str) -> Iterator[NewFile]:
        """A job's video, to be written; gone at the end of the block unless it was kept."""
        # Its own name for each writer: one that was believed dead may still write.
        part = self._folder / f"{job_id}.{os.urandom(4).hex()}{_PART}"
        file = NewFile(part, self.path(job_id))
        try:
            yield file
        finally:
            file.close()

    @contextmanager
    def of_new_job(self, job_id: str) -> Iterator[Callable[[], None]]:
        """At the end of the block all that is of a job is removed, unless the function was called."""
        kept: list[bool] = []
        try:
            yield lambda: kept.append(True)
        finally:
            if not kept:
                self.remove(job_id)

    def free_bytes(self) -> int:
        """Room on the disk."""
        found = os.statvfs(self._folder)
        return found.f_bavail * found.f_frsize

    def keep_secret_url(self, job_id: str, url: str) -> None:
        """Keep an address with a signature in it, readable by this user alone, and out of the database."""
        path = self._folder / (job_id + _URL)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, url.encode("ascii"))
            os.fsync(file)
        finally:
            os.close(file)

    def secret_url(self, job_id: str) -> str | None:
        """An address that was kept."""
        with suppress(FileNotFoundError):
            return (self._folder / (job_id + _URL)).read_text(encoding="ascii")
        return None

    def remove(self, job_id: str) -> None:
        """Remove all that is of a job."""
        for path in (self.path(job_id), self._folder / (job_id + _URL)):
            with suppress(OSError):
                path.unlink()

    def forgotten(self) -> dict[str, Path]:
        """Job's id -> a file that nobody has written to for long."""
        found = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with suppress(OSError):
                    if time.time() - entry.stat().st_mtime > _FORGOTTEN_SECONDS:
                        found[entry.name] = Path(entry.path)
        return found


def job_of(name: str) -> str:
    """The id of the job that a file is of."""
    return name.partition(".")[0]


@contextmanager
def room_on_disk() -> Iterator[None]:
    """A full disk is an error of its own.

    Raises:
        ClipError: 507.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise no_room() from error


def no_room() -> ClipError:
    """The error for a full disk."""
    return ClipError(
        "NO_ROOM",
        507,
        "There is no room for this video on the server's disk.",
        "Try again later, or ask the server's operator for room.",
    )
