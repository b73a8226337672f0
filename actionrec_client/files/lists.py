"""Lists of labelled videos, as data sets bring them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_KINETICS = {"label", "youtube_id", "time_start", "time_end"}
_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi")


class ListError(Exception):
    """A list that cannot be read, and where."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One labelled video."""

    path: Path
    label: str
    """Its name, or the number of its class."""


def read_list(path: Path, videos: Path | None = None) -> Iterator[Entry]:
    """The entries of a list, in its order.

    Two forms are known by their first line:

    - Kinetics: CSV with ``label,youtube_id,time_start,time_end,split`` and more. The videos are files named
      ``<id>_<start6>_<end6>.mp4``, as the usual downloaders name them, in `videos` or a folder of the label
      in it. One that is under none of these names is an entry all the same, whose file is missing.
    - ``path label``: parted by a tab, else by the last comma, else by the first space. The label is a name or
      the number of a class.

    Args:
        path: of the list.
        videos: folder of the files; default: the list's.

    Raises:
        ListError: the list has no entry, or a line of another form.
    """
    folder = videos or path.parent
    count = 0
    with path.open(encoding="utf-8", newline="") as file:
        first = file.readline()
        file.seek(0)
        entries = _kinetics(file, folder) if _is_kinetics(first) else _plain(file, folder, path)
        for entry in entries:
            count += 1
            yield entry
    if not count:
        raise ListError(f"{path} names no video.")


def _is_kinetics(line: str) -> bool:
    return set(line.strip().split(",")) >= _KINETICS


def _kinetics(lines: Iterator[str], folder: Path) -> Iterator[Entry]:
    for row in csv.DictReader(lines):
        times = (row["time_start"] or "", row["time_end"] or "")
        if not row["youtube_id"] or not all(re.fullmatch(r"[0-9]{1,6}", time.strip()) for time in times):
            raise ListError(f"{row} is no row of a Kinetics list.")
        stem = f"{row['youtube_id']}_{int(times[0]):06d}_{int(times[1]):06d}"
        yield Entry(_existing(folder, row["label"], stem), row["label"])


def _existing(folder: Path, label: str, stem: str) -> Path:
    places = [
        folder / sub / f"{stem}{suffix}" for sub in ("", label, label.replace(" ", "_")) for suffix in _SUFFIXES
    ]
    return next((place for place in places if place.is_file()), places[0])


def _plain(lines: Iterator[str], folder: Path, path: Path) -> Iterator[Entry]:
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text:
            continue
        if "\t" in text:
            name, _, label = text.partition("\t")
        elif "," in text:
            name, _, label = text.rpartition(",")
        else:
            name, _, label = text.partition(" ")
        if not name.strip() or not label.strip():
            raise ListError(f"{path}, line {number} is not 'path label': {text[:60]!r}.")
        yield Entry(folder / name.strip(), label.strip())
