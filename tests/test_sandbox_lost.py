"""Promise: a child that is lost, whoever ended it, costs one request at most, and another takes its place."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from actionrec.errors import ClipError
from actionrec.sampling import FIRST_WINDOW
from actionrec.sandbox import Sandbox, child_process, keeper, zygote_process
from actionrec.sandbox.failures import FailureRecord
from actionrec.sandbox.zygote_process import Zygote
from actionrec.video.decode import windows

from tests.conftest import PROJECT
from tests.helpers_sandbox import CLIP, LIMITS, MANY_WINDOWS, SPEC, ask, code_of, until

pytest_plugins = ("tests.fixtures_sandbox",)


@pytest.mark.parametrize("way", ["segv", "abort", "exit", "garbage", "huge", "nothing"])
def test_a_crash_costs_one_request(troubled: Sandbox, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever way a child breaks, its request is told, and the next one is served by another child."""
    monkeypatch.setattr(child_process, "_ENDING_SECONDS", 0.1)  # some go on after they have broken
    assert code_of(troubled, b"BREAK " + way.encode()) == "DECODER_CRASHED"
    assert np.array_equal(ask(troubled, CLIP), next(windows(CLIP, SPEC, FIRST_WINDOW, LIMITS)).frames)


def test_a_hang_costs_one_request_and_its_time(troubled: Sandbox) -> None:
    """Decoding past its time is stopped by the end of the child, also where that ignores every signal."""
    assert code_of(troubled, b"BREAK hang", replace(LIMITS, open_seconds=0.5)) == "DECODE_TIMEOUT"
    assert code_of(troubled, b"OPEN hang", replace(LIMITS, decode_seconds=0.5)) == "DECODE_TIMEOUT"
    assert ask(troubled, CLIP).shape == (32, 64, 64, 3)


def test_all_windows_together_have_a_limit(troubled: Sandbox) -> None:
    """Windows that each keep within their time do not together keep a decoder for as long as they like."""
    limits = replace(LIMITS, decode_seconds=30, request_seconds=0.25)
    with pytest.raises(ClipError, match="DECODE_TIMEOUT"):
        list(troubled.windows(b"MANY", SPEC, FIRST_WINDOW, replace(limits, windows=1000)))


@pytest.mark.parametrize(("way", "code"), [("segv", "DECODER_CRASHED"), ("hang", "DECODE_TIMEOUT")])
def test_the_same_poison_is_not_tasted_a_third_time(troubled: Sandbox, way: str, code: str) -> None:
    """Bytes that have crashed two children, or used up their time, are refused without a try; others are
    not.
    """
    poison, short = f"BREAK {way}".encode(), replace(LIMITS, open_seconds=0.2)
    for _ in range(2):
        assert code_of(troubled, poison, short) == code
    lost = troubled.replaced
    with pytest.raises(ClipError, match="not tried again") as caught:
        ask(troubled, poison)
    assert (caught.value.code, caught.value.status) == (code, 422)
    assert troubled.replaced == lost
    assert ask(troubled, CLIP).shape == (32, 64, 64, 3)


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_idle_children_that_are_gone_or_stopped(sandbox: Sandbox, blow: signal.Signals) -> None:
    """All children killed or stopped while nothing is asked: no request fails, and others take their places."""
    until(lambda: len(sandbox.pids()) == 2)
    victims = sandbox.pids()
    for pid in victims:
        os.kill(pid, blow)
    assert ask(sandbox, CLIP).shape == (32, 64, 64, 3)
    until(lambda: len(set(sandbox.pids()) - set(victims)) == 2)
    until(lambda: not any(psutil.pid_exists(pid) for pid in victims))


def test_children_are_killed_under_load(sandbox: Sandbox) -> None:
    """While children are killed from outside, each request has its frames: none of them is to blame."""
    expected = next(windows(CLIP, SPEC, FIRST_WINDOW, LIMITS)).frames
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.3):
            for pid in sandbox.pids()[:1]:
                os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with ThreadPoolExecutor(2) as pool:
            assert all(pool.map(lambda _: np.array_equal(ask(sandbox, CLIP), expected), range(60)))
    finally:
        over.set()
        killer.join()


