"""The program that learns. It runs from a checkout: the gateway, which is installed, never imports it."""

from __future__ import annotations

import asyncio
import csv
import importlib.util
import os
import signal
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from ..labels import Span
from . import child
from .learning import Method
from .videos import Video

_NEEDS = ("torch", "torchvision", "sklearn")
"""Packages that learning needs and a server's host may lack."""
_PRIVATE = ("GATEWAY_", "OTEL_", "AIP_", "DATABASE_URL", "FETCH", "PYTHONPATH")
"""How the names of variables begin that are none of its business."""
ARCHIVE, REPORT = ".mar", ".report.html"
_INTERRUPTS, _END_SECONDS = 5, 2.0
"""How often a run is interrupted, and its time to end by itself each time. An interrupt that comes while
packages are imported may be lost on them."""


def project() -> Path | None:
    """The folder that the program runs in; None: this host cannot learn."""
    try:
        found = importlib.util.find_spec("export")
        lacking = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    except (ImportError, ValueError):
        return None
    places = [] if lacking or found is None else found.submodule_search_locations or []
    return next((Path(place).parent for place in places if (Path(place) / "learn" / "cli.py").is_file()), None)


def command(*, data: Path, videos: Path, name: str, model: Path, method: Method, store: Path) -> list[str]:
    """What is run.

    Args:
        data: the list of spans; see `write_list`.
        videos: the folder that its paths start from.
        name: of the archive.
        model: the archive that it is learned on.
        method: `head` or `finetune`.
        store: the folder that the new one goes to.
    """
    learn = [sys.executable, "-m", "export", "learn", "--json", "--data", str(data), "--videos", str(videos)]
    learn += ["--name", name, "--model", str(model), "--method", method]
    learn += ["--store", str(store)]
    return [sys.executable, str(Path(child.__file__)), str(os.getpid()), *learn]


def environment() -> dict[str, str]:
    """Its variables: those of this process, without the gateway's own, some of which are secret."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_PRIVATE)}


def write_list(path: Path, spans: Iterable[Span], videos: Mapping[str, Video]) -> None:
    """Write the list of what is to be learned as CSV.

    Args:
        path: of the list.
        spans: with the names of videos as the client has them.
        videos: by these names.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("path", "label", "start_seconds", "end_seconds"))
        for span in spans:
            table.writerow((videos[span.video].file, span.label, span.start_seconds, span.end_seconds))


async def stop(process: asyncio.subprocess.Process) -> None:
    """End it with all its children."""
    for _ in range(_INTERRUPTS):
        if process.returncode is not None:
            break
        process.send_signal(signal.SIGINT)  # so that it leaves no half archive behind
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _END_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
