"""A file of JSON lines that survives a kill at any moment.

Each line is written whole and synced to the disk. An unfinished last line is dropped when the file is opened.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

_BLOCK = 1 << 16


class JournalError(Exception):
    """A journal that cannot be used, and what to do about it."""


class Journal:
    """One record for each video that was answered or refused. Use it in a ``with`` statement.

    When `add` returns, the record is on the disk, so no video need be sent twice. Two processes cannot have the
    same journal open.

    Args:
        path: of the journal.
        request: what is asked for every video. It stands in each record. A journal that was made with another
            request is refused, since its records could not be compared with new ones.
        resume: continue a journal that exists, and do not refuse it.

    Raises:
        JournalError: the journal exists and `resume` is not set, another process has it open, or the file is
            no journal.
    """

    def __init__(self, path: Path, request: Mapping[str, Any], *, resume: bool) -> None:
        self.path = path
        self.request = dict(request)
        if path.exists() and path.stat().st_size and not resume:
            raise JournalError(f"{path} is there already. Use --resume to go on with it, or another name.")
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: a record is written by one call, whole or (where the disk is full) as an error.
        self._file = FileIO(path, "a+")
        try:
            self._lock()
            self._drop_torn_line()
            self.done = self._read_done()
        except BaseException:
            self._file.close()
            raise

    def add(self, file: str, record: Mapping[str, Any]) -> None:
        """Write the record of a video, and return when it is on the disk.

        Args:
            file: name of the video; each may be added once.
            record: more fields, which JSON can hold.
        """
        line = json.dumps({"file": file, "request": self.request, **record}, ensure_ascii=False) + "\n"
        data = line.encode("utf-8", "backslashreplace")  # a lone surrogate becomes its own JSON escape
        while data:
            data = data[self._file.write(data) :]
        os.fsync(self._file.fileno())
        self.done.add(file)

    def close(self) -> None:
        """Give up the file and its lock."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise JournalError(f"{self.path} is being written by another process.") from error

    def _drop_torn_line(self) -> None:
        """Remove a last line without an end, which a kill during a write leaves. Its video is sent again."""
        size = end = self._file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - _BLOCK)
            self._file.seek(start)
            newline = self._file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end != size:
            self._file.truncate(end)

    def _read_done(self) -> set[str]:
        done = set()
        for record in records(self.path):
            if record.get("request") != self.request:
                made = json.dumps(record.get("request"))
                now = json.dumps(self.request)
                raise JournalError(f"{self.path} was made with the options {made}, not {now}.")
            done.add(str(record["file"]))
        return done


def records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a journal, in the order in which they were added.

    Raises:
        JournalError: a line is not a record.
    """
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if not isinstance(record, dict) or "file" not in record:
                raise JournalError(f"{path}, line {number} is not a record of this program: {line[:60]!r}")
            yield record
