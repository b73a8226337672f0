"""Label Studio's video timeline labels -> spans in seconds.

Its JSON and JSON-MIN exports say in which frames a label is to be seen, counted from 1, the last one included.
A frame is no frame of the file there: Label Studio's player multiplies its clock by the frame rate of the
labelling configuration (``<Video frameRate>``, 24 unless somebody sets it), and the export does not say which
that is. So the rate comes from, in this order:

1. whoever learns: FRAME_RATE;
2. the task's data (``fps``, ``frame_rate``), which ``frameRate="$fps"`` reads;
3. ``framesCount`` and ``duration``, where a result has them;
4. the file: frame 10 is its tenth frame, with that one's own timestamp. This is right where the configuration
   has the file's rate, and a note says so.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from actionrec.errors import ClipError
from actionrec.problems import problem
from actionrec.video.container import Source, stamp_of

from actionrec_client.files.find import SUFFIXES

from ..errors import DataError
from .labelled import Labelled, LeftOut

_RATE_NAMES = frozenset({"fps", "framerate"})
_HINT = "It is Label Studio's JSON or JSON-MIN export of a project with TimelineLabels."
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")
"""What Label Studio puts before the name of an uploaded file."""


@dataclass(frozen=True)
class Export:
    """What an export has."""

    parts: list[Labelled]
    left_out: list[LeftOut]
    notes: list[str]


@dataclass(frozen=True)
class _Region:
    """A labelled stretch of frames, counted from 1."""

    label: str
    first: int
    last: float
    """The file's end where it is infinite."""
    rate: float | None
    """Frames a second, where the result says it."""


