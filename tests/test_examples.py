"""Promise: every example runs as it stands, far from this repository, and prints what it is there to show."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from motion.clips import random_clip
from motion.model import WEIGHTS
from motion.scene import LABELS
from tests.conftest import PROJECT, RunningServer
from tests.helpers_cli import DEADLINE_SECONDS, environment
from tests.helpers_misbehave import GOOD, Answer, misbehaving
from tests.helpers_video import spliced

pytestmark = pytest.mark.server

EXAMPLES = PROJECT / "examples"
CLIPS = {name: random_clip(seed, name, difficulty=0.2) for seed, name in ((11, "moving left"), (12, "growing"))}
NOWHERE = "http://127.0.0.1:1"
ASKING = {
    "first_request.py": ("left.mp4", "--url", f"{NOWHERE}/predictions/motion"),
    "batch_folder.py": (".", "--url", NOWHERE),
    "timeline_to_subtitles.py": ("left.mp4", "--url", NOWHERE),
    "live_camera.py": ("left.mp4", "--url", NOWHERE),
    "async_client.py": ("left.mp4", "--url", NOWHERE),
    "more_like_this.py": ("left.mp4", ".", "--url", NOWHERE),
    "compare_two_models.py": (
        "left.mp4",
        *("--a", f"{NOWHERE}/predictions/a", "--b", f"{NOWHERE}/predictions/b"),
    ),
}
"""Those that need a server, and how they are called where there is none."""
ALONE = ("in_process.py", "own_checkpoint.py")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good clips and a broken one."""
    (tmp_path / "left.mp4").write_bytes(CLIPS["moving left"].data)
    (tmp_path / "growing.mp4").write_bytes(CLIPS["growing"].data)
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    return tmp_path


def example(name: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run one as a user does, in a folder of theirs, without this repository's folder to import from."""
    variables = environment(None)
    del variables["PYTHONPATH"], variables["ACTIONREC_URL"]
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, arguments)],
        cwd=cwd, env=variables, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False,
    )  # fmt: skip


def test_all_are_tried_and_listed() -> None:
    """An example that is added is in the table of the README, and among those that are run here."""
    there = {path.name for path in EXAMPLES.glob("*.py")}
    assert there == {*ASKING, *ALONE}
    listed = re.findall(r"^\| \[(.+)\]\((.+)\) \|", (EXAMPLES / "README.md").read_text(encoding="utf-8"), re.M)
    assert len(listed) == len(there)
    assert {name for pair in listed for name in pair} == there


@pytest.mark.parametrize("name", [*ASKING, *ALONE])
def test_each_is_short_and_says_how_it_is_run(name: str) -> None:
    """At most 70 lines, and its help says what it shows and has a line to copy."""
    assert len((EXAMPLES / name).read_text(encoding="utf-8").splitlines()) <= 70
    done = example(name, "--help", cwd=EXAMPLES)
    assert done.returncode == 0
    assert f"python examples/{name} " in done.stdout


@pytest.mark.parametrize("name", ASKING)
def test_without_a_server(name: str, folder: Path) -> None:
    """Where there is no server each ends at once with one clear line, and an exit code other than 0."""
    done = example(name, *ASKING[name], cwd=folder)
    assert done.returncode == 1, done.stdout
    assert done.stderr.startswith("error: ")
    assert "http://127.0.0.1:" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_first_request(motion_server: RunningServer, folder: Path) -> None:
    """The labels of a clip, the best first; a refused one is a line with the server's own words."""
    url = motion_server.state.predict_url()
    done = example("first_request.py", "left.mp4", "--url", url, cwd=folder)
    assert done.returncode == 0, done.stderr
    first, best, *rest = done.stdout.splitlines()
    assert re.fullmatch(r"left.mp4: \d\.\d s of \d+x\d+ pixels", first)
    assert best.endswith("%  moving left")
    assert len([line for line in rest if "%" in line]) == 4
    refused = example("first_request.py", "broken.mp4", "--url", url, cwd=folder)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: NOT_A_VIDEO: The 11 bytes received are")
    missing = example("first_request.py", "left.mp4", "--url", f"{url}-other", cwd=folder)
    assert missing.returncode == 1
    assert missing.stderr.startswith("error: 404: Model not found")


def test_batch_folder(motion_server: RunningServer, folder: Path) -> None:
    """A row for every file, the broken one with its error."""
    done = example("batch_folder.py", folder, "--url", motion_server.inference_url, cwd=folder)
    assert done.returncode == 0, done.stderr
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = {Path(row["file"]).name: row for row in csv.DictReader(file)}
    assert {name: row["label"] or row["error"] for name, row in rows.items()} == {
        "left.mp4": "moving left",
        "growing.mp4": "growing",
        "broken.mp4": "NOT_A_VIDEO",
    }
    assert done.stdout.splitlines()[-1] == "2 classified, 1 failed: labels.csv"


def test_timeline_to_subtitles(motion_server: RunningServer, folder: Path) -> None:
    """A span for each motion, printed and as subtitles."""
    labels = ("moving left", "growing")
    (folder / "two.mp4").write_bytes(spliced(labels, 4.0))
    done = example("timeline_to_subtitles.py", "two.mp4", "--url", motion_server.inference_url, cwd=folder)
    assert done.returncode == 0, done.stderr
    *spans, wrote = done.stdout.splitlines()
    assert [re.sub(r".*  (.+) \(.*", r"\1", span) for span in spans] == [*labels]
    assert wrote == "wrote two.srt"
    assert (folder / "two.srt").read_text(encoding="utf-8").startswith("1\n00:00:00,000 --> 00:00:0")


