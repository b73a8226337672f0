"""A handler that can be broken from outside, for tests of what keeps a server up."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from export.archive import write_checksum

_SOURCE = '''
import importlib.util, json, os, signal, threading, time
from pathlib import Path

HOME = Path({home!r})
REAL = importlib.import_module("real_handler") if importlib.util.find_spec("real_handler") else None
RIGHT = {{"predictions": [{{"label": "walking", "score": 0.9}}], "model": {{"name": "fragile"}}}}

def faulty(fault):
    """What the file of a fault says beside pids, where this process has that fault; else None."""
    try:
        text = json.loads((HOME / fault).read_text())
    except FileNotFoundError:
        return None
    return text["value"] if not text["pids"] or os.getpid() in text["pids"] else None

class Fragile:
    def initialize(self, context):
        if faulty("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(faulty("load") or 0)
        self.real = REAL.SlowFastHandler() if REAL else None
        if self.real:
            self.real.initialize(context)

    def handle(self, data, context):
        while faulty("hang"):
            time.sleep(0.1)
        until = time.monotonic() + (faulty("work") or 0)
        while time.monotonic() < until:
            pass
        if status := faulty("errors"):
            for index in range(len(data)):
                context.set_response_status(status, "Broken", index)
            return [b'{{"error": {{"code": "DECODER_UNAVAILABLE"}}}}' for _ in data]
        if body := faulty("says"):
            return [body.encode() for _ in data]
        if self.real:
            return self.real.handle(data, context)
        for index in range(len(data)):
            context.metrics.add_time("InferenceTime", time.monotonic(), index, "ms")
        return [json.dumps(RIGHT | {{"pid": os.getpid()}}).encode() for _ in data]
'''


@dataclass(frozen=True)
class Faults:
    """The faults of all workers of one handler, each a file: ``die`` and ``load`` (seconds) at the start of a
    worker; ``hang``, ``work`` (seconds of CPU time), ``errors`` (a status), ``says`` (a body) at a request.
    """

    home: Path

    def source(self) -> str:
        """Of the handler. Beside a module ``real_handler`` it does what that one does, else it has no model."""
        return _SOURCE.format(home=str(self.home))

    @contextmanager
    def fault(self, name: str, value: float | str = 1, pids: Iterable[int] = ()) -> Iterator[None]:
        """While the block runs the workers with these pids have the fault; without pids all of them have it."""
        path = self.home / name
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps({"value": value, "pids": list(pids)}))
        partial.replace(path)
        try:
            yield
        finally:
            path.unlink()

    def into(self, archive: Path, store: Path, config: str = "") -> Path:
        """A copy of a project's archive whose handler can be broken so.

        Args:
            archive: of a real model.
            store: directory for the copy.
            config: lines that are added to its ``model-config.yaml``.
        """
        store.mkdir(parents=True, exist_ok=True)
        copy = store / archive.name
        with zipfile.ZipFile(archive) as source, zipfile.ZipFile(copy, "w") as target:
            for entry in source.infolist():
                content = source.read(entry)
                if entry.filename == "slowfast_handler.py":
                    target.writestr("real_handler.py", content)
                    content = self.source().encode()
                elif entry.filename == "model-config.yaml":
                    content += config.encode()
                target.writestr(entry, content)
        write_checksum(copy)
        return copy
