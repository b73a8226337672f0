"""What the user names -> shards of names. A folder or a list is read as it goes, however long it is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from actionrec_client.files.find import LIST_SUFFIXES, find

from .files import NAMES, Row, write
from .plan import names_folder

_FEWEST, _MOST = 16, 50_000
"""Names of a shard: a sixteenth of those that were listed before, so that few make several shards and many not
too many."""


def shards(folder: Path, inputs: Sequence[str]) -> tuple[int, int]:
    """Write the names that the inputs lead to.

    Args:
        folder: of the run.
        inputs: folders, patterns in the shell's way, lists (a path a line), or files.

    Returns:
        The number of names and that of shards.

    Raises:
        FileNotFoundError: nothing is there by a name.
    """
    place = names_folder(folder)
    shutil.rmtree(place, ignore_errors=True)  # of a listing that came to no end
    count, number, rows = 0, 0, list[Row]()

    def write_shard() -> None:
        nonlocal number, rows
        write(place / f"{number:05d}.arrow", NAMES, [rows])
        number, rows = number + 1, []

    for name in inputs:
        for path in _names(name):
            rows.append({"path": os.fsencode(path), "place": os.fsencode(_place(path))})
            count += 1
            if len(rows) >= min(max(count // 16, _FEWEST), _MOST):
                write_shard()
    if rows:
        write_shard()
    return count, number


def _names(name: str) -> Iterator[Path]:
    path = Path(name)
    if path.suffix.lower() not in LIST_SUFFIXES or not path.is_file():
        yield from find([name])
        return
    with path.open(encoding="utf-8") as lines:  # `find` would hold them all, to find those that are there twice
        for line in lines:
            if text := line.strip():
                yield path.parent / text


def _place(path: Path) -> str:
    """The path with the links to its folders resolved: two names of one place are one file."""
    return f"{_folder(path.parent)}/{path.name}"


@lru_cache(4096)
def _folder(path: Path) -> str:
    return os.path.realpath(path)
