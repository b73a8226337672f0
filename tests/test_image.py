"""Promise: the image is small, has no more than it needs, and does in a container what the server does outside.

`make test-image` builds it with buildah on a Debian made here, runs it, and asks it by each contract.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from motion.clips import random_clip
from tests import test_gateway_contracts_served as served
from tests.conftest import PROJECT
from tests.helpers_processes import command
from tests.helpers_supervisor import eventually

pytestmark = pytest.mark.slow

TAG = "localhost/actionrec-test"
CLIP = random_clip(11, "moving left").data
USER = 10001
SERVING = ("python", "-m", "actionrec_gateway", "serve")
GRACE_SECONDS = 30
"""What SageMaker leaves between SIGTERM and SIGKILL."""


def buildah(*arguments: str, check: bool = True, timeout: float = 120.0) -> str:
    done = subprocess.run(["buildah", *arguments], capture_output=True, text=True, timeout=timeout, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout


def torch_version() -> str:
    """A CPU build of torch: the pinned one where ``TORCH`` says where it is, else one on this disk."""
    if os.environ.get("TORCH"):
        return ""
    folders = [Path(folder) for folder in os.environ.get("PIP_FIND_LINKS", "").split()]
    found = sorted(path.name for folder in folders for path in folder.glob("torch-*+cpu-cp311-*.whl"))
    assert found, "no CPU build of torch: TORCH= says where it is, a folder or an index (scripts/image)"
    return f"torch=={found[-1].split('-')[1]}"


@pytest.fixture(scope="module")
def image(motion_archive: Path) -> str:
    """The image with the motion model in it; what the build prints is shown by ``pytest -s``."""
    environment = {"TAG": TAG, "MODEL": "motion", "STORE": str(motion_archive.parent), "BASE": "debian"}
    environment |= {"DEVICE": "cpu", "TORCH_VERSION": torch_version()}
    began = time.monotonic()
    done = subprocess.run(
        ["scripts/image"],
        cwd=PROJECT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    print(f"\n{done.stdout}built   in {time.monotonic() - began:.0f} s")  # noqa: T201
    return TAG


@dataclass(frozen=True)
class Container:
    """One that serves."""

    name: str
    root: Path
    """Its file system, as this machine sees it."""
    url: str
    grpc: str
    log: Path
    process: subprocess.Popen[bytes]
    seconds: float
    """From its start until `/ready`."""

    def main(self) -> psutil.Process:
        """Its first process, which gets the platform's signal."""
        for process in psutil.Process(self.process.pid).children(recursive=True):
            if command(process)[1:6] == ["-m", "deploy", "start", "--foreground", "--model-store"]:
                return process
        raise AssertionError(self.log.read_text()[-2000:])

    def run(self, *command: str, check: bool = True) -> str:
        return buildah(
            "run", "--isolation", "chroot", "--user", str(USER), self.name, "--", *command, check=check
        )


Start = Callable[..., Container]


@pytest.fixture
def start(image: str, tmp_path: Path) -> Iterator[Start]:
    """Starts containers; none is left."""
    running: list[Container] = []

    def start(**environment: str) -> Container:
        name = buildah("from", image).strip()
        port, grpc = served.free_port(), served.free_port()
        variables = {"AIP_HTTP_PORT": str(port), "GATEWAY_GRPC_PORT": str(grpc), **served.AIP, **environment}
        command = ["buildah", "run", "--isolation", "chroot", "--user", f"{USER}:{USER}"]
        command += [f"--env={key}={value}" for key, value in variables.items()]
        log = tmp_path / "log"
        began = time.monotonic()
        with log.open("wb") as out:
            process = subprocess.Popen([*command, name, "--", *SERVING], stdout=out, stderr=out)
        url, root = f"http://127.0.0.1:{port}", Path(buildah("mount", name).strip())
        found = Container(name, root, url, f"127.0.0.1:{grpc}", log, process, 0.0)
        running.append(found)
        eventually(lambda: ready(found), "it is not ready")
        seconds = time.monotonic() - began
        return Container(name, root, url, f"127.0.0.1:{grpc}", log, process, seconds)

    yield start
    for each in running:
        for process in (
            psutil.Process(each.process.pid).children(recursive=True) if each.process.poll() is None else ()
        ):
            process.kill()
        each.process.kill()
        each.process.wait()
        buildah("rm", each.name)


def ready(container: Container) -> bool:
    assert container.process.poll() is None, container.log.read_text()[-3000:]
    try:
        return requests.get(f"{container.url}/ready", timeout=30).ok
    except requests.RequestException:
        return False


def test_what_it_says_of_itself(image: str) -> None:
    """It runs ``serve`` as a user that is not root, with a health check, SIGTERM, and two volumes."""
    said: dict[str, Any] = json.loads(buildah("inspect", "--type", "image", image))["Docker"]["config"]
    assert said["User"] == f"{USER}:{USER}"
    assert said["Entrypoint"] == ["python", "-m", "actionrec_gateway"]
    assert said["Cmd"] == ["serve"]
    assert said["StopSignal"] == "SIGTERM"
    assert set(said["Volumes"]) == {"/tmp", "/var/lib/actionrec"}
    assert said["Healthcheck"]["Test"] == ["CMD", "python", "-m", "actionrec_gateway.contracts.health"]
    variables = dict(entry.split("=", 1) for entry in said["Env"])
    assert variables["ACTIONREC_SANDBOX"] == "require"
    assert variables["ACTIONREC_LOGS"] == "json"


