"""Promise: `make learn` turns labelled videos into an archive that answers with those labels, as often right as
its report says; nothing is half done.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import torch
from actionrec.head import Head
from actionrec.manifest import Manifest
from actionrec.model.transform import pack
from actionrec.pipeline import Classifier
from actionrec.service import Row, Service
from scipy.special import softmax

from export import artifacts, zoo
from export.learn.cache import Arrays
from export.learn.data import Example, read
from export.learn.embed import WINDOWS, Embedder
from export.learn.put_head import put_head
from testing.motions import MOTIONS, motion_clip, write_folders
from tests.conftest import BUILD_SECONDS, DEADLINE_SECONDS, PROJECT, StartServer
from tests.helpers_video import spliced

pytestmark = pytest.mark.server

CLIPS = 14
"""Of each motion, to learn from."""
FIRST_CLIP = 100
NEW_CLIPS = 20
"""Of each motion, to be tried on."""
EPOCH = {"SOURCE_DATE_EPOCH": "1700000000"}


@dataclass(frozen=True)
class Workplace:
    """Where `python -m export learn` runs."""

    clips: Path
    cache: Path
    store: Path

    def command(self, *more: str) -> list[str]:
        """Learning from the clips on `motion`; a later option of the same name counts."""
        learn = [sys.executable, "-m", "export", "learn", "--json", "--data", str(self.clips), "--name", "mine"]
        return [*learn, "--model", "motion", "--runtime", "torchscript", "--store", str(self.store), *more]

    @property
    def variables(self) -> Mapping[str, str]:
        return {**os.environ, **EPOCH, "XDG_CACHE_HOME": str(self.cache)}

    def learn(self, *more: str, code: int = 0) -> list[dict[str, Any]]:
        """Run it to its end; returns what it told."""
        done = subprocess.run(
            self.command(*more),
            cwd=PROJECT,
            env=self.variables,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
        assert done.returncode == code, (done.stdout[-2000:], done.stderr[-2000:])
        return [{**json.loads(line), "stderr": done.stderr} for line in done.stdout.splitlines()]


@dataclass(frozen=True)
class Learned:
    """A finished run."""

    place: Workplace
    told: list[dict[str, Any]]
    archive: Path
    directory: Path
    """The archive, unpacked."""

    @property
    def manifest(self) -> Manifest:
        return Manifest.load(self.directory)

    @property
    def report(self) -> str:
        return (self.place.store / "mine.report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Learned:
    """Six motions that `motion` does not know, learned from 14 clips each."""
    root = tmp_path_factory.mktemp("learned")
    place = Workplace(root / "clips", root / "cache", root / "store")
    write_folders(place.clips, CLIPS, FIRST_CLIP)
    told = place.learn()
    with zipfile.ZipFile(place.store / "mine.mar") as file:
        file.extractall(root / "unpacked")
    return Learned(place, told, place.store / "mine.mar", root / "unpacked")


def table(path: Path, rows: Sequence[tuple[Path, str]]) -> Path:
    """A list of videos and labels as CSV."""
    path.write_text("path,label\n" + "".join(f"{video},{label}\n" for video, label in rows), encoding="utf-8")
    return path


def last(told: Sequence[Mapping[str, Any]], event: str) -> Mapping[str, Any]:
    return next(line for line in reversed(told) if line["event"] == event)


def test_new_clips_over_http(server: StartServer, learned: Learned) -> None:
    """New clips are recognised as often as the report says, and UNSURE stands where the score is low."""
    running = server(learned.archive)
    right, unsure = 0, 0
    below = learned.manifest.unsure_below
    assert below is not None
    for label in MOTIONS:
        for seed in range(1000, 1000 + NEW_CLIPS):
            reply = running.predict(motion_clip(label, seed)).json()
            best = reply["predictions"][0]
            right += best["label"] == label
            warned = "UNSURE" in [warning["code"] for warning in reply["warnings"]]
            assert warned == (best["score"] < below)
            unsure += warned
            assert reply["model"]["unsure_below"] == below
    accuracy = right / (len(MOTIONS) * NEW_CLIPS)
    low, high = learned.manifest.learned["accuracy"]["interval"]
    assert low <= accuracy <= high
    assert accuracy >= 0.85
    assert unsure < 0.3 * len(MOTIONS) * NEW_CLIPS
    described = requests.get(
        f"{running.management_url}/models/mine?customized=true", timeout=DEADLINE_SECONDS
    ).json()[0]["customizedMetadata"]
    values = json.loads(described) if isinstance(described, str) else described
    assert values["learned"] == json.loads(json.dumps(learned.manifest.learned))
    assert values["network"] == "motion"


def test_what_the_archive_says(learned: Learned) -> None:
    """The description has counts, the list's hash, method, base, and accuracy with how it was measured."""
    manifest, listing = learned.manifest, read(learned.place.clips)
    assert manifest.labels == MOTIONS == listing.labels
    said = manifest.learned
    assert said["method"] == "head"
    assert said["data"] == {
        "sha256": listing.sha256,
        "videos": dict.fromkeys(MOTIONS, CLIPS),
        "examples": dict.fromkeys(MOTIONS, CLIPS),
        "left_out": 0,
    }
    assert said["base"] == {"name": "motion", "network": "motion", "weights": manifest.weights}
    assert "10 folds, with no video on both sides" in said["accuracy"]["how"]
    low, high = said["accuracy"]["interval"]
    assert low <= said["accuracy"]["accuracy"] <= high
    assert said["accuracy"]["labels"].keys() == set(MOTIONS)
    assert said["date"] == "2023-11-14T22:13:20Z"
    (artifact,) = manifest.artifacts
    assert artifact.parity["max_abs_score_difference"] <= artifact.parity["tolerance"]


