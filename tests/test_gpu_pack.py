"""Promise: a machine with its own torch and no network gets from the parcels all that the checks need."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from benchmarks.gpu import pack
from benchmarks.gpu.plan import MOTION
from benchmarks.gpu.record import DONE, read
from tests.conftest import PROJECT

CHECK = str(PROJECT / "scripts" / "gpu-check")
HERE = "{}.{}".format(*sys.version_info[:2])
MOST_MB = 60


def test_what_is_packed() -> None:
    """All that the stages need but torch, in the versions of this environment; what depends on the other
    machine's Python is decided by that.
    """
    found = pack.wanted("3.12")
    needed = {
        "av",
        "pytorchvideo",
        "fvcore",
        "iopath",
        "torchserve",
        "torch-model-archiver",
        "psutil",
        "pytest",
    }
    assert needed | {"opencv-python-headless", "numpy", "pip", "hypothesis"} <= set(found)
    assert not {name for name in found if name.startswith(("torch-tensorrt", "nvidia", "triton", "cuda"))}
    assert not {"torch", "torchvision"} & set(found)
    assert found["av"] == distribution("av").version


def test_parcels_have_room() -> None:
    """No parcel is larger than it may be, earlier files come first, and small ones fill what room is left."""
    files = [(Path(name), size) for name, size in (("a", 50), ("b", 30), ("c", 10), ("d", 20))]
    assert pack.fill(files, 60) == [[Path("a"), Path("c")], [Path("b"), Path("d")]]
    with pytest.raises(pack.PackError, match="a has"):
        pack.fill(files, 40)


@pytest.mark.parametrize(
    ("wheel", "fits"),
    [
        ("psutil-7-cp36-abi3-manylinux1_x86_64.whl", True),
        ("numpy-2-cp312-cp312-manylinux_2_28_x86_64.whl", True),
        ("numpy-2-cp311-cp311-manylinux_2_28_x86_64.whl", False),
        ("rich-15-py3-none-any.whl", True),
    ],
)
def test_wheels_of_another_python(wheel: str, fits: bool) -> None:
    """A compiled wheel is taken where it is for the other machine's Python, or for all from one on."""
    assert pack._fits(wheel, "3.12") is fits


def parcel(folder: Path, **contents: object) -> Path:
    """A parcel with nothing in it."""
    (folder / "1").mkdir(parents=True)
    whole = {"python": HERE, "machine": platform.machine(), "sha256": {}, **contents}
    (folder / "1" / pack.CONTENTS).write_text(json.dumps(whole), encoding="utf-8")
    return folder


def check(folder: Path, python: Path, *arguments: str, seconds: int = 600) -> subprocess.CompletedProcess[str]:
    """Run ``gpu-check correct`` with an environment of its own."""
    environment = {
        **os.environ,
        "PYTHON": str(python),
        "PARCELS": str(folder / "parcels"),
        "OVERLAY": str(folder / "overlay"),
        "OUT": str(folder / "out"),
        "LIMIT": str(seconds),
        "PIP_NO_INDEX": "1",
    }
    return subprocess.run(
        [CHECK, "correct", "--rehearse", "--work", str(folder / "work"), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 60,
    )


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        ({"python": "3.9"}, f"is for python 3.9, and this is {HERE}"),
        ({"machine": "vax"}, f"is for machine vax, and this is {platform.machine()}"),
        ({"sha256": {"av.whl": hashlib.sha256(b"").hexdigest()}}, "av.whl is missing or damaged"),
    ],
)
def test_wrong_parcel(contents: dict[str, object], said: str, tmp_path: Path) -> None:
    """A parcel for another machine, or one that did not arrive whole, is refused."""
    parcel(tmp_path / "parcels", **contents)
    done = check(tmp_path, Path(sys.executable))
    assert done.returncode == 1
    assert said in done.stdout + done.stderr
    assert "scripts/gpu-pack" in done.stdout + done.stderr
    assert not (tmp_path / "out" / "correct.json").exists()


def test_machine_without_torch(tmp_path: Path) -> None:
    """A Python without torch is named: torch is the machine's own, and in no parcel."""
    empty = tmp_path / "empty"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(empty)], check=True)
    done = check(tmp_path, empty / "bin" / "python")
    assert done.returncode == 1
    assert "has no torch" in done.stdout + done.stderr


def bare_machine(folder: Path) -> Path:
    """A Python that has torch, torchvision and what these need, and nothing else; returns its path."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    own = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    target = Path(own.stdout.strip())
    waiting, seen = ["torch", "torchvision"], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        for file in found.files or ():
            link = target / file.parts[0]
            if file.parts[0] not in ("..", "__pycache__") and not link.exists():
                link.symlink_to(Path(sysconfig.get_path("purelib")) / file.parts[0])
        needs = map(Requirement, found.requires or ())
        waiting += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return python


def test_what_a_machine_lacks_is_named(tmp_path: Path) -> None:
    """Without parcels a machine that has torch alone is told which packages it lacks, and what packs them."""
    done = check(tmp_path, bare_machine(tmp_path / "bare"))
    assert done.returncode == 1
    assert "lacks" in done.stdout + done.stderr
    assert "av (No module named 'av')" in done.stdout + done.stderr
    assert "scripts/gpu-pack" in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.server
def test_parcels_are_all_that_it_lacks(tmp_path: Path) -> None:
    """Installed without a network into a Python that has torch alone, they let `correct` be rehearsed there."""
    packed = subprocess.run(
        [str(PROJECT / "scripts" / "gpu-pack"), "--python-version", HERE, "--out", str(tmp_path / "parcels")],
        env={**os.environ, "VENV": sys.prefix},
        capture_output=True,
        text=True,
        check=False,
    )
    assert packed.returncode == 0, packed.stdout + packed.stderr
    parcels = sorted((tmp_path / "parcels").iterdir())
    assert len(parcels) > 1
    for each in parcels:
        assert sum(path.stat().st_size for path in each.iterdir()) <= (MOST_MB + 1) * 2**20, each
    arguments = ["--models", MOTION, "--runtimes", "torchscript", "--precisions", "fp32"]
    done = check(tmp_path, bare_machine(tmp_path / "bare"), *arguments, seconds=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    document = read(tmp_path / "out" / "correct.json")
    assert document["rows"][f"parity {MOTION} torchscript fp32"]["state"] == DONE
    host = document["rows"]["host"]
    assert host["executable"].startswith(str(tmp_path / "overlay"))
    assert host["packages"]["torchserve"] is not None
    java = subprocess.run(
        [tmp_path / "overlay" / "jre" / "bin" / "java", "-version"], capture_output=True, check=False
    )
    assert java.returncode == 0
    again = check(tmp_path, tmp_path / "bare" / "bin" / "python", *arguments, seconds=1800)
    assert again.returncode == 0, again.stdout + again.stderr