def test_what_is_in_it(image: str) -> None:
    """No compiler, no pip, none of CUDA's libraries, no file its user could change, no setting of this host."""
    name = buildah("from", image).strip()
    try:
        root = Path(buildah("mount", name).strip())

        def run(*command: str) -> str:
            return buildah(
                "run", "--isolation", "chroot", "--user", str(USER), name, "--", *command, check=False
            )

        assert run("id", "-u").strip() == str(USER)
        programs = {
            path.name
            for folder in ("usr/bin", "usr/local/bin", "app/.venv/bin")
            for path in (root / folder).iterdir()
        }
        assert not programs & {"gcc", "cc", "g++", "c++", "clang", "ld", "as", "make", "pip", "pip3", "javac"}
        assert "python" in programs
        libraries = {path.name for path in root.rglob("*.so*")}
        assert not [each for each in libraries if re.match(r"lib(cudart|cublas|cudnn|nccl|torch_cuda)", each)]
        assert [each for each in libraries if each.startswith("libtorch_cpu")]
        free = ("/proc", "/sys", "/dev", "/tmp", "/var/lib/actionrec", "/var/tmp", "/run/lock")
        left_out = [part for place in free for part in ("-path", place, "-prune", "-o")]
        assert run("find", "/", *left_out, "-writable", "-not", "-type", "l", "-print").split() == []
        assert not (root / "etc/pip.conf").exists()
        assert not list(root.glob("wheels/*"))
        shown = ("http_proxy", "https_proxy", "PIP_", "index-url", "find-links")
        assert not [line for line in run("env").splitlines() if any(word in line for word in shown)]
    finally:
        buildah("rm", name)


CONTRACTS = (
    served.test_sagemaker_by_curl,
    served.test_vertex_by_curl,
    served.test_hugging_faces_client_at_a_server,
    served.test_triton_and_kserve_at_a_server,
)


def test_it_serves_and_drains(start: Start) -> None:
    """It answers by every contract, with the sandbox whole and JSON as its log, and writes to its volumes only.

    After SIGTERM it answers what is in flight, within the platform's grace.
    """
    marker = time.time()
    container = start()
    print(f"ready   after {container.seconds:.1f} s")  # noqa: T201
    right = served.scores(requests.post(f"{container.url}/predictions/motion", CLIP, timeout=60).json())
    assert right[0][0] == "moving left"
    for contract in CONTRACTS:
        contract(served.Gateway(container.url, container.grpc, right))
    job = requests.post(f"{container.url}/jobs?model=motion", CLIP, timeout=60).headers["location"]
    eventually(
        lambda: requests.get(container.url + job, timeout=30).json()["state"] == "done", "no job is done"
    )

    said = [json.loads(line) for line in container.log.read_text().splitlines() if line.startswith("{")]
    events = [str(line["event"]) for line in said]
    (defences,) = [
        re.search(r"'defences': (\{.*?\})", event) for event in events if "Decoding sandbox: {" in event
    ]
    assert defences is not None
    print(f"sandbox {defences[1]}")  # noqa: T201
    for name in ("no_new_privileges", "no_capabilities", "resource_limits", "dies_with_parent", "seccomp"):
        assert f"'{name}': 'on'" in defences[1], "require"
    assert "ready" in events
    assert [line for line in said if line.get("path") == "/invocations" and line["status"] == 200]
    text = [
        line for line in container.log.read_text().splitlines() if line.strip() and not line.startswith("{")
    ]
    assert len(text) <= 10, "the JVM's own few lines are all that is no JSON"

    health = ("python", "-m", "actionrec_gateway.contracts.health")
    port = container.url.rsplit(":", 1)[1]
    assert container.run("env", f"AIP_HTTP_PORT={port}", *health) == ""
    written = [
        path
        for path in container.root.rglob("*")
        if not path.is_symlink() and path.is_file() and path.stat().st_mtime > marker
    ]
    inside = {"/" + str(path.relative_to(container.root)) for path in written}
    own = (
        "/etc/hosts",
        "/etc/resolv.conf",
        "/etc/hostname",
        "/run/",
        "/tmp/",
        "/var/lib/actionrec/",
        "/proc",
        "/sys",
        "/dev",
    )
    assert {path for path in inside if not path.startswith(own)} == set(), "not on a root that is read-only"

    replies: list[int] = []
    thread = threading.Thread(
        target=lambda: replies.append(
            requests.post(f"{container.url}/predictions/motion?views=30", CLIP, timeout=120).status_code
        )
    )
    thread.start()
    flying = "actionrec_requests_in_flight 1.0"
    eventually(
        lambda: flying in requests.get(f"{container.url}/metrics", timeout=30).text or not thread.is_alive(),
        "-",
    )
    container.main().terminate()
    assert container.process.wait(GRACE_SECONDS) == 0
    thread.join()
    assert replies == [200]
    events = [
        json.loads(line)["event"] for line in container.log.read_text().splitlines() if line.startswith("{")
    ]
    assert events[-1] == "Stopped."
    assert container.run(*health, check=False) == ""


def test_one_without_an_archive(start: Start) -> None:
    """An archive is mounted, or in the image: where there is none, one line says where it was looked for."""
    assert shutil.which("buildah")
    with pytest.raises(AssertionError, match="no archive"):
        start(SM_MODEL_DIR="/var/lib/actionrec")
