"""Promise: an archive brings all that it needs: no pytorchvideo, no torchvision, none of this repository."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from motion.clips import random_clip
from tests.conftest import StartServer

LEFT_OUT = ("pytorchvideo", "torchvision", "fvcore", "iopath", "__editable__", "slowfast_torchserve", "pytest")


@pytest.fixture(scope="module")
def clean_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has what the `serve` extra installs, and neither the export's packages nor ours.

    The packages are linked, not installed again, which takes a second instead of minutes.
    """
    home = tmp_path_factory.mktemp("clean") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True, timeout=120)
    site = next((home / "lib").glob("python3*/site-packages"))
    for package in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if not package.name.startswith(LEFT_OUT):
            (site / package.name).symlink_to(package)
    return home / "bin" / "python"


@pytest.mark.parametrize("module", ["pytorchvideo", "torchvision", "actionrec", "export"])
def test_the_environment_is_clean(clean_python: Path, module: str, tmp_path: Path) -> None:
    """What must not be needed cannot be imported there, so the next test shows something."""
    found = subprocess.run(
        [clean_python, "-c", f"import {module}"], cwd=tmp_path, capture_output=True, timeout=60
    )
    assert b"ModuleNotFoundError" in found.stderr


def test_the_archive_serves_there(clean_python: Path, motion_archive: Path, server: StartServer) -> None:
    """A server on that interpreter loads the archive and classifies a clip."""
    running = server(motion_archive, python=clean_python)
    clip = random_clip(21, "rotating clockwise")
    reply = running.predict(clip.data)
    assert reply.status_code == 200, reply.text
    assert reply.json()["model"]["name"] == "motion"
    assert reply.json()["model"]["runtime"] == "aoti"  # compiled here, and it needs no compiler to run