def read(source: Path, videos: Path, frame_rate: float | None) -> Export:
    """Read an export.

    Args:
        source: the JSON file.
        videos: folder in which the videos are looked for by their names.
        frame_rate: that of the labelling configuration; None: see above.

    Raises:
        DataError: it is no such export.
    """
    try:
        tasks = json.loads(source.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{source} cannot be read: {error}", _HINT) from error
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise DataError(f"{source} is no list of tasks", _HINT)
    found = _Files(videos)
    parts: list[Labelled] = []
    left_out: dict[str, LeftOut] = {}
    without_labels, by_file = 0, 0
    for task in tasks:
        data = task.get("data") if isinstance(task.get("data"), dict) else task
        regions = list(_regions(task))
        if not regions:
            without_labels += 1
            continue
        name = _video(data)
        if name is None:
            raise DataError(f"{source}: task {task.get('id')} names no video", _HINT)
        path = found.get(name)
        if path is None:
            left_out[name] = LeftOut(Path(name), f"no such file in {videos}")
            continue
        clock = _Clock(path, frame_rate or _stated_rate(data))
        for region in regions:
            try:
                parts.append(clock.part(region))
            except (ClipError, OSError, _BeyondEnd) as error:
                left_out[name] = LeftOut(path, getattr(error, "message", None) or str(error))
        by_file += clock.used
    notes = []
    if without_labels:
        notes.append(f"{without_labels} tasks of {source.name} have no timeline labels")
    if by_file:
        notes.append(
            f"{source.name} does not say by which frame rate it counts: frames of {by_file} videos are taken "
            "for those of the file. If the labelling configuration has another rate (Label Studio's own is "
            "24), give it: FRAME_RATE=24"
        )
    return Export(parts, list(left_out.values()), notes)


def _regions(task: Mapping[str, Any]) -> Iterator[_Region]:
    """The regions of a task of either export."""
    annotations = task.get("annotations")
    if isinstance(annotations, list):
        results = _chosen(annotations)
        values = [result.get("value") for result in results if isinstance(result, dict)]
    else:
        values = [value for field in task.values() if isinstance(field, list) for value in field]
    for value in values:
        if not isinstance(value, dict) or not isinstance(value.get("timelinelabels"), list):
            continue
        rate = None
        if _number(value.get("framesCount")) and _number(value.get("duration")):
            rate = value["framesCount"] / value["duration"]
        for span in value.get("ranges") or ():
            first, last = span.get("start"), span.get("end")  # either may be open: null
            if not (_number(first) or _number(last)):
                continue
            for label in value["timelinelabels"]:
                yield _Region(
                    str(label).strip(),
                    max(1, int(first)) if _number(first) else 1,
                    int(last) if _number(last) else math.inf,
                    rate,
                )


def _chosen(annotations: Sequence[Any]) -> list[Any]:
    """The results of one annotation of a task: the one that is marked as the truth, else the newest."""
    kept = [one for one in annotations if isinstance(one, dict) and not one.get("was_cancelled")]
    if not kept:
        return []
    best = max(
        kept,
        key=lambda one: (bool(one.get("ground_truth")), str(one.get("updated_at", "")), one.get("id") or 0),
    )
    results = best.get("result")
    return results if isinstance(results, list) else []


def _video(data: Mapping[str, Any]) -> str | None:
    """The name of a task's video: the field ``video``, or the only one that looks like a video's."""
    if isinstance(data.get("video"), str):
        return str(data["video"])
    names = [
        value for value in data.values() if isinstance(value, str) and _local(value).suffix.lower() in SUFFIXES
    ]
    return names[0] if len(names) == 1 else None


def _stated_rate(data: Mapping[str, Any]) -> float | None:
    for name, value in data.items():
        if name.lower().replace("_", "") in _RATE_NAMES:
            try:
                rate = float(value)
            except (TypeError, ValueError):
                continue
            if 0 < rate < math.inf:
                return 1 / rate if rate < 1 else rate  # Label Studio takes a frame's seconds too
    return None


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _local(name: str) -> PurePosixPath:
    """The path in a task's address of a video: an upload, a local file, an address elsewhere."""
    address = urlsplit(name)
    served = parse_qs(address.query).get("d") if address.path.endswith("/local-files/") else None
    return PurePosixPath(served[0] if served else unquote(address.path))


class _Files:
    """The files of a folder, found by the end of a path."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._by_name: dict[str, list[Path]] = {}
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self._by_name.setdefault(path.name, []).append(path)

    def get(self, name: str) -> Path | None:
        """The file that shares the longest end with the path in a task's address; None where there is none."""
        wanted = _local(name)
        for file in (wanted.name, _UPLOADED.sub("", wanted.name)):
            paths = self._by_name.get(file, ())
            if paths:
                return max(paths, key=lambda path: _common_end(path.parts, wanted.parts))
        return None


def _common_end(one: Sequence[str], other: Sequence[str]) -> int:
    common = 0
    for left, right in zip(reversed(one), reversed(other), strict=False):
        if left != right:
            break
        common += 1
    return common


class _BeyondEnd(ValueError):
    """A region begins after the file's last frame."""


class _Clock:
    """Turns the frames of a video into seconds."""

    def __init__(self, path: Path, rate: float | None) -> None:
        self._path, self._rate = path, rate
        self._times: list[float] = []

    @property
    def used(self) -> bool:
        """Whether the file's own frames were counted."""
        return bool(self._times)

    def part(self, region: _Region) -> Labelled:
        """A region in seconds.

        Raises:
            ClipError, OSError: the file is no video, or cannot be read.
            _BeyondEnd: the file has fewer frames.
        """
        rate = self._rate or region.rate
        if rate:
            end = None if region.last == math.inf else region.last / rate
            return Labelled(self._path, region.label, (region.first - 1) / rate, end)
        if not self._times:
            self._times = frame_seconds(self._path)
        count = len(self._times)
        if region.first > count:
            raise _BeyondEnd(
                f"{region.label!r} begins at frame {region.first} of {count}: has FRAME_RATE another value?"
            )
        end = self._times[int(region.last)] if region.last < count else None
        return Labelled(self._path, region.label, self._times[region.first - 1], end)


def frame_seconds(path: Path) -> list[float]:
    """When each frame of a video is shown, in seconds from the first one; nothing is decoded.

    Raises:
        ClipError: it cannot be read.
    """
    with Source(path.read_bytes()) as source:
        stamps = [stamp_of(packet) for packet in source.demux()]
        if source.counted:
            return [float(index * source.ticks_per_frame * source.time_base) for index in range(len(stamps))]
        shown = sorted({stamp for stamp in stamps if stamp is not None})
        if not shown:
            raise problem("empty_stream")
        return [float((stamp - shown[0]) * source.time_base) for stamp in shown]
