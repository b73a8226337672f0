"""What a user names -> video files: folders, patterns, lists."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mpg", ".mpeg"}
    | {".flv", ".wmv", ".ogv", ".ogg", ".gif", ".ivf", ".h264", ".hevc"}
)
"""Of the files that are taken from a folder. A file that the user names is taken whatever its suffix."""
LIST_SUFFIXES = frozenset({".txt", ".lst", ".list"})


def find(inputs: Sequence[str]) -> Iterator[Path]:
    """Each file once, in a stable order. Files are looked for as they are asked for, however many there are.

    Args:
        inputs: folders (searched through), patterns (``clips/**/*.mp4``), text files with a path a line
            (relative ones from the list's folder), or video files.

    Raises:
        FileNotFoundError: nothing is there by that name.
    """
    seen: set[str] = set()
    for name in inputs:
        for path in _expand(name):
            if len(inputs) == 1 and not _is_list(name):
                yield path  # a folder or a pattern gives nothing twice
            elif (place := _place(path)) not in seen:
                seen.add(place)
                yield path


def name_of(path: Path) -> str:
    """What a file is called in results: its path. Bytes in it that are no UTF-8 are written as escapes."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def _expand(name: str) -> Iterator[Path]:
    path = Path(name)
    if path.is_dir():
        yield from _walk(path)
    elif _is_list(name):
        yield from _listed(path)
    elif path.exists():
        yield path
    elif glob.has_magic(name):
        yield from _matching(name)
    else:
        raise FileNotFoundError(name)


def _matching(pattern: str) -> list[Path]:
    """The files that a pattern names, sorted, each once.

    A pattern with ``**/**`` finds a file several times, and links between folders give it several names. The
    shortest name is taken.
    """
    matches = {Path(match) for match in glob.iglob(pattern, recursive=True)}  # noqa: PTH207  # relative and absolute
    found: dict[str, Path] = {}
    for path in sorted(matches, key=lambda path: (len(path.parts), path)):
        if path.is_file():
            found.setdefault(_place(path), path)
    return sorted(found.values())


def _place(path: Path) -> str:
    """The path of a file with the links to its folders resolved. A link to the file itself stays: in data sets
    such links have the names that say something.
    """
    return str(Path(os.path.realpath(path.parent)) / path.name)


def _is_list(name: str) -> bool:
    path = Path(name)
    return path.suffix.lower() in LIST_SUFFIXES and path.is_file()


def _walk(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders.sort()
        for file in sorted(files):
            if Path(file).suffix.lower() in SUFFIXES:
                yield Path(root) / file


def _listed(path: Path) -> Iterator[Path]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if text := line.strip():
                yield path.parent / text
