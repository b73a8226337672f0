"""Promise: what the documents tell people to type works as it stands."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.preflight import PORTS
from motion.clips import random_clip
from tests.conftest import PROJECT, RunningServer
from tests.documents import DOCUMENTS, blocks, read
from tests.helpers_cli import actionrec, environment
from tests.helpers_gateway import RunningGateway
from tests.helpers_video import spliced
from tests.streams import StreamCommand

pytest_plugins = ("tests.fixtures_gateway",)

PORT = "18480"
SHIPPED = (
    "Makefile",
    "pyproject.toml",
    "config.properties",
    "scripts",
    "handler",
    "export",
    "motion",
    "actionrec_client",
    "actionrec_gateway",
    "deploy",
    "testing",
    "training",
)
OWN = "docs/own-labels.md"
ASKED = {"embedding": "embedding", "explain": "explanation"}
"""Options and the field of the reply that each asks for."""
CLIP = random_clip(11, "moving left")
DEADLINE_SECONDS = 600
OTHER_PROCESSOR_PERCENT = 4
"""Three clips of 84: processors round differently, and what is near a border falls on the other side."""


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
    # The environment is this project's: set up again from here, it would be this copy's.
    for name in ("pyproject.toml", "scripts/setup"):
        os.utime(root / name, (0, 0))
    (root / "clip.mp4").write_bytes(CLIP.data)
    yield root
    shell("make stop", root)


@pytest.fixture(scope="module")
def readers_folder(
    tmp_path_factory: pytest.TempPathFactory, motion_unpacked: Path, motion_archive: Path
) -> Path:
    """What a reader has: a clip, a longer video, a folder, a labelled list, an archive, and one unpacked."""
    root = tmp_path_factory.mktemp("reader")
    (root / "clip.mp4").write_bytes(CLIP.data)
    (root / "README.md").write_text("no video", encoding="utf-8")
    (root / "motions.mp4").write_bytes(spliced(("moving left", "growing"), 4))
    for name in ("videos/a.mp4", "videos/b/c.mp4", "val/abc_000001_000011.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(CLIP.data)
    rows = "label,youtube_id,time_start,time_end,split\nmoving left,abc,1,11,val\n"
    (root / "kinetics_val.csv").write_text(rows, encoding="utf-8")
    (root / "unpacked_archive").symlink_to(motion_unpacked)
    (root / "motion.mar").symlink_to(motion_archive)
    return root


def shell(command: str, cwd: Path) -> str:
    """Run a line as a user would, with this environment in the place of .venv."""
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=cwd,
        env={**os.environ, "VENV": sys.prefix, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def here(line: str, port: str = PORT) -> str:
    """A line of a document, with this test's port and model."""
    gateway = int(port) + PORTS
    line = line.replace(".venv/bin/", "")
    line = line.replace("make serve", f"make serve PORT={port} GATEWAY_PORT={gateway}")
    line = line.replace("http://127.0.0.1:8000/", f"http://127.0.0.1:{gateway}/")
    url = f"http://127.0.0.1:{port}/predictions/motion"
    line = re.sub(r"http://127\.0\.0\.1:8080/predictions/[\w<>]+|\bURL\b", url, line)
    return line.replace("http://127.0.0.1:8081", f"http://127.0.0.1:{int(port) + 1}")


def curl_lines() -> list[str]:
    """Every curl that a document tells people to type to this machine.

    Those to routes of the gateway's own have tests of theirs: their answers are no predictions.
    """
    written = "\n".join(read(document) for document in DOCUMENTS if document != OWN)
    written = written.replace("\\\n", " ")
    lines = re.findall(r"^curl .*|(?<=`)curl -[TF] [^`]*URL(?=`)", written, re.M)
    others = re.compile(r"example\.org|127\.0\.0\.1:8000/(?!predictions/)")
    return [line for line in dict.fromkeys(lines) if not others.search(line)]


def test_the_product(checkout: Path) -> None:
    """Build, serve, ask, scale and stop, with the README's own lines; only the port is the test's."""
    for line in ("make archive && make serve", "`make status`", "`make stop`", "`make scale WORKERS=2`"):
        assert line in read("README.md")
    _, first, *_ = blocks("README.md", "sh")
    said = shell(here(first).replace("curl ", "curl -sS "), checkout)
    assert f"curl -T clip.mp4 http://127.0.0.1:{PORT}/predictions/motion" in said
    (written,) = blocks("README.md", "json")
    promised, reply = json.loads(written), json.loads(said.splitlines()[-1])
    assert reply.keys() == promised.keys()
    assert reply["clip"] == promised["clip"]
    for got, want in zip(reply["predictions"], promised["predictions"], strict=True):
        assert (got["label"], got["class_index"]) == (want["label"], want["class_index"])
        assert got["score"] == pytest.approx(want["score"], abs=0.01)
    lines = curl_lines()
    assert len(lines) >= 6
    for line in lines:
        answer = json.loads(shell(f"{here(line)} -sS", checkout))
        if "customized" in line:
            assert answer[0]["customizedMetadata"]["name"] == "motion"
            continue
        timeline = {"timeline", "segments", "cuts"} if "stride_seconds" in line else set()
        asked = {field for option, field in ASKED.items() if f"{option}=" in line}
        assert set(answer) == {"predictions", "clip", "model", "timings_ms", "warnings"} | timeline | asked, (
            line
        )
    shell("make scale WORKERS=2", checkout)
    assert shell("make status", checkout).count("READY") == 2
    shell("make stop", checkout)