def test_what_is_told(learned: Learned) -> None:
    """Programs get a JSON object for each step, people can read each."""
    events = [line["event"] for line in learned.told]
    assert events[0] == "read"
    assert list(dict.fromkeys(events)) == ["read", "base", "embedded", "fitted", "learned"]
    assert last(learned.told, "embedded")["done"] == len(MOTIONS) * CLIPS
    assert all(line["message"] for line in learned.told)
    assert last(learned.told, "learned")["archive"] == str(learned.archive)


def test_the_report(learned: Learned) -> None:
    """The report needs nothing else, fits any width, and has verdict, accuracy, pictures and every label."""
    report = learned.report
    accuracy = learned.manifest.learned["accuracy"]
    assert f"{accuracy['accuracy']:.1%}" in report
    assert learned.told[-1]["message"].splitlines()[0] in report
    assert report.count("<svg") == 2
    assert all(label in report for label in MOTIONS)
    assert "width=device-width" in report
    assert not [word for word in ("<script", "<img", "<link", "src=", "@import", "https://") if word in report]


def test_model_pt_has_the_new_head(learned: Learned) -> None:
    """`loaded([slow, fast])` of ``model.pt`` gives the new labels' logits, and its trunk still gives maps."""
    manifest, head = learned.manifest, Head.load(learned.directory)
    frames = torch.randint(0, 255 * 128, (2, 32, 128, 128, 3), dtype=torch.int16)
    pathways = pack(frames, manifest.spec)
    loaded = torch.jit.load(str(learned.directory / "model.pt"))  # type: ignore[no-untyped-call]
    with torch.inference_mode():
        logits = loaded([one.clone() for one in pathways]).numpy()
        maps = [one.numpy() for one in loaded.trunk([one.clone() for one in pathways])]
    embeddings = np.stack([head.embedding([one[row] for one in maps]) for row in range(2)])
    np.testing.assert_allclose(logits, embeddings @ head.weight.T + head.bias, atol=1e-3)


