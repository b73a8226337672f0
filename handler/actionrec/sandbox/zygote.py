"""``python -m actionrec.sandbox.zygote``: the process that decoding children are forked from.

    worker                               zygote                              child
      fork, descriptors ->                 fork ------------------------------> confine, {ready} to the worker
                                        <- process id                           one video, then its end
      look, process id ->               <- whether it is alive and not stopped
      reap, process id ->               <- its exit status

It has imported PyAV, OpenCV and numpy (no torch), and has used them once, so a child is there in milliseconds.
It never sees a byte of a video: what a child does to its own memory, no other child is born with.
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
from functools import partial

import av
import cv2

from ..decode import Decoded, windows
from ..errors import ClipError
from ..limits import Limits
from ..sampling import Selection
from ..spec import ClipSpec
from . import confine, wire
from .child import described, live

_FD_COUNT = 3
"""Given with each fork: the child's socket, its shared memory, its standard error."""


def rehearse() -> None:
    """Load what would be loaded at first use, while files can still be read: by importing it, and by use."""
    # PyAV imports the modules of a kind of stream when it meets the first one.
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    file = io.BytesIO()
    with av.open(file, "w", format="avi") as output:
        stream = output.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(3):
            output.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        output.mux(stream.encode(None))
    spec = ClipSpec(short_side=32, crop=32)
    importlib.import_module("numpy.ma")  # np.unique's, at its first use
    for data, selection in (
        (file.getvalue(), Selection()),
        (file.getvalue(), Selection(stride_seconds=0.1)),
        (file.getvalue()[:200], Selection()),
        (b"no video", Selection()),
    ):
        try:
            for clip in windows(data, spec, selection, Limits()):
                wire.frame(described(clip))
        except ClipError as error:
            wire.frame({"error": error.to_dict()})
    try:
        raise ValueError("rehearsed")
    except ValueError:
        traceback.format_exc()


def main(decoder: Callable[..., Iterator[Decoded]] = windows) -> None:
    """Get ready, say which defences hold, and fork until the worker hangs up.

    Args:
        decoder: takes what `windows` does.
    """
    parser = argparse.ArgumentParser(prog="python -m actionrec.sandbox.zygote")
    for name in ("socket", "memory-bytes", "parent", "address-space", "cpu-seconds"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = parser.parse_args()
    # Until then the worker is the only one that could send a signal; a terminal's Ctrl-C is not for a child.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    confine.die_with(given.parent)
    faulthandler.enable()
    cv2.setNumThreads(1)
    rehearse()
    control = socket.socket(fileno=given.socket)
    # Read while files can still be read.
    address_space = given.address_space + confine.address_space()
    defences = confine.confine_zygote(given.parent)
    # Pages that Python's collector does not touch stay shared.
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
            _live(zygote, descriptors, given.memory_bytes, address_space, given.cpu_seconds, decoder)
        for descriptor in descriptors:
            os.close(descriptor)
        control.send(json.dumps({"id": order["id"], "answer": answer}).encode())


def _live(
    zygote: int,
    descriptors: list[int],
    memory_bytes: int,
    address_space: int,
    cpu_seconds: int,
    decoder: Callable[..., Iterator[Decoded]],
) -> None:
    """A child's whole life; does not return."""
    status = 1
    try:
        end, memory, errors = descriptors
        os.dup2(errors, 2)
        os.close(errors)
        live(
            end,
            memory,
            memory_bytes,
            partial(confine.confine_child, zygote, address_space, cpu_seconds),
            decoder,
        )
        status = 0
    except (EOFError, BrokenPipeError, ConnectionResetError):
        status = 0  # the worker has hung up
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        # Nothing that the zygote was to do at its end is for a child.
        os._exit(status)


def _look(pid: int) -> bool:
    """Whether a child is alive and not stopped."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False


def _reap(pid: int) -> int | None:
    """The exit status of a child that has ended, as `os.waitstatus_to_exitcode` has it; None: not yet, or not
    known."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if found else None


if __name__ == "__main__":
    main()
