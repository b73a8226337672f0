"""Labelled videos -> examples: which part of which video shows which label.

A folder has a folder for each label. A table is CSV: ``path,label[,start_seconds,end_seconds]``. Label Studio's
export is JSON (`label_studio`).
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from actionrec_client.files.find import find

from ..errors import DataError
from . import label_studio
from .labelled import Labelled, LeftOut

LEAST_VIDEOS = 5
"""Videos that a label needs: an honest accuracy takes folds without a video in common."""
MOST_IN_COMMON = 0.1
"""Part of the shorter of two spans that may have another label too: edges are seldom set to the frame."""
_SHOWN = 3
_COLUMNS = ("path", "label", "start_seconds", "end_seconds")


@dataclass(frozen=True, slots=True)
class Example:
    """A labelled part of a video that can be read."""

    path: Path
    label: str
    start_seconds: float
    """Seconds from the video's first frame."""
    end_seconds: float | None
    """The same; None: the video's end."""
    sha256: str
    """Hex digest of the file: what is equal is one video, whatever it is called."""

    @property
    def whole(self) -> bool:
        """Whether it is the whole video."""
        return self.start_seconds == 0 and self.end_seconds is None


@dataclass(frozen=True)
class Listing:
    """What is learned from."""

    examples: tuple[Example, ...]
    """In an order that the content alone decides."""
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = field(default=())
    """What else the user should know, a line each."""

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, in alphabetical order: that of the classes."""
        return tuple(sorted({example.label for example in self.examples}))

    @property
    def sha256(self) -> str:
        """Hex digest of the examples' contents, labels and spans; names of files play no part."""
        rows = (
            f"{one.sha256}\t{one.label}\t{one.start_seconds!r}\t{one.end_seconds!r}\n" for one in self.examples
        )
        return hashlib.sha256("".join(rows).encode()).hexdigest()

    def videos(self) -> dict[str, int]:
        """Label -> number of different videos."""
        found: dict[str, set[str]] = defaultdict(set)
        for example in self.examples:
            found[example.label].add(example.sha256)
        return {label: len(found[label]) for label in self.labels}

    def without(self, left_out: Mapping[Example, str]) -> Listing:
        """The list without examples (with the reason of each) that turned out to be unreadable."""
        reasons = dict.fromkeys(LeftOut(example.path, reason) for example, reason in left_out.items())
        kept = tuple(example for example in self.examples if example not in left_out)
        return Listing(kept, (*self.left_out, *reasons), self.notes)

    def check(self) -> None:
        """Raise `DataError` where there is too little to learn from."""
        gone = f" ({_some([f'{one.path}: {one.reason}' for one in self.left_out])})" if self.left_out else ""
        if not self.examples:
            raise DataError(
                f"no video that can be read{gone}",
                "DATA is a folder with a folder for each label, a CSV of path,label, or Label Studio's JSON.",
            )
        videos = self.videos()
        if len(videos) < 2:
            raise DataError(
                f"there is one label only: {self.labels[0]}",
                "Add clips of something else, even if it is called 'other'.",
            )
        few = [f"{label} has {count}" for label, count in videos.items() if count < LEAST_VIDEOS]
        if few:
            without = f"; left out: {gone[2:-1]}" if gone else ""
            raise DataError(
                f"a label needs {LEAST_VIDEOS} different videos: {_some(few)}{without}",
                "Spans of one video count once: what is learned is measured on videos that it has not seen.",
            )


def read(source: Path, videos: Path | None = None, frame_rate: float | None = None) -> Listing:
    """Read a list of labelled videos.

    Args:
        source: a folder, a CSV file, or a JSON file.
        videos: the folder that the paths of a CSV or JSON file start from; None: that of the file.
        frame_rate: frames a second by which a Label Studio project counts; None: see `label_studio`.

    Raises:
        DataError: it is none of them, a line of it is wrong, or a video has two labels at once. Whether there
            is enough is for `Listing.check` to say.
    """
    notes: list[str] = []
    left_out: list[LeftOut] = []
    if source.is_dir():
        parts = _folders(source)
    elif not source.is_file():
        raise DataError(f"DATA={source} does not exist", "Name a folder, a CSV file or Label Studio's JSON.")
    elif source.suffix.lower() == ".json":
        export = label_studio.read(source, videos or source.parent, frame_rate)
        parts = export.parts
        left_out += export.left_out
        notes += export.notes
    else:
        parts = _table(source, videos or source.parent)
    found, unread = _hashed(parts)
    examples, copies = _distinct(found)
    if copies:
        notes.append(f"{copies} copies of videos that have the same label already are left out")
    _check_labels(examples)
    return Listing(examples, (*left_out, *unread), tuple(notes))