def test_embedding_and_explanation(learned: Learned, motion_unpacked: Path) -> None:
    """The new archive gives the base's embedding, and an explanation that adds up to the new label's logit."""
    clip = motion_clip("circling", 2000)
    replies = []
    for directory in (learned.directory, motion_unpacked):
        service = Service.load(directory, sandbox=False)
        try:
            (reply,) = service.answer([Row({"video": clip, "embedding": "json", "explain": "true"})])
        finally:
            service.close()
        replies.append(json.loads(reply.body))
    mine, base = replies
    np.testing.assert_allclose(mine["embedding"], base["embedding"], atol=1e-3)
    head = Head.load(learned.directory)
    logits = np.asarray(mine["embedding"]) @ head.weight.T + head.bias
    scores = softmax(logits)
    assert mine["predictions"][0]["score"] == pytest.approx(scores.max(), abs=1e-3)
    assert mine["explanation"]["label"] == mine["predictions"][0]["label"]


def test_killed_twice(learned: Learned, tmp_path: Path) -> None:
    """A run that was killed twice and is then finished gives the same archive, byte for byte."""
    place = Workplace(learned.place.clips, tmp_path / "cache", tmp_path / "store")
    # The base is the same file; that it is kept is another test's matter.
    shutil.copytree(
        learned.place.cache / "actionrec" / "learn" / "archives",
        place.cache / "actionrec" / "learn" / "archives",
    )
    for enough in (10, 40):
        with subprocess.Popen(
            place.command(), cwd=PROJECT, env=place.variables, stdout=subprocess.PIPE, text=True
        ) as run:
            assert run.stdout is not None
            for line in run.stdout:
                if json.loads(line).get("done") == enough:
                    run.kill()
                    break
        assert run.wait(DEADLINE_SECONDS) == -9
        assert not list(place.store.glob("*.mar"))
    place.learn()
    assert (place.store / "mine.mar").read_bytes() == learned.archive.read_bytes()
    assert sorted(path.name for path in place.store.iterdir() if not path.name.startswith(".")) == [
        "mine.mar",
        "mine.mar.sha256",
        "mine.report.html",
    ]


def test_a_second_time(learned: Learned, tmp_path: Path) -> None:
    """Another name, list and place of the same videos builds no base and looks at no video again."""
    moved = tmp_path / "elsewhere"
    for label in MOTIONS:
        (moved / label).mkdir(parents=True)
        for number, path in enumerate(sorted((learned.place.clips / label).iterdir())):
            (moved / label / f"clip {number}.MP4").write_bytes(path.read_bytes())
    embeddings = learned.place.cache / "actionrec" / "learn" / "embeddings"
    before = {path: path.stat().st_mtime_ns for path in embeddings.rglob("*.npz")}
    told = learned.place.learn("--data", str(moved), "--name", "again")
    assert {path: path.stat().st_mtime_ns for path in embeddings.rglob("*.npz")} == before
    assert "exporting" not in told[0]["stderr"]
    with zipfile.ZipFile(learned.archive) as one, zipfile.ZipFile(learned.place.store / "again.mar") as other:
        for name in ("head.npz", "model.pt", "labels.txt"):
            assert one.read(name) == other.read(name)


def test_random_labels(learned: Learned, tmp_path: Path) -> None:
    """Labels that mean nothing: the report says chance, and its verdict is not good."""
    videos = sorted(learned.place.clips.rglob("*.mp4"))
    labels = np.random.default_rng(0).permutation(len(videos)) % len(MOTIONS)
    rows = [(video, f"label {label}") for video, label in zip(videos, labels, strict=True)]
    told = learned.place.learn("--data", str(table(tmp_path / "random.csv", rows)), "--name", "random")
    found = last(told, "learned")
    assert found["verdict"] == "chance"
    low, high = found["interval"]
    assert low <= 1 / len(MOTIONS) <= high
    report = (learned.place.store / "random.report.html").read_text(encoding="utf-8")
    assert "This is chance" in report
    assert "Good:" not in report


