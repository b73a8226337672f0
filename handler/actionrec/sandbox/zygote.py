"""``python -m actionrec.sandbox.zygote``: the process that decoding children are forked from.

    worker                               zygote                              child
      fork, descriptors ->                 fork ------------------------------> confine, {ready} to the worker
                                        <- process id                           requests of one client, then its
                                        end
      look, process id ->               <- whether the child is alive and not stopped
      reap, process id ->               <- its exit status

It has imported PyAV, OpenCV and numpy (no torch), and has used them once, so a child is ready in milliseconds.
It never sees a byte of a video, so nothing that a video does to one child's memory reaches another child.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import importlib
import io
import json
import os
import pkgutil
import signal
import socket
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from functools import partial
from typing import cast

import av
import cv2
from av.video.stream import VideoStream

from ..errors import ClipError
from ..limits import Limits
from ..sampling import Selection
from ..spec import ClipSpec
from ..video.decode import Decoded, windows
from . import confine, wire
from .child import described, live

_FD_COUNT = 3
"""Descriptors that come with each fork order: the child's socket, its shared memory, its standard error."""


_WARM_UP_SPEC = ClipSpec(short_side=32, crop=32)


def _tiny(codec: str, container: str) -> bytes:
    """A video of three black frames."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = cast(VideoStream, output.add_stream(codec, rate=30))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(3):
            output.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        output.mux(stream.encode(None))
    return file.getvalue()


def rehearse() -> None:
    """Use everything once, so that all modules and data are loaded while files can still be read."""
    # PyAV imports the modules for a kind of stream when it meets the first one.
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    video = _tiny("mpeg4", "avi")
    importlib.import_module("numpy.ma")  # np.unique imports it at its first use
    for data, selection in (
        (video, Selection()),
        (video, Selection(stride_seconds=0.1)),
        (video[:200], Selection()),
        (b"no video", Selection()),
    ):
        try:
            for view in windows(data, _WARM_UP_SPEC, selection, Limits()):
                wire.frame(described(view))
        except ClipError as error:
            wire.frame({"error": error.to_dict()})
    try:
        raise ValueError("rehearsed")
    except ValueError:
        traceback.format_exc()


def _decode(video: bytes, thread: Executor) -> None:
    for _ in windows(video, _WARM_UP_SPEC, Selection(), Limits(), thread):
        pass


def main(decoder: Callable[..., Iterator[Decoded]] = windows) -> None:
    """Get ready, report the defences that hold, and fork until the worker hangs up.

    Args:
        decoder: `decode.windows`, or a test's replacement.
    """
    parser = argparse.ArgumentParser(prog="python -m actionrec.sandbox.zygote")
    for name in ("socket", "memory-bytes", "parent", "address-space", "cpu-seconds"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = parser.parse_args()
    # A terminal's Ctrl-C is not meant for a child.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    confine.die_with(given.parent)
    faulthandler.enable()
    cv2.setNumThreads(1)
    rehearse()
    warm_up = partial(_decode, _tiny("libx264" if "libx264" in av.codecs_available else "mpeg4", "mp4"))
    control = socket.socket(fileno=given.socket)
    # Before the confinement, which forbids to read files.
    address_space = given.address_space + confine.address_space()
    defences = confine.confine_zygote(given.parent)
    # Memory pages stay shared as long as Python's collector does not touch them.
    gc.collect()
    gc.freeze()
    control.send(json.dumps({"ready": defences}).encode())
    answer: object
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, 4096, _FD_COUNT)
        if not data:
            return  # the worker has hung up
        order = json.loads(data)
        if order["what"] != "fork":
            answer = {"look": _look, "reap": _reap}[order["what"]](order["pid"])
            control.send(json.dumps({"id": order["id"], "answer": answer}).encode())
            continue
        zygote = os.getpid()
        try:
            pid = answer = os.fork()
        except OSError as error:
            pid, answer = -1, str(error.strerror)
        if pid == 0:
            control.close()
            give_up = partial(confine.confine_child, zygote, address_space, given.cpu_seconds)
            _live(descriptors, partial(live, given.memory_bytes, give_up, warm_up, decoder))
        for descriptor in descriptors:
            os.close(descriptor)
        control.send(json.dumps({"id": order["id"], "answer": answer}).encode())


def _live(descriptors: list[int], life: Callable[[int, int], None]) -> None:
    """Run a child's whole life; does not return."""
    status = 1
    try:
        end, memory, errors = descriptors
        os.dup2(errors, 2)
        os.close(errors)
        life(end, memory)
        status = 0
    except (EOFError, BrokenPipeError, ConnectionResetError):
        status = 0  # the worker has hung up
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        # A child must not run what the zygote has registered for its own exit.
        os._exit(status)


def _look(pid: int) -> bool:
    """Whether a child is alive and not stopped."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False


def _reap(pid: int) -> int | None:
    """The exit status of a child, as `os.waitstatus_to_exitcode` gives it; None: it has not ended, or its
    status is not known.
    """
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if found else None


if __name__ == "__main__":
    main()