def test_killed_after_it_has_answered_in_part(troubled: Sandbox) -> None:
    """A child that is killed from outside in the middle is 503, and the video is not remembered for it."""
    for _ in range(3):
        found = troubled.windows(b"MANY", SPEC, FIRST_WINDOW, MANY_WINDOWS)
        next(found)
        (busy,) = troubled._keeper.busy
        os.kill(busy.pid, signal.SIGKILL)
        with pytest.raises(ClipError) as caught:
            list(found)
        assert (caught.value.code, caught.value.status) == ("DECODER_UNAVAILABLE", 503)
    assert next(troubled.windows(b"MANY", SPEC, FIRST_WINDOW, MANY_WINDOWS)).source_frames == 0


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_the_zygote_is_gone_or_stopped(
    sandbox: Sandbox, blow: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new zygote takes the place of one that is killed or stopped, and no request fails."""
    monkeypatch.setattr(zygote_process, "_CONTROL_SECONDS", 1.0)
    zygote = sandbox._keeper.zygote
    assert zygote is not None
    os.kill(zygote.pid, blow)
    assert ask(sandbox, CLIP).shape == (32, 64, 64, 3)
    until(lambda: sandbox._keeper.zygote not in (None, zygote) and len(sandbox.pids()) == 2)
    assert ask(sandbox, CLIP).shape == (32, 64, 64, 3)


def test_a_child_whose_end_is_not_seen(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something holds dead children, so that they are never reaped: requests go on, their memory is not used
    again.
    """
    monkeypatch.setattr(Zygote, "reap", lambda *_: None)
    for _ in range(6):
        assert ask(sandbox, CLIP).shape == (32, 64, 64, 3)
    until(lambda: len(sandbox._keeper.dead) >= 6)
    monkeypatch.undo()
    until(lambda: not sandbox._keeper.dead)


def test_the_keeper_survives_everything(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong in the thread that looks after children, it goes on, and so do they."""
    failures = iter([RuntimeError("once"), OSError("twice"), ValueError("three times")])

    def fail(*_: object) -> None:
        for failure in failures:
            raise failure
        monkeypatch.undo()

    monkeypatch.setattr(keeper, "_RETRY_SECONDS", 0.1)
    monkeypatch.setattr(Zygote, "fork", fail)
    for _ in range(4):
        assert ask(sandbox, CLIP).shape == (32, 64, 64, 3)
    assert sandbox._keeper.thread.is_alive()


def test_no_proc(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where /proc says nothing, or nonsense, children are taken for alive until they do not answer."""
    for text in ("", "nonsense", "1 (x) R"):
        monkeypatch.setattr(Path, "read_text", lambda *_, text=text, **__: text)
        assert ask(sandbox, CLIP).shape == (32, 64, 64, 3)
        monkeypatch.undo()


def test_stopped_in_the_middle(troubled: Sandbox) -> None:
    """A child that is stopped while it decodes counts as killed from outside, within seconds; others go on."""
    found = troubled.windows(b"MANY", SPEC, FIRST_WINDOW, MANY_WINDOWS)
    next(found)
    for child in troubled._keeper.busy:
        os.kill(child.pid, signal.SIGSTOP)
    with pytest.raises(ClipError, match="DECODER_UNAVAILABLE"):
        list(found)
    assert ask(troubled, CLIP).shape == (32, 64, 64, 3)


@pytest.mark.parametrize("busy", [False, True])
def test_no_child_outlives_its_worker(busy: bool) -> None:
    """Kill -9 of the worker ends its children, idle or at work."""
    code = (
        # A child looks for modules where its worker does, but never in the current directory.
        f"import sys, time; sys.path.insert(0, {str(PROJECT)!r})\n"
        "from actionrec.sandbox import Sandbox\n"
        "from tests.helpers_sandbox import LIMITS, SPEC, TROUBLE, ask, until\n"
        "s = Sandbox(SPEC, LIMITS, 1, TROUBLE)\n"
        "until(lambda: len(s.pids()) == 1)\n"
        "print(*s.pids(), flush=True)\n" + ("ask(s, b'BREAK hang')" if busy else "time.sleep(60)")
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=PROJECT
    ) as worker:
        try:
            assert worker.stdout
            children = [psutil.Process(int(pid)) for pid in worker.stdout.readline().split()]
            assert len(children) == 1
            if busy:
                until(lambda: any(child.status() == psutil.STATUS_RUNNING for child in children))
        finally:
            worker.kill()
    gone, alive = psutil.wait_procs(children, 60)
    assert len(gone) == 1, alive


def test_what_is_remembered_is_bounded() -> None:
    """A flood of different files that crash decoders does not make the memory of them grow for ever."""
    record, crash = FailureRecord(), ClipError("DECODER_CRASHED", 422, "It crashed.", "Do not.")
    for number in range(1500):
        record.add(str(number).encode(), crash)
        record.add(str(number).encode(), crash)
    assert len(record._entries) == 1000
    record.check(b"0")  # forgotten
    with pytest.raises(ClipError, match="not tried again"):
        record.check(b"1499")
