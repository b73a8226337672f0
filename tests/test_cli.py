"""Promise: the command line says what the server says, teaches by --help, and its exit codes mean something."""

import json
import re
from pathlib import Path

import pytest

from actionrec_client import probe
from motion.clips import random_clip
from tests.conftest import RunningServer
from tests.helpers_cli import actionrec
from tests.helpers_misbehave import GOOD, Answer, misbehaving

CLIP = random_clip(11, "moving left")
COMMANDS = (
    *("predict", "timeline", "explain", "batch", "embed", "similar", "evaluate"),
    *("models", "describe", "ready", "scale"),
)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A folder with a good clip and a broken one."""
    (tmp_path / "good.mp4").write_bytes(CLIP.data)
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    return tmp_path


def test_predict(motion_server: RunningServer, clips: Path) -> None:
    """A table for people on stdout, what went wrong on stderr, and 1 where one of the files failed."""
    good = actionrec("predict", "good.mp4", "-k", "2", server=motion_server, cwd=clips)
    assert good.returncode == 0, good.stderr
    lines = good.stdout.splitlines()
    assert lines[1].startswith("moving left")
    assert len(lines) == 3
    both = actionrec("predict", "broken.mp4", "good.mp4", "none.mp4", server=motion_server, cwd=clips)
    assert both.returncode == 1
    assert re.search(r"^good.mp4 +moving left", both.stdout, re.M)
    assert "broken.mp4: The 11 bytes received" in both.stderr
    assert "(NOT_A_VIDEO)" in both.stderr
    assert "none.mp4: No such file" in both.stderr


def test_predict_json(motion_server: RunningServer, clips: Path) -> None:
    """One object a line and file, in the order of the files: the server's own reply or error."""
    done = actionrec("predict", "broken.mp4", "good.mp4", "--json", "-k", "1", server=motion_server, cwd=clips)
    assert done.returncode == 1
    broken, good = map(json.loads, done.stdout.splitlines())
    assert (broken["file"], broken["error"]["code"]) == ("broken.mp4", "NOT_A_VIDEO")
    assert (good["file"], good["predictions"][0]["label"]) == ("good.mp4", "moving left")
    assert len(good["predictions"]) == 1


def test_options_reach_the_server(motion_server: RunningServer, clips: Path) -> None:
    """--start, --end, --views and --crops are the request's options, and their errors come through."""
    done = actionrec(
        *("predict", "good.mp4", "--json", "--start", "0.2", "--end", "2.2", "--crops", "3"),
        server=motion_server,
        cwd=clips,
    )
    clip = json.loads(done.stdout)["clip"]
    assert (clip["start_seconds"], clip["end_seconds"], clip["views"]["crops"]) == (0.2, 2.2, 3)
    wrong = actionrec("predict", "good.mp4", "--crops", "2", server=motion_server, cwd=clips)
    assert wrong.returncode == 1
    assert "crops is" in wrong.stderr


def test_the_server_itself(motion_server: RunningServer) -> None:
    """models, describe, scale and ready, for people and as JSON."""
    for command, wanted in (("models", "1 of 1"), ("describe", "32 frames"), ("ready", "moving right")):
        plain = actionrec(command, server=motion_server)
        assert plain.returncode == 0, plain.stderr
        assert wanted in plain.stdout
    (model,) = json.loads(actionrec("models", "--json", server=motion_server).stdout)
    assert (model["name"], model["workers"], model["ready"]) == ("motion", ["READY"], True)
    assert json.loads(actionrec("describe", "--json", server=motion_server).stdout)["labels"] == 8
    assert json.loads(actionrec("ready", "--json", server=motion_server).stdout)["ready"] is True
    scaled = actionrec("scale", "1", server=motion_server)
    assert (scaled.returncode, scaled.stdout) == (0, "motion: 1 worker READY\n")


def test_the_token_and_the_model(clips: Path) -> None:
    """--token goes with every request, --model into the address."""
    with misbehaving([Answer(body=GOOD)]) as server:
        done = actionrec("predict", "good.mp4", "--url", server.url, "--model", "m", "--token", "t", cwd=clips)
    assert done.returncode == 0, done.stderr
    assert {headers.get("Authorization") for headers in server.headers} == {"Bearer t"}
    assert "archery" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("predict", "good.mp4"), 3),
        (("ready", "--timeout", "2"), 3),
        (("models",), 3),
        (("predict", "good.mp4", "--url", "ftp://x"), 2),
        (("predict",), 2),
        (("predict", "good.mp4", "--nonsense"), 2),
        (("predict", "good.mp4", "--timeout", "inf"), 2),
        (("predict", "good.mp4", "--top-k", "٣"), 2),
        (("nonsense",), 2),
        (("scale", "many"), 2),
        (("evaluate", "no-such-list.txt"), 2),
        (("--help",), 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_exit_codes(clips: Path, arguments: tuple[str, ...], code: int) -> None:
    """3 with no server at the address, 2 for wrong usage, at once and never with a traceback."""
    done = actionrec(*arguments, cwd=clips)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr or code == 0 or "ready" in done.stdout


def test_an_error_as_json(clips: Path) -> None:
    """With --json an error of the whole command is JSON too."""
    done = actionrec("predict", "good.mp4", "--json", cwd=clips)
    assert json.loads(done.stdout)["error"]["code"] == "UNREACHABLE"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches(command: str) -> None:
    """Every command's help has an example that starts with it, and says what the exit codes mean."""
    done = actionrec(command, "--help")
    assert done.returncode == 0
    assert re.search(rf"\n (until )?actionrec {command}\b", done.stdout), done.stdout
    assert "3 the server cannot be reached" in " ".join(done.stdout.split())
    assert "--json" in done.stdout
    assert "--url" in done.stdout
    assert "--token" in done.stdout


def test_a_model_that_is_wrong_is_not_ready() -> None:
    """The bundled model has to name the tiny clip's motion; for another any answer counts."""
    from actionrec_client import ActionClient

    ready = {"modelName": "motion", "modelVersion": "1", "workers": [{"status": "READY"}], "minWorkers": 1}
    for name, wanted in (("motion", False), ("mine", True)):
        reply = {**GOOD, "model": {**GOOD["model"], "name": name}}
        with misbehaving([Answer(body=[ready]), Answer(body=reply)]) as server:
            client = ActionClient(server.url, model=name, management_url=server.url)
            found = probe.probe(client, 10, named=True)
        assert found.ready is wanted, found
