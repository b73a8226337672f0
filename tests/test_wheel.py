"""Promise: the wheel holds what a program needs, under names of its own, and works without this repository."""

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from motion.clips import random_clip
from tests.conftest import PROJECT, RunningServer

CLIP = random_clip(21, "rotating clockwise")
ROOMS = (
    (PROJECT / "handler", "actionrec"),
    (PROJECT, "actionrec_client"),
    (PROJECT, "actionrec_gateway"),
    (PROJECT, "actionrec_engines"),
)
"""What is installed: the folder that a package lies in, and its name."""
OURS = ("__editable__", "slowfast_torchserve")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``pip wheel .`` makes."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        *(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"),
        "-w",
        str(folder),
    ]
    command.append(str(PROJECT))
    subprocess.run(command, check=True, timeout=300, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with the wheel and what its extras ask for, and none of this repository.

    The dependencies are linked, not installed again, which takes a second instead of minutes.
    """
    home = tmp_path_factory.mktemp("elsewhere") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True, timeout=120)
    site = next((home / "lib").glob("python3*/site-packages"))
    for package in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if package.name == "cv2":  # it looks for its own parts, and through a link it finds itself
            shutil.copytree(package, site / package.name)
        elif not package.name.startswith(OURS):
            (site / package.name).symlink_to(package)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return home / "bin" / "python"


def run(python: Path, code: str, folder: Path) -> str:
    """What a program prints there."""
    done = subprocess.run(
        [python, "-W", "ignore", "-c", code], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_installs_names_of_its_own(wheel: Path) -> None:
    """Nothing is installed that another project may be called, and type checkers see the types."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names if not name.split("/")[0].endswith(".dist-info")}
    assert tops == {name for _, name in ROOMS}
    assert {f"{name}/py.typed" for _, name in ROOMS} <= set(names)


def test_every_module_is_in_it(wheel: Path) -> None:
    """A room that was added and not packed would be missing only where this repository is not."""
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.endswith(".py")}
    here = {str(path.relative_to(root)) for root, name in ROOMS for path in (root / name).rglob("*.py")}
    assert packed == here


def test_it_classifies_in_process(python: Path, motion_unpacked: Path, tmp_path: Path) -> None:
    """An unpacked archive answers a clip inside a program, in a sandbox."""
    (tmp_path / "clip.mp4").write_bytes(CLIP.data)
    code = f"""
import json
from pathlib import Path
from actionrec.service import Row, Service

if __name__ == "__main__":
    service = Service.load(Path({str(motion_unpacked)!r}))
    reply, = service.answer([Row({{"body": Path("clip.mp4").read_bytes()}})])
    service.close()
    print(reply.status, json.loads(reply.body)["predictions"][0]["label"])
"""
    assert run(python, code, tmp_path) == f"200 {CLIP.label}"


def test_its_client_asks_a_server(python: Path, motion_server: RunningServer, tmp_path: Path) -> None:
    """The client and the command line of the wheel get a served model's answer; they import no torch."""
    (tmp_path / "clip.mp4").write_bytes(CLIP.data)
    code = f"""
import sys
from actionrec_client import ActionClient
label = ActionClient({motion_server.inference_url!r}).classify("clip.mp4").label
assert "torch" not in sys.modules
print(label)
"""
    assert run(python, code, tmp_path) == CLIP.label
    command = [
        str(python),
        "-m",
        "actionrec_client",
        "predict",
        "clip.mp4",
        "--url",
        motion_server.inference_url,
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert CLIP.label in done.stdout