def accuracy_percent(report: str) -> float:
    """What `make learn` says of its labels."""
    (percent,) = re.findall(r"^accuracy +([\d.]+)%", report, re.M)
    return float(percent)


def test_own_labels(checkout: Path) -> None:
    """From folder to curl: learning the example's motions and asking for a new clip gives what stands there."""
    _, example, *_ = blocks(OWN, "sh")
    *lines, last = example.splitlines()
    said = "\n".join(shell(here(line), checkout) for line in lines)
    reply = json.loads(shell(here(last).replace("predictions/motion", "predictions/mine") + " -sS", checkout))
    shell("make stop", checkout)
    written, answer = blocks(OWN, "text")[0], json.loads(blocks(OWN, "json")[0])
    got, stands = accuracy_percent(said), accuracy_percent(written)
    assert f"{got:.0f}% are right" in said
    assert got == pytest.approx(stands, abs=OTHER_PROCESSOR_PERCENT)
    (best,) = answer["predictions"]
    assert reply["predictions"][0]["label"] == best["label"]
    assert reply["predictions"][0]["score"] == pytest.approx(best["score"], abs=0.02)
    assert reply["model"].keys() == answer["model"].keys()


def test_the_commands(motion_server: RunningServer, readers_folder: Path) -> None:
    """Every command line that a document shows with its output runs as it stands."""
    lines = [
        line for document in DOCUMENTS for line in re.findall(r"^\$ actionrec (.*)$", read(document), re.M)
    ]
    known = {"predict", "timeline", "batch", "evaluate", "explain", "embed", "similar"}
    assert {shlex.split(line)[0] for line in lines} == known
    for line in lines:
        done = actionrec(*shlex.split(line), server=motion_server, cwd=readers_folder)
        assert done.returncode == 0, (line, done.stderr)


# Those of docs/platforms.md ask a gateway with gRPC: test_gateway_contracts_served runs them.
@pytest.mark.parametrize(
    "document", [each for each in DOCUMENTS if blocks(each, "python") and each != "docs/platforms.md"]
)
def test_python(
    motion_server: RunningServer, gateway: RunningGateway, readers_folder: Path, document: str
) -> None:
    """Each Python block runs as it stands, but for the addresses, and says what it is to say."""
    for block in blocks(document, "python"):
        program = block.replace("http://127.0.0.1:8080", motion_server.inference_url)
        done = subprocess.run(
            [sys.executable, "-c", program.replace("127.0.0.1:8000", gateway.url.removeprefix("http://"))],
            cwd=readers_folder,
            env=environment(motion_server),
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "moving left" in done.stdout
        if "README.md" in block:
            assert "README.md NOT_A_VIDEO (415)" in done.stdout


def test_streams(motion_server: RunningServer, tmp_path: Path) -> None:
    """The lines of live streams run, but for the source, which is a file here."""
    source = tmp_path / "motions.mp4"
    source.write_bytes(spliced(("moving left",), 4))
    lines = re.findall(
        r"^\.venv/bin/python -m actionrec_client stream (\S+) *([^#\n]*)", read("docs/long-videos.md"), re.M
    )
    assert len(lines) == 3
    url = motion_server.state.predict_url("motion")
    for _, options in lines:
        written = options.replace("annotated.mp4", str(tmp_path / "annotated.mp4"))
        written = written.replace("log.jsonl", str(tmp_path / "log.jsonl"))
        with StreamCommand(str(source), "--url", url, "--count", "1", *written.split()) as command:
            assert command.finish() == 0, command.errors
    assert (tmp_path / "annotated.mp4").stat().st_size
    assert len((tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()) == 3


@pytest.mark.parametrize("document", DOCUMENTS)
def test_blocks(document: str) -> None:
    """Each JSON block is JSON, and each shell block a shell's."""
    for block in blocks(document, "json"):
        json.loads(block)
    for block in blocks(document, "sh"):
        done = subprocess.run(
            ["bash", "-n"], input=block, capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), block
