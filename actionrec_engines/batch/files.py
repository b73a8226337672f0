"""The files of a run: Arrow with a batch for each group or part, written whole or not at all."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

NAMES = pa.schema([("path", pa.binary()), ("place", pa.binary())])
"""A name as the system has it, and where it leads."""
_CONTENT = [("sha256", pa.string()), ("error", pa.string())]
"""The digest; or null, and as JSON why the file cannot be read."""
HASHED = pa.schema([*NAMES, *_CONTENT])
GROUPED = pa.schema([("paths", pa.list_(pa.binary())), *_CONTENT])
"""A content, and all the names that it has."""
Row = dict[str, Any]


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` at the end, on the disk, where nothing went wrong.

    The name is nobody else's: two processes that write the same file do not meet.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(
        f".{path.name}.{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.partial"
    )
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write(path: Path, schema: pa.Schema, batches: Iterable[Sequence[Mapping[str, Any]]]) -> None:
    """Write rows in batches, some of which may be empty."""
    with whole(path) as partial, pa.ipc.new_file(partial, schema) as writer:
        for rows in batches:
            writer.write_batch(pa.RecordBatch.from_pylist(list(rows), schema=schema))


def read(path: Path, batch: int) -> list[Row]:
    """The rows of one batch; only that is read."""
    with pa.memory_map(str(path)) as file:
        rows: list[Row] = pa.ipc.open_file(file).get_batch(batch).to_pylist()
    return rows


def read_all(path: Path) -> Iterator[Row]:
    """All rows, a batch at a time."""
    with pa.memory_map(str(path)) as file:
        reader = pa.ipc.open_file(file)
        for number in range(reader.num_record_batches):
            yield from reader.get_batch(number).to_pylist()
