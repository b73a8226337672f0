"""Promise: what the README tells people to type works as it stands."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from motion.clips import random_clip
from tests.conftest import PROJECT

README = (PROJECT / "README.md").read_text(encoding="utf-8")
PORT = "18480"
SHIPPED = (
    "Makefile",
    "pyproject.toml",
    "config.properties",
    "scripts",
    "handler",
    "export",
    "client",
    "deploy",
)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the project, so that its model_store and server are not the user's."""
    root = tmp_path_factory.mktemp("checkout")
    for name in SHIPPED:
        source = PROJECT / name
        # copy2 keeps the times, so that make finds the environment up to date.
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, root / name)
    clip = random_clip(5, "growing", "libx264")
    (root / "clip.mp4").write_bytes(clip.data)
    (root / "archery.mp4").write_bytes(clip.data)
    yield root
    shell("make stop", root)


def shell(command: str, cwd: Path) -> str:
    """Run a line as a user would, with this environment in the place of .venv."""
    environment = {
        **os.environ,
        "VENV": sys.prefix,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_product(checkout: Path) -> None:
    """Build, serve, ask, scale and stop, with the README's own lines; only port and model are the test's."""
    for line in ("make archive && make serve", "make status", "make stop", "make scale WORKERS=2"):
        assert line in README
    shell("make archive MODEL=motion", checkout)
    ready = shell(f"make serve PORT={PORT}", checkout)
    assert f"curl -T clip.mp4 http://127.0.0.1:{PORT}/predictions/motion" in ready
    curl_lines = re.findall(
        r"^curl -[TF] .*|(?<=`)curl -F [^`]*URL(?=`)|(?<=`)curl -T [^`]*URL(?=`)", README, re.M
    )
    assert len(curl_lines) >= 5
    for line in curl_lines:
        if "example.org" in line:
            continue  # behind nginx, which tests/test_nginx.py tries
        url = f"http://127.0.0.1:{PORT}/predictions/motion"
        line = re.sub(r"http://127\.0\.0\.1:8080/predictions/\w+|URL", url, line)
        reply = json.loads(shell(f"{line} -sS", checkout))
        timeline = {"timeline", "segments", "cuts"} if "stride_seconds" in line else set()
        assert set(reply) == {"predictions", "clip", "model", "timings_ms", "warnings"} | timeline, line
    shell("make scale WORKERS=2", checkout)
    assert shell("make status", checkout).count("READY") == 2
    shell("make stop", checkout)


def test_the_python_example(checkout: Path) -> None:
    """The README's Python block runs as it is on an unpacked archive."""
    (block,) = re.findall(r"```python\n(.*?)```", README, re.S)
    if not (checkout / "model_store" / "motion.mar").exists():
        shell("make archive MODEL=motion", checkout)
    shell(
        "unzip -q -o model_store/motion.mar -d unpacked_archive || python -m zipfile -e model_store/motion.mar "
        "unpacked_archive",
        checkout,
    )
    (checkout / "example.py").write_text(block, encoding="utf-8")
    assert "'predictions'" in shell("python example.py", checkout)


def test_every_make_target_is_documented_by_help() -> None:
    """`make` lists every target that the README names."""
    listed = subprocess.run(
        ["make", "help"], cwd=PROJECT, capture_output=True, text=True, timeout=60, check=True
    )
    for target in set(re.findall(r"(?:`|^|&& )make ([a-z][a-z-]+)", README, re.M)):
        assert re.search(rf"^{target}\b", listed.stdout, re.M), target
