"""Promise: what confines a child holds wherever it is started, and what does not hold is told."""

import resource
import signal
import subprocess
import sys

import pytest
from actionrec.sandbox import Sandbox
from actionrec.sandbox.confine import REQUIRED

from tests.conftest import PROJECT
from tests.helpers_sandbox import CLIP, LIMITS, SPEC


@pytest.mark.parametrize("less", [resource.RLIMIT_CPU, resource.RLIMIT_NOFILE])
def test_limits_from_outside(less: int) -> None:
    """Whoever started the server may have set lower limits than ours: children start all the same."""
    most = {resource.RLIMIT_CPU: 20, resource.RLIMIT_NOFILE: 64}[less]
    done = run(
        "import resource\n"
        f"resource.setrlimit({less}, ({most}, {most}))\n"
        "with Sandbox(SPEC, LIMITS, 1) as sandbox:\n"
        "    print(next(sandbox.windows(CLIP, SPEC, FIRST_WINDOW, LIMITS)).frames.shape)"
    )
    assert done.stdout.strip() == "(32, 64, 64, 3)", done.stderr


def test_cpu_time_is_told_apart_from_a_kill() -> None:
    """A process that has used up its CPU time ends by SIGXCPU and not, as if by somebody's hand, by SIGKILL."""
    done = run("from actionrec.sandbox import confine\nconfine._limit(1 << 34, 1)\nwhile True: pass")
    assert done.returncode == -signal.SIGXCPU


def test_another_name_of_the_machine() -> None:
    """Under `setarch i686` the kernel tells another name of the machine; the system calls are refused all the
    same.
    """
    done = run(
        "import ctypes, os\n"
        "ctypes.CDLL(None).personality(8)\n"  # PER_LINUX32
        "with Sandbox(SPEC, LIMITS, 1) as sandbox:\n"
        "    print(os.uname().machine, sandbox.defences['seccomp'])"
    )
    assert done.stdout.split() in (["i686", "on"], ["armv8l", "on"]), done.stderr


@pytest.mark.parametrize("lacking", ["seccomp", "no_capabilities", "landlock"])
def test_required_defences(
    lacking: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`sandbox: require` refuses to start without a defence that matters, and says which; else the log says
    it.
    """
    monkeypatch.syspath_prepend(str(PROJECT))
    module = f"tests.lacking.{lacking}"
    with Sandbox(SPEC, LIMITS, 1, module) as sandbox:
        assert sandbox.defences[lacking] == "Operation not permitted"
        assert lacking in caplog.text
    if lacking in REQUIRED:
        with pytest.raises(RuntimeError, match=f"is required, and is without .*{lacking}"):
            Sandbox(SPEC, LIMITS, 1, module, require=True)
    else:
        Sandbox(SPEC, LIMITS, 1, module, require=True).close()


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, with a sandbox's names and `CLIP`."""
    lines = (
        "from pathlib import Path\n"
        "from actionrec.limits import Limits\n"
        "from actionrec.sampling import FIRST_WINDOW\n"
        "from actionrec.sandbox import Sandbox\n"
        "from actionrec.spec import ClipSpec\n"
        "SPEC, LIMITS = ClipSpec(short_side=64, crop=64), Limits()\n"
        f"CLIP = bytes.fromhex({CLIP.hex()!r})\n{code}"
    )
    return subprocess.run([sys.executable], input=lines, capture_output=True, text=True, timeout=120)
