"""A process for the tests of `benchmarks.gpu.child`: it does to itself what GPUs do to processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from benchmarks.gpu.child import Answer, serve


def pid() -> Answer:
    sys.stdout.write("not an answer\n")
    return {"pid": os.getpid()}


def fail(message: str) -> Answer:
    raise RuntimeError(message)


def crash() -> Answer:
    _say("about to crash")
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}


def hang() -> Answer:
    compiler = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    _say(compiler.pid)
    time.sleep(600)
    return {}


def _say(what: object) -> None:
    sys.stderr.write(f"{what}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    serve({"pid": pid, "fail": fail, "crash": crash, "hang": hang})
