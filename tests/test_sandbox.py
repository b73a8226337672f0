"""Promise: decoding in children gives what decoding here gives, and a child that is lost costs one request."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from actionrec.errors import ClipError
from actionrec.limits import Limits
from actionrec.sampling import FIRST_WINDOW, Selection
from actionrec.sandbox import Caller, Sandbox, keeper, pool
from actionrec.sandbox.failures import FailureRecord
from actionrec.sandbox.process import Zygote
from actionrec.spec import ClipSpec
from actionrec.video.decode import windows

from testing.media import encode, textured_frames
from tests.conftest import PROJECT
from tests.test_decode import FORMATS

SPEC = ClipSpec(short_side=64, crop=64)
LIMITS = Limits(decode_seconds=60, request_seconds=60)
MANY_WINDOWS = replace(LIMITS, windows=1000)
FRAMES = textured_frames(160, 120, 70)
CLIP = encode(FRAMES)
TROUBLE = "tests.troubled_child"
"""A child that does what the first bytes of a video tell it, which the real one does not."""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A real zygote that has two children ready."""
    with Sandbox(SPEC, LIMITS, 2) as running:
        yield running


@pytest.fixture
def troubled(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Children that crash, hang and lie on demand."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent))
    with Sandbox(SPEC, LIMITS, 2, TROUBLE) as running:
        yield running


def ask(sandbox: Sandbox, data: bytes, limits: Limits = LIMITS) -> np.ndarray:
    """The frames of the first window."""
    return next(sandbox.windows(data, SPEC, FIRST_WINDOW, limits)).frames


def code_of(sandbox: Sandbox, data: bytes, limits: Limits = LIMITS) -> str:
    """The code of the error that a video gets."""
    with pytest.raises(ClipError) as caught:
        ask(sandbox, data, limits)
    assert caught.value.hint
    return caught.value.code


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that other processes do."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_frames(sandbox: Sandbox, name: str) -> None:
    """Every container and codec gives the same window as in-process, to the bit, under all defences."""
    data = encode(FRAMES, **FORMATS[name])  # type: ignore[arg-type]
    (here,) = windows(data, SPEC, FIRST_WINDOW, LIMITS)
    (there,) = sandbox.windows(data, SPEC, FIRST_WINDOW, LIMITS)
    assert np.array_equal(here.frames, there.frames)
    assert replace(here, frames=there.frames) == there


def test_the_same_error(sandbox: Sandbox) -> None:
    """An error and its words are the same, and count as no child lost."""
    before = sandbox.replaced
    for data, selection in (
        (b"nothing", FIRST_WINDOW),
        (CLIP, Selection(9.0)),
        (CLIP[:3000], FIRST_WINDOW),
    ):
        with pytest.raises(ClipError) as here:
            next(windows(data, SPEC, selection, LIMITS))
        with pytest.raises(ClipError) as there:
            next(sandbox.windows(data, SPEC, selection, LIMITS))
        assert here.value.to_dict() == there.value.to_dict()
    assert sandbox.replaced == before


def test_all_defences_hold_here(sandbox: Sandbox) -> None:
    """On the kernels that this is tested on no defence is missing, and what they are is described."""
    assert sandbox.describe()["defences"] == dict.fromkeys(
        (
            "no_new_privileges",
            "first_out_of_memory",
            "network_namespace",
            "no_capabilities",
            "landlock",
            "resource_limits",
            "dies_with_parent",
            "seccomp",
        ),
        "on",
    )


def test_what_a_child_is(sandbox: Sandbox) -> None:
    """A child has two threads, no torch, no network but its own, no capability, and few descriptors."""
    until(lambda: len(sandbox.pids()) == 2)
    child = psutil.Process(sandbox.pids()[0])
    threads = [Path(f"/proc/{child.pid}/task/{thread.id}/status").read_text() for thread in child.threads()]
    assert len(threads) == 2
    for status in threads:
        assert "CapEff:\t0000000000000000" in status
        assert "Seccomp:\t2" in status
        assert "NoNewPrivs:\t1" in status
    maps = Path(f"/proc/{child.pid}/maps").read_text()
    assert "libavcodec" in maps
    assert "libtorch" not in maps
    assert Path(f"/proc/{child.pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    assert child.num_fds() <= 5  # the three, the socket, the shared memory
    assert not {"HOME", "USER", "SECRET"} & set(child.environ())


def test_importing_it_needs_no_torch() -> None:
    """What the zygote imports pulls in neither torch nor TorchServe, so it starts in a third of a second."""
    found = "import sys, actionrec.sandbox.zygote; print('torch' in sys.modules, 'ts' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", found], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("deed", ["open", "socket", "fork", "kill", "thread", "memory", "ptrace", "listdir"])
def test_a_taken_over_child_can_do_nothing(troubled: Sandbox, deed: str) -> None:
    """Code in either thread of a child can open, connect, start or stop nothing, nor take more memory."""
    assert ask(troubled, b"REFUSED? " + deed.encode()).shape == (32, 64, 64, 3)


@pytest.mark.parametrize("way", ["segv", "abort", "exit", "garbage", "huge", "nothing"])
def test_a_crash_costs_one_request(troubled: Sandbox, way: str) -> None:
    """Whatever way a child breaks, its request is told, and the next one is served by another child."""
    assert code_of(troubled, b"BREAK " + way.encode()) == "DECODER_CRASHED"
    assert np.array_equal(ask(troubled, CLIP), next(windows(CLIP, SPEC, FIRST_WINDOW, LIMITS)).frames)


def test_a_hang_costs_one_request_and_its_time(troubled: Sandbox) -> None:
    """Decoding past its time is stopped by the end of the child, also where that ignores every signal."""
    assert code_of(troubled, b"BREAK hang", replace(LIMITS, open_seconds=0.5)) == "DECODE_TIMEOUT"
    assert code_of(troubled, b"OPEN hang", replace(LIMITS, decode_seconds=0.5)) == "DECODE_TIMEOUT"
    assert ask(troubled, CLIP).shape == (32, 64, 64, 3)


def test_all_windows_together_have_a_limit(troubled: Sandbox) -> None:
    """Windows that each keep within their time do not together keep a decoder for as long as they like."""
    limits = replace(LIMITS, decode_seconds=30, request_seconds=1)
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


def test_windows_come_one_by_one(troubled: Sandbox) -> None:
    """A thousand windows pass through one slot: none is decoded before the one before it was taken."""
    found = troubled.windows(b"MANY", SPEC, FIRST_WINDOW, MANY_WINDOWS)
    for number in range(50):
        clip = next(found)
        assert clip.source_frames == number
        assert (clip.frames == number).all(), "overwritten, or not yet written"


def test_leaving_early(troubled: Sandbox) -> None:
    """A caller that has seen enough closes the generator: that counts as no child lost, and others are
    served.
    """
    for _ in range(5):
        found = troubled.windows(b"MANY", SPEC, FIRST_WINDOW, MANY_WINDOWS)
        assert next(found).source_frames == 0
        assert next(found).source_frames == 1
        found.close()  # type: ignore[attr-defined]
        assert ask(troubled, CLIP).shape == (32, 64, 64, 3)
    assert troubled.replaced == 0


def test_nobody_waits_any_more(troubled: Sandbox) -> None:
    """A request that nobody waits for any more leaves its child within a moment, in the middle of its work."""
    wanted = [True]
    found = troubled.windows(b"BREAK hang", SPEC, FIRST_WINDOW, LIMITS, Caller(wanted=lambda: wanted[0]))
    threading.Timer(0.2, lambda: wanted.__setitem__(0, False)).start()
    assert list(found) == []


def test_a_child_for_each_request(sandbox: Sandbox) -> None:
    """No child that has seen one request's bytes is there for another, and nothing of them stays in shared
    memory.
    """
    seen: set[int] = set()
    for _ in range(4):
        found = sandbox.windows(CLIP, SPEC, FIRST_WINDOW, LIMITS)
        next(found)
        (busy,) = sandbox._keeper.busy
        assert busy.pid not in seen
        seen.add(busy.pid)
        found.close()  # type: ignore[attr-defined]
        assert busy not in sandbox._keeper.busy
        assert busy not in sandbox._keeper.idle
    until(lambda: not any(psutil.pid_exists(pid) for pid in seen))
    until(lambda: not sandbox._keeper.dead)
    slots = [*sandbox._keeper.slots, *(child.slot for child in sandbox._keeper.idle)]
    assert slots
    assert not any(slot.frames((32, 64, 64, 3)).any() for slot in slots)


def served_by(sandbox: Sandbox, client: str, data: bytes = CLIP) -> int:
    """The process id of the child that a request is given to."""
    found = sandbox.windows(data, SPEC, FIRST_WINDOW, LIMITS, Caller(client))
    next(found)
    (busy,) = sandbox._keeper.busy
    found.close()  # type: ignore[attr-defined]
    return busy.pid


def test_a_child_for_each_client(sandbox: Sandbox) -> None:
    """A client with a name has its own child again, which is never another's, nor one without a name."""
    first = served_by(sandbox, "first")
    second = served_by(sandbox, "second")
    nobody = served_by(sandbox, "")
    assert len({first, second, nobody}) == 3
    assert served_by(sandbox, "first") == first
    assert served_by(sandbox, "second") == second
    assert served_by(sandbox, "") not in (first, second, nobody)
    with pytest.raises(ClipError, match="NOT_A_VIDEO"):
        list(sandbox.windows(b"no video", SPEC, FIRST_WINDOW, LIMITS, Caller("first")))
    assert served_by(sandbox, "first") == first
    # As many are kept as are ready: whoever was away for longest begins with a fresh one.
    third = served_by(sandbox, "third")
    assert third not in (first, second)
    assert served_by(sandbox, "first") == first
    assert served_by(sandbox, "second") != second


def test_whose_child_is_not_kept(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child with much memory, or that had to step back, or without a request for long, is not kept."""
    first = served_by(sandbox, "x")
    monkeypatch.setattr(keeper, "_KEPT_BYTES", 1000)
    assert served_by(sandbox, "x") == first
    monkeypatch.undo()
    second = served_by(sandbox, "x")
    assert second != first
    monkeypatch.setattr(pool, "_SLOW_WINDOW_SECONDS", 0.0)
    large = encode(np.repeat(textured_frames(1920, 1080, 1), 64, axis=0), options={"preset": "ultrafast"})
    assert served_by(sandbox, "x", large) == second
    monkeypatch.undo()
    third = served_by(sandbox, "x")
    assert third != second
    monkeypatch.setattr(keeper, "_KEPT_SECONDS", 0.0)
    until(lambda: not sandbox._keeper.kept)
    until(lambda: not psutil.pid_exists(third))


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
def test_the_zygote_is_gone_or_stopped(sandbox: Sandbox, blow: signal.Signals) -> None:
    """A new zygote takes the place of one that is killed or stopped, and no request fails."""
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
        f"import sys; sys.path.insert(0, {str(PROJECT)!r})\n"
        "from tests.test_sandbox import *\n"
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


def test_close_ends_all() -> None:
    """close() leaves no process behind, and whoever still asks is told that there is no decoder."""
    own = Sandbox(SPEC, LIMITS, 1)
    children = [psutil.Process(pid) for pid in own.pids()]
    own.close()
    assert not any(child.is_running() for child in children)
    assert code_of(own, CLIP) == "DECODER_UNAVAILABLE"


def test_children_that_cannot_start() -> None:
    """A child that dies at its start is an error that says so, not a server that waits for ever."""
    with pytest.raises(RuntimeError, match="cannot be started: the zygote ended with exit code 1"):
        Sandbox(SPEC, LIMITS, 1, "actionrec.no_such_module")


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


def test_the_largest_frames_fit(sandbox: Sandbox) -> None:
    """A 4K clip with as many reference frames as its level allows is decoded within a child's memory."""
    video = encode(
        np.repeat(textured_frames(3840, 2160, 1), 8, axis=0), options={"preset": "ultrafast", "refs": "6"}
    )
    assert ask(sandbox, video).shape == (32, 64, 64, 3)


def test_a_defence_that_is_refused_is_told_and_the_others_stand() -> None:
    """Where a kernel or a container refuses a defence, the description has its reason, and the others hold."""
    code = (
        "import errno, json, os\n"
        "from actionrec.sandbox import confine\n"
        "def refuse(): raise OSError(errno.EPERM, os.strerror(errno.EPERM))\n"
        "confine._leave_network = confine._no_files = refuse\n"
        "held = confine.confine_zygote(os.getppid())\n"
        "held |= confine.confine_child(os.getppid(), 1 << 34, 60)\n"
        "print(json.dumps(held), flush=True)\n"
        "os.write(1, b'open' if os.system('true') == 0 else b'shut')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    told, _, found = done.stdout.partition("\n")
    defences = json.loads(told)
    assert defences.pop("network_namespace") == defences.pop("landlock") == "Operation not permitted"
    assert set(defences.values()) == {"on"}
    assert found == "shut"
