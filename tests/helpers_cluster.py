"""A Ray cluster of several nodes on this machine, and a batch on it that is killed in its course."""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
from ray.cluster_utils import Cluster

from motion.clips import random_clip
from motion.scene import LABELS
from tests.conftest import PROJECT
from tests.helpers_processes import command

NODES = 3
_NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
DEADLINE_SECONDS = 1800


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Three nodes of a core each. The driver connects to the first, which is never killed."""
    started = Cluster(initialize_head=True, head_node_args=_NODE)
    try:
        for _ in range(NODES - 1):
            started.add_node(**_NODE)
        yield started
    finally:
        started.shutdown()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Videos:
    """Files of all kinds, and a list that names some of them again."""

    folder: Path
    listed: Path
    """Names some of the folder's files again, and one that is not there."""
    names: frozenset[str]
    """Every file that is to have a row."""
    copies: int
    """How many of them have the bytes of another one."""
    repeated: int
    """Names in the list that are those of the folder."""


def make(root: Path, count: int, *, bad: int, copies: int) -> Videos:
    """Short clips of which no two are the same, but for copies.

    Args:
        root: an empty folder.
        count: files in the folder.
        bad: of them: no video, cut in half, empty.
        copies: of them: the bytes of another one.
    """
    clips = [
        random_clip(300 + number, label, "libx264", difficulty=0.3).data for number, label in enumerate(LABELS)
    ]
    folder = root / "videos"
    good = count - bad - copies
    contents = [numbered(clips[number % len(clips)], number) for number in range(good)]
    contents += [contents[number % good] for number in range(copies)]
    contents += [(b"", b"no video %d" % n, contents[n % good][: 2000 + n])[n % 3] for n in range(bad)]
    random.Random(7).shuffle(contents)
    for number, data in enumerate(contents):
        path = folder / f"{number % 7}" / f"clip {number:04d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    paths = sorted(folder.rglob("*.mp4"))
    again = [*paths[:5], paths[0], folder / "gone.mp4"]
    listed = root / "more.txt"
    listed.write_text("".join(f"{path}\n" for path in again), encoding="utf-8")
    names = frozenset(map(str, [*paths, folder / "gone.mp4"]))
    return Videos(folder, listed, names, count - len({*contents}), 6)


def numbered(mp4: bytes, number: int) -> bytes:
    """The same video with other bytes: an MP4's box that players pass over."""
    return mp4 + struct.pack(">I4sQ", 16, b"free", number)


class Run:
    """``actionrec batch --ray`` as a process of its own.

    Args:
        address: of the cluster.
        videos: what is to be computed.
        archive: the model.
        output: folder of the result.
    """

    def __init__(self, address: str, videos: Videos, archive: Path, output: Path) -> None:
        self.output = output
        self.command = [
            sys.executable,
            "-m",
            "actionrec_client",
            "batch",
            str(videos.folder),
            str(videos.listed),
        ]
        self.command += ["--archive", str(archive), "-o", str(output), "--ray", address, "--json"]

    def start(self, *more: str) -> subprocess.Popen[str]:
        """Start it."""
        return subprocess.Popen(
            [*self.command, *more],
            cwd=PROJECT,
            env=dict(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str], code: int) -> dict[str, Any]:
        """Its summary, when it has ended with this exit code."""
        out, err = process.communicate(timeout=DEADLINE_SECONDS)
        assert process.returncode == code, out + err
        assert out.startswith("{"), out + err  # and no traceback, whose exit code is 1 too
        return dict(json.loads(out))

    def parts(self) -> list[Path]:
        """The parts that are there."""
        return sorted(self.output.glob("part-*.parquet"))

    def wait_for(self, parts: int, process: subprocess.Popen[str]) -> None:
        """Wait until so many parts are there."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while len(self.parts()) < parts:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def rows(self) -> list[dict[str, Any]]:
        """All rows of the result."""
        return [row for part in self.parts() for row in pq.read_table(part).to_pylist()]


def kill_an_actor(choose: Callable[[list[psutil.Process]], psutil.Process]) -> None:
    """Kill -9 one of the processes that compute."""
    children = psutil.Process().children(recursive=True)
    actors = [child for child in children if " ".join(command(child)).startswith("ray::MapWorker")]
    assert actors, [command(child) for child in children]
    os.kill(choose(actors).pid, signal.SIGKILL)