def _folders(source: Path) -> list[Labelled]:
    folders = sorted(path for path in source.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise DataError(f"DATA={source} has no folders", "It has a folder of videos for each label.")
    return [Labelled(path, folder.name) for folder in folders for path in find([str(folder)])]


def _table(source: Path, videos: Path) -> list[Labelled]:
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            missing = [name for name in _COLUMNS[:2] if name not in (table.fieldnames or ())]
            if missing:
                raise DataError(
                    f"{source} has no column {' and '.join(missing)}; its first line is "
                    f"{','.join(table.fieldnames or ())[:80]!r}",
                    f"Its first line names the columns: {','.join(_COLUMNS)}; the last two may be missing.",
                )
            return [_row(row, videos, f"{source}, line {table.line_num}") for row in table]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{source} cannot be read: {error}", "It is CSV in UTF-8.") from error


def _row(row: Mapping[str, str | None], videos: Path, where: str) -> Labelled:
    path, label, start, end = ((row.get(name) or "").strip() for name in _COLUMNS)
    if not path or not label:
        raise DataError(f"{where} has no {'label' if path else 'path'}", "Each line has a path and a label.")
    start_seconds = _seconds(start, where) or 0.0
    end_seconds = _seconds(end, where)
    if end_seconds is not None and end_seconds <= start_seconds:
        raise DataError(f"{where} ends at {end} s, which is not after {start or 0} s", "end_seconds is later.")
    return Labelled(videos / path, label, start_seconds, end_seconds)


def _seconds(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise DataError(f"{where} has {text!r} in the place of seconds", "Seconds from the start, as in 12.5.")
    return seconds


def _hashed(parts: Iterable[Labelled]) -> tuple[list[Example], list[LeftOut]]:
    """The spans of videos that are there, in a stable order; each file is read once."""
    digests: dict[Path, str | LeftOut] = {}
    examples: list[Example] = []
    for part in parts:
        if "\n" in part.label or "\r" in part.label:
            raise DataError(f"the label {part.label!r} has more than one line", "Labels are names.")
        digest = digests.get(part.path) or digests.setdefault(part.path, _digest(part.path))
        if isinstance(digest, str):
            examples.append(Example(part.path, part.label, part.start_seconds, part.end_seconds, digest))
    return examples, [digest for digest in digests.values() if isinstance(digest, LeftOut)]


def _digest(path: Path) -> str | LeftOut:
    try:
        if not path.stat().st_size:
            return LeftOut(path, "it is empty")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return LeftOut(path, error.strerror or str(error))


def _distinct(examples: Iterable[Example]) -> tuple[tuple[Example, ...], int]:
    """Each content, label and span once, in their order, and how many copies there were."""

    def key(one: Example) -> tuple[str, str, float, float, str]:
        end = math.inf if one.end_seconds is None else one.end_seconds
        return one.label, one.sha256, one.start_seconds, end, str(one.path)

    ordered = sorted(examples, key=key)
    kept = [next(group) for _, group in itertools.groupby(ordered, key=lambda one: key(one)[:-1])]
    return tuple(kept), len(ordered) - len(kept)


def _check_labels(examples: Sequence[Example]) -> None:
    """Refuse a part of a video that has two labels."""
    of_video: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        of_video[example.sha256].append(example)
    for same in of_video.values():
        for one, other in itertools.combinations(same, 2):
            if one.label != other.label and _share_in_common(one, other) > MOST_IN_COMMON:
                names = dict.fromkeys((_name(one), _name(other)))
                raise DataError(
                    f"the same video has two labels, {one.label!r} and {other.label!r}: {' and '.join(names)}",
                    "A part of a video has one label: remove one of the two.",
                )


def _share_in_common(one: Example, other: Example) -> float:
    """How much of the shorter of two spans lies in the other, 0 to 1."""
    ends = [math.inf if each.end_seconds is None else each.end_seconds for each in (one, other)]
    starts = [one.start_seconds, other.start_seconds]
    shorter = min(end - start for start, end in zip(starts, ends, strict=True))
    common = min(ends) - max(starts)
    if shorter == math.inf:
        return 1.0
    return common / shorter


def _name(example: Example) -> str:
    if example.whole:
        return str(example.path)
    end = "end" if example.end_seconds is None else f"{example.end_seconds:g}"
    return f"{example.path} from {example.start_seconds:g} to {end} s"


def _some(names: Sequence[str]) -> str:
    """The first few, and how many there are."""
    return ", ".join(names[:_SHOWN]) + (f" ({len(names)} in all)" if len(names) > _SHOWN else "")
