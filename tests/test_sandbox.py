"""Promise: decoding in children gives what decoding here gives, and a child can do nothing else."""

import json
import subprocess
import sys
import threading
from dataclasses import fields
from pathlib import Path

import numpy as np
import psutil
import pytest
from actionrec.errors import ClipError
from actionrec.sampling import FIRST_WINDOW, Selection
from actionrec.sandbox import Caller, Sandbox
from actionrec.video.decode import windows

from testing.media import encode, textured_frames
from tests.helpers_sandbox import CLIP, FRAMES, LIMITS, MANY_WINDOWS, SPEC, ask, code_of, until
from tests.test_decode import FORMATS

pytest_plugins = ("tests.fixtures_sandbox",)


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_frames(sandbox: Sandbox, name: str) -> None:
    """Every container and codec gives the same window as in-process, to the bit, under all defences."""
    data = encode(FRAMES, **FORMATS[name])  # type: ignore[arg-type]
    (here,) = windows(data, SPEC, FIRST_WINDOW, LIMITS)
    (there,) = sandbox.windows(data, SPEC, FIRST_WINDOW, LIMITS)
    for field in fields(here):
        assert np.array_equal(getattr(here, field.name), getattr(there, field.name)), field.name


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