def test_unreadable_videos(learned: Learned, tmp_path: Path) -> None:
    """Videos that cannot be decoded are named and left out; where too few are left, there is no archive."""
    two = MOTIONS[:2]
    rows = [(path, label) for label in two for path in sorted((learned.place.clips / label).iterdir())[:6]]
    for number in range(2):
        broken = tmp_path / f"broken{number}.mp4"
        broken.write_bytes(rows[number][0].read_bytes()[:900])
        rows.append((broken, two[0]))
    told = learned.place.learn("--data", str(table(tmp_path / "some.csv", rows)), "--name", "some")
    named = {Path(line["path"]).name: line["reason"] for line in told if line["event"] == "left_out"}
    assert named.keys() == {"broken0.mp4", "broken1.mp4"}
    assert all(reason for reason in named.values())
    assert "broken0.mp4" in (learned.place.store / "some.report.html").read_text(encoding="utf-8")
    few = [row for row in rows if row[1] == two[1] or "broken" in row[0].name] + rows[:4]
    told = learned.place.learn("--data", str(table(tmp_path / "few.csv", few)), "--name", "few", code=1)
    assert told[-1]["event"] == "error"
    assert told[-1]["code"] == "BAD_DATA"
    assert f"{two[0]} has 4" in told[-1]["message"]
    assert "broken" in told[-1]["message"]
    assert not list(learned.place.store.glob("few*"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--name", "motion"], "NAME=motion is the name of a model"),
        (["--name", "a/b"], "NAME='a/b' cannot be part of an address"),
        (["--model", "unheard_of"], "MODEL=unheard_of is neither a model nor an archive"),
        (["--model", "gone.mar"], "MODEL=gone.mar does not exist"),
        (["--method", "magic"], "METHOD=magic is not in this version"),
        (["--data", "gone"], "DATA=gone does not exist"),
    ],
)
def test_wrong_orders(learned: Learned, more: list[str], message: str) -> None:
    """What cannot be done is said before anything slow begins."""
    told = learned.place.learn(*more, code=1)
    assert message in told[-1]["message"]
    assert told[-1]["hint"]
    assert not [line for line in told if line["event"] == "embedded"]


def test_on_an_archive(learned: Learned, tmp_path: Path) -> None:
    """An archive is a base too, also one with learned labels; the network stays, and it is said what it was."""
    two = MOTIONS[2:4]
    rows = [(path, f"{label}!") for label in two for path in sorted((learned.place.clips / label).iterdir())]
    data = str(table(tmp_path / "two.csv", rows))
    told = learned.place.learn("--data", data, "--name", "on_mine", "--model", str(learned.archive), code=1)
    assert "is built already" in told[-1]["message"]
    command = [*learned.place.command("--data", data, "--name", "on_mine", "--model", str(learned.archive))]
    at = command.index("--runtime")
    subprocess.run(
        [*command[:at], *command[at + 2 :]],
        cwd=PROJECT,
        env=learned.place.variables,
        check=True,
        capture_output=True,
        timeout=BUILD_SECONDS,
    )
    with zipfile.ZipFile(learned.place.store / "on_mine.mar") as file:
        file.extractall(tmp_path / "unpacked")
    manifest = Manifest.load(tmp_path / "unpacked")
    assert manifest.labels == tuple(f"{label}!" for label in two)
    assert manifest.learned["base"]["name"] == "mine"
    assert manifest.network == "motion"
    assert manifest.weights == learned.manifest.weights


def test_no_archive(learned: Learned, tmp_path: Path) -> None:
    """A file that is no archive of this project is refused."""
    path = tmp_path / "other.mar"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("model-config.yaml", "batchSize: 1\n")
    command = learned.place.command("--model", str(path))
    at = command.index("--runtime")
    done = subprocess.run(
        [*command[:at], *command[at + 2 :]],
        cwd=PROJECT,
        env=learned.place.variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_SECONDS,
    )
    assert done.returncode == 1
    assert json.loads(done.stdout.splitlines()[-1])["code"] == "NO_ARCHIVE"


