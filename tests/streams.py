"""Videos to play as streams, and servers that play them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from motion.recipe import random_scene
from testing.media import encode
from tests.conftest import DEADLINE_SECONDS, PROJECT
from tests.missing import lacks

SECONDS_EACH = 3.0
SYSTEM_PYTHON = "/usr/bin/python3"
GSTREAMER_PACKAGES = (
    "python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good "
    "gstreamer1.0-plugins-ugly"
)


def motion_video(
    *labels: str,
    fps: float = 30,
    size: tuple[int, int] = (320, 240),
    container: str = "mp4",
    seconds_each: float = SECONDS_EACH,
) -> bytes:
    """Scenes of the `motion` model one after the other, as H.264.

    Args:
        labels: of the scenes.
        fps: frames a second.
        size: width and height in pixels.
        container: FFmpeg's name of a muxer.
        seconds_each: length of a scene.
    """
    parts = []
    for number, label in enumerate(labels):
        times = np.arange(round(seconds_each * fps)) / fps
        scene = random_scene(np.random.default_rng(7 + number), label, 0.2, seconds=seconds_each, fps=fps)
        parts.append(scene.render(*size, times))
    options = {"g": "30", "bf": "2", "preset": "veryfast", "crf": "18"}
    return encode(np.concatenate(parts), fps, container=container, options=options)


class RtspServer:
    """A GStreamer RTSP server that plays a moving test picture at `url`, and can be killed and started again.

    Use it in a ``with`` statement.

    Args:
        fps: frames a second.
    """

    def __init__(self, fps: int = 30) -> None:
        self._fps = fps
        self._process: subprocess.Popen[str] | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """Of the stream."""
        return f"rtsp://127.0.0.1:{self._port}/live"

    def start(self) -> None:
        """Start it; again on the same port."""
        command = [
            SYSTEM_PYTHON,
            str(Path(__file__).with_name("rtsp_server.py")),
            str(self._port),
            str(self._fps),
        ]
        for _ in range(20):  # the port of a server that was killed may stay taken for a moment
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            assert self._process.stdout is not None
            if (line := self._process.stdout.readline()).strip():
                self._port = int(line)
                return
            self._process.wait()
            time.sleep(0.5)
        assert self._process is not None
        raise RuntimeError(f"no RTSP server: {self._process.communicate()[1]}")

    def kill(self) -> None:
        """End it as a power cut does."""
        assert self._process is not None
        self._process.kill()
        self._process.communicate()

    def freeze(self) -> None:
        """Let it hold its connections and send nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> RtspServer:
        require_gstreamer()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()


def require_gstreamer() -> None:
    """Skip where there is no GStreamer RTSP server; fail where `scripts/setup-tests` could install it."""
    probe = 'import gi; gi.require_version("GstRtspServer", "1.0"); gi.require_version("Gst", "1.0"); '
    probe += "from gi.repository import Gst, GstRtspServer; Gst.init(None); "
    probe += 'assert all(map(Gst.ElementFactory.find, ("x264enc", "rtph264pay", "videotestsrc")))'
    if subprocess.run([SYSTEM_PYTHON, "-c", probe], capture_output=True, check=False).returncode == 0:
        return
    lacks(f"RTSP is tested with GStreamer's server: apt-get install {GSTREAMER_PACKAGES}")


class StreamCommand:
    """``python -m actionrec_client stream ... --json`` in a process of its own. Use it in a ``with`` statement.

    Args:
        arguments: of the command.
    """

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "actionrec_client", "stream", *arguments, "--json"]
        self.process = subprocess.Popen(
            command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.events: list[dict[str, Any]] = []
        """All lines up to now."""
        self.error_lines: list[str] = []
        """Of stderr, up to now."""
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=read, daemon=True) for read in (self._read, self._read_errors)]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The events of one type up to now."""
        with self._changed:
            return [event for event in self.events if event["type"] == kind]

    def wait_for(self, kind: str, number: int = 1) -> dict[str, Any]:
        """Wait until there are so many events of a type; returns the last of them."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        with self._changed:
            while len(found := [event for event in self.events if event["type"] == kind]) < number:
                left = deadline - time.monotonic()
                gone = self.process.poll() is not None and not self._threads[0].is_alive()
                assert left > 0, f"no {kind} {number} in time: {self.events[-5:]} {self.errors}"
                assert not gone, f"no {kind} {number}: {self.events[-5:]} {self.errors}"
                self._changed.wait(min(left, 1.0))
            return found[number - 1]

    @property
    def errors(self) -> str:
        """What stands on stderr up to now, as one line."""
        return " ".join("".join(self.error_lines).split())

    def finish(self) -> int:
        """Wait for its end; returns the exit code."""
        code = self.process.wait(DEADLINE_SECONDS)
        for thread in self._threads:
            thread.join(DEADLINE_SECONDS)
        return code

    @property
    def megabytes(self) -> float:
        """Of memory that it has in use (RSS)."""
        return float(psutil.Process(self.process.pid).memory_info().rss / 1e6)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.events.append(json.loads(line))
                self._changed.notify_all()

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.error_lines.append(line)

    def __enter__(self) -> StreamCommand:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.finish()
