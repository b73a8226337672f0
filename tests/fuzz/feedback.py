"""One input decoded: what became of it and at what cost, which of that is new, and which is a finding."""

from __future__ import annotations

import logging
import re
import resource
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO
from unittest.mock import patch

import av
import av.logging
from actionrec.errors import ClipError
from actionrec.video import container
from actionrec.video.decode import windows
from av.codec.hwaccel import HWAccel
from av.container import InputContainer

from .case import LIMITS, SPEC, Case
from .layout import format_of

MEMORY_BYTES = 400 * 1_048_576
"""More than that above what the process had before is a finding."""
CPU_SECONDS = 2.0
"""More than that is one too."""
_BUCKET_SECONDS, _BUCKET_BYTES = 0.016, 16 * 1_048_576
"""What costs less than these is all alike; above, each doubling is something new."""
_VARYING = re.compile(
    r"""'[^']*'|"[^"]*"|\(.*|[^\x20-\x7e]+|\[[^\]]{1,16}\]|\b0x\w+|\b\w*\d\w*\b|tag \S+|AVCodecID \S+"""
)
"""In FFmpeg's log: the numbers, names and bytes of one file."""
_UNINVITED = frozenset(av.codecs_available - container.CODECS - set(container.CONTAINERS.split(",")))
_OF_FORMATS = re.compile(r"Format|.*not on whitelist")
"""What a demuxer writes under a name that a decoder has too, or FFmpeg of a decoder that it did not open."""
# What these write of a frame is its size and time, which are no behaviour.
_TALKATIVE = frozenset({"buffer", "crop", "transpose", "hflip", "vflip", "format"})


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What one input did."""

    outcome: str
    """``200``, status and code of the error, or what should not be: ``internal``, ``crash``, ``timeout``, and
    ``differs`` where the sandbox gives another."""
    demuxer: str = ""
    """FFmpeg's; empty where the file could not be opened."""
    codec: str = ""
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    """Of memory, above what the process had before."""
    views: int = 0
    frames: int = 0
    """In all windows."""
    warnings: frozenset[str] = frozenset()
    shapes: frozenset[str] = frozenset()
    """What FFmpeg wrote to its log, without the numbers."""
    uninvited: frozenset[str] = frozenset()
    """Decoders that are not let in, and wrote to FFmpeg's log: they have run."""
    error: str = ""
    """The traceback of an ``internal``."""

    @property
    def finding(self) -> str:
        """Which kind of finding it is; empty where it is none."""
        if self.outcome in ("internal", "crash", "timeout", "differs"):
            return self.outcome
        if self.uninvited:
            return "uninvited"
        if self.peak_bytes > MEMORY_BYTES:
            return "memory"
        return "slow" if self.cpu_seconds > CPU_SECONDS else ""

    def signature(self, data: bytes) -> str:
        """The same for findings that are likely the same."""
        if self.outcome == "internal":
            own = re.findall(r'actionrec/([\w/.]+)", line \d+, in (\w+)', self.error)
            last = self.error.strip().rpartition("\n")[2].partition(":")[0]
            return f"internal {' '.join(own[-1]) if own else ''} {last}"
        if self.outcome == "differs":
            return f"differs {self.error.partition(chr(10))[0]}"
        if self.finding == "uninvited":
            return f"uninvited {' '.join(sorted(self.uninvited))}"
        return f"{self.finding} {self.demuxer or format_of(data)} {self.codec}".strip()

    def features(self) -> set[str]:
        """What counts as behaviour; an input with one that no other has is kept."""
        kind = f"{self.demuxer} {self.codec}"
        cost = f"{_bucket(self.cpu_seconds, _BUCKET_SECONDS)} {_bucket(self.peak_bytes, _BUCKET_BYTES)}"
        size = f"{_bucket(self.views, 1)} {_bucket(self.frames, 1)}"
        said = " ".join(sorted(self.warnings))
        return {
            f"{kind} {self.outcome} cost {cost}",
            f"{kind} {self.outcome} size {size} {said}",
            *(f"{kind} said {shape}" for shape in self.shapes),
        }


def _bucket(value: float, smallest: float) -> int:
    return int(value / smallest).bit_length()


@dataclass(slots=True)
class _Opened:
    """The names that a file's first opening gave."""

    demuxer: str = ""
    codec: str = ""


@contextmanager
def _noting() -> Iterator[_Opened]:
    """Notes what FFmpeg takes a file for: the sandbox's parent is not told."""
    real, found = container.open_container, _Opened()

    def opening(
        file: BinaryIO, formats: str = container.CONTAINERS, hardware: HWAccel | None = None
    ) -> InputContainer:
        opened = real(file, formats, hardware)
        found.demuxer = opened.format.name.split(",")[0]
        stream = container.first_video(opened)
        if stream is not None and stream.codec_context is not None:
            found.codec = stream.codec_context.name
        return opened

    with patch.object(container, "open_container", opening):
        yield found


@cache
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1)


def _memory(name: str) -> int:
    """A line of this process's status, in bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    found = re.search(rf"^{name}:\s+(\d+) kB", status, re.M)
    if found is None:
        raise OSError(f"no {name} in /proc/self/status")
    return int(found[1]) * 1024


def _shape(message: str) -> str:
    """A log message without what differs from file to file."""
    line = message.strip().partition("\n")[0]
    return re.sub(r"(#\W*)+", "# ", _VARYING.sub("#", line))[:60]


def limit_memory() -> None:
    """What a decoding child may have, for a process that has imported all that it needs."""
    most = _memory("VmSize") + LIMITS.memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def observe(case: Case) -> Behaviour:
    """Decode a case here, in this process, which may die of it."""
    # Sets the peak back to what is there now.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before, cpu = _memory("VmHWM"), time.process_time()
    views = frames = 0
    warnings: set[str] = set()
    error = ""
    av.logging.set_level(av.logging.VERBOSE)
    with _noting() as opened, av.logging.Capture(local=False) as logs:
        try:
            for view in windows(case.data, SPEC, case.selection, LIMITS, _thread()):
                views += 1
                frames += view.source_frames
                warnings.update(warning.code for warning in view.warnings)
            outcome = "200"
        except ClipError as refusal:
            outcome = f"{refusal.status} {refusal.code}"
            if not 400 <= refusal.status < 500:
                outcome, error = "internal", str(refusal)
        except Exception:
            # That nothing else is raised is what is tried here.
            outcome, error = "internal", traceback.format_exc()
    return Behaviour(
        outcome,
        opened.demuxer,
        opened.codec,
        time.process_time() - cpu,
        max(0, _memory("VmHWM") - before),
        views,
        frames,
        frozenset(warnings),
        frozenset(f"{name}: {_shape(text)}" for _, name, text in logs if name not in _TALKATIVE),
        frozenset(name for _, name, text in logs if name in _UNINVITED and not _OF_FORMATS.match(text)),
        error,
    )


logging.getLogger("libav").setLevel(logging.CRITICAL)