def test_windows_of_a_span(motion_unpacked: Path, tmp_path: Path) -> None:
    """The windows of a span lie in it, those of a whole video in the video, the first one at the start; what is
    embedded is kept, also when what is kept gets damaged.
    """
    path = tmp_path / "long.mp4"
    path.write_bytes(spliced(("moving left", "growing"), 4))
    spans = (Example(path, "a", 0.0, 4.0, digest(path)), Example(path, "b", 4.0, None, digest(path)))
    manifest = Manifest.load(motion_unpacked)
    loads = 0

    def load() -> Classifier:
        nonlocal loads
        loads += 1
        return Classifier.load(motion_unpacked, sandbox=True)

    def embed() -> dict[Example, Any]:
        cache = Arrays(tmp_path / "cache")
        embedder = Embedder(load, manifest, motion_unpacked, manifest.artifacts[0], cache)
        try:
            found, unreadable = embedder.embed(spans, lambda _: None)
        finally:
            embedder.close()
        assert not unreadable
        return found

    first = embed()
    for example in spans:
        seconds = first[example].seconds
        assert seconds.shape == (WINDOWS, 2)
        assert seconds[0, 0] == pytest.approx(example.start_seconds, abs=0.05)
        assert (seconds[:, 1] <= (example.end_seconds or 8.0) + 0.05).all()
    again = embed()
    assert loads == 1
    np.testing.assert_array_equal(again[spans[0]].embeddings, first[spans[0]].embeddings)
    for kept in (tmp_path / "cache").rglob("*.npz"):
        kept.write_bytes(kept.read_bytes()[:100])
    damaged = embed()
    assert loads == 2
    np.testing.assert_allclose(damaged[spans[1]].embeddings, first[spans[1]].embeddings, atol=1e-4)


def digest(path: Path) -> str:
    """The content's hash, as `read` gives it."""
    from export.checksum import sha256_of

    return sha256_of(path)


def test_a_network_that_averages_probabilities(tmp_path: Path) -> None:
    """X3D averages probabilities over places; its new head is linear in the maps, as what was learned is."""
    model = zoo.get("x3d_s").with_crop(64)
    torch.manual_seed(0)
    net = model.build(model.spec, 7)
    artifact = artifacts.export(net, model.spec, artifacts.Target("torchscript", "fp32", "cpu"), tmp_path)
    Manifest("x", "1.0", model.spec, "random", (artifact,), ("a", "b")).write(tmp_path, {})
    old = Head.load(tmp_path)
    assert not old.linear
    weight = np.random.default_rng(0).standard_normal((2, old.features)).astype(np.float32)
    head = replace(old, weight=weight, bias=np.array([0.5, -0.5], np.float32), averages_probabilities=False)
    put_head(head, tmp_path)
    assert Head.load(tmp_path).linear
    frames = torch.randint(0, 255 * 128, (2, model.spec.num_frames, 64, 64, 3), dtype=torch.int16)
    loaded = torch.jit.load(str(tmp_path / "model.pt"))  # type: ignore[no-untyped-call]
    with torch.inference_mode():
        logits = loaded(pack(frames, model.spec)).numpy()
        maps = [one.numpy() for one in loaded.trunk(pack(frames, model.spec))]
    embeddings = np.stack([head.embedding([one[row] for one in maps]) for row in range(2)])
    np.testing.assert_allclose(logits, embeddings @ weight.T + head.bias, atol=1e-3)


def test_make_learn() -> None:
    """The Makefile passes its variables on, and says what is missing."""

    def make(*variables: str) -> subprocess.CompletedProcess[str]:
        command = ["make", "-n", f"VENV={sys.prefix}", "learn", *variables]
        return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=60)

    said = make("DATA=my videos", "NAME=mine", "MODEL=motion", "METHOD=head", "FRAME_RATE=25").stdout
    for part in (
        "--data 'my videos'",
        "--name 'mine'",
        "--model 'motion'",
        "--method 'head'",
        "--frame-rate '25'",
    ):
        assert part in said