def test_live_camera(motion_server: RunningServer, folder: Path) -> None:
    """A file that is played is labelled as it plays, and the label to watch for raises the alarm."""
    (folder / "scene.mp4").write_bytes(spliced(("moving left",), 4.0))
    options = ("--alarm", "moving left", "--url", motion_server.inference_url)
    done = example("live_camera.py", "scene.mp4", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    first, *_, last = done.stdout.splitlines()
    assert re.fullmatch(r" +\d\.\d s  moving left \(0\.\d\d\)  <-- ALARM", first)
    assert re.fullmatch(r"[1-9] windows were answered. The end: the source ended.", last)
    missing = example("live_camera.py", "no-such.mp4", *options, cwd=folder)
    assert missing.returncode == 1
    assert missing.stderr.startswith("error: There is no file no-such.mp4.")


def test_async_client(motion_server: RunningServer, folder: Path) -> None:
    """Every clip has its line; the exit code tells that one was refused."""
    clips = ("left.mp4", "growing.mp4", "broken.mp4")
    done = example(
        "async_client.py", *clips, "--at-once", "2", "--url", motion_server.inference_url, cwd=folder
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    lines = sorted(re.sub(r"^ +[\d.]+ s  | \(.*", "", line) for line in done.stdout.splitlines())
    assert lines == ["broken.mp4: NOT_A_VIDEO", "growing.mp4: growing", "left.mp4: moving left"]


def test_compare_two_models(motion_server: RunningServer, folder: Path) -> None:
    """A model and one that says something else agree on no clip; the same model agrees with itself."""
    ours = motion_server.state.predict_url()
    with misbehaving([Answer(body=GOOD)]) as other:
        theirs = f"{other.url}/predictions/m"
        options = ("left.mp4", "growing.mp4", "--a", ours, "--b")
        done = example("compare_two_models.py", *options, theirs, cwd=folder)
        same = example("compare_two_models.py", *options, ours, cwd=folder)
    assert done.returncode == same.returncode == 0, done.stderr + same.stderr
    assert re.search(r"^X left.mp4: moving left 0\.\d\d \| archery 0.90$", done.stdout, re.M)
    assert "They agree on 0 of 2 clips." in done.stdout
    assert re.search(r"^a: motion 1.0 \(\w+ fp32\), \d+ ms a clip$", done.stdout, re.M)
    assert re.search(r"^b: m 1.0 \(torchscript fp32\), \d+ ms a clip$", done.stdout, re.M)
    assert "They agree on 2 of 2 clips." in same.stdout


def test_more_like_this(motion_server: RunningServer, folder: Path) -> None:
    """A clip is most like itself, then like its own motion; the broken one is skipped with a word."""
    (folder / "other-left.mp4").write_bytes(random_clip(13, "moving left", difficulty=0.2).data)
    options = ("left.mp4", ".", "--count", "2", "--url", motion_server.inference_url)
    done = example("more_like_this.py", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "skipped broken.mp4: NOT_A_VIDEO\n"
    first, second = done.stdout.splitlines()
    assert first == " 1.000  left.mp4  (moving left)"
    assert re.fullmatch(r" 0\.\d{3}  other-left.mp4  \(moving left\)", second)


def test_in_process(motion_archive: Path, folder: Path) -> None:
    """An archive answers clips with no server, each with its own answer or error."""
    clips = ("left.mp4", "growing.mp4", "broken.mp4")
    done = example("in_process.py", motion_archive, *clips, cwd=folder)
    assert done.returncode == 1, done.stderr
    starts = ("left.mp4: moving left 0.", "growing.mp4: growing 0.", "broken.mp4: NOT_A_VIDEO: The 11 bytes")
    for line, start in zip(done.stdout.splitlines(), starts, strict=True):
        assert line.startswith(start)
    missing = example("in_process.py", "no.mar", *clips, cwd=folder)
    assert missing.returncode == 1
    assert missing.stderr == "error: there is no archive no.mar. Build one: make archive\n"


def test_own_checkpoint(folder: Path) -> None:
    """A checkpoint as a training script saves it, and labels of one's own, name what a clip shows."""
    state = torch.load(WEIGHTS, weights_only=True)
    torch.save({"epoch": 3, "model_state": state}, folder / "my.pyth")
    mine = [f"gesture {number}" for number, _ in enumerate(LABELS)]
    (folder / "labels.txt").write_text("\n".join(mine), encoding="utf-8")
    given = ("--model", "motion", "--weights", "my.pyth", "--labels", "labels.txt", "--store", "store")
    done = example("own_checkpoint.py", "growing.mp4", *given, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    best = next(line for line in done.stdout.splitlines() if re.match(r" *[\d.]+%  ", line))
    assert best.endswith(f"%  {mine[LABELS.index('growing')]}")
    (folder / "short.txt").write_text("\n".join(mine[:3]), encoding="utf-8")
    wrong = example(
        "own_checkpoint.py", "growing.mp4", *given[:-3], "short.txt", "--store", "store", cwd=folder
    )
    assert wrong.returncode == 1
    assert wrong.stderr.endswith("error: the archive was not built; what it says is above\n")
