"""METHOD=finetune from videos to an archive: it serves what was learned, says how, and survives kills."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from actionrec.manifest import Manifest
from actionrec.model.runtime import Runtime
from actionrec.pipeline import Classifier
from actionrec.reply import Prediction
from actionrec.request import ClipRequest
from rich.console import Console

from export import build
from export.errors import ExportError
from export.learn import base, data
from export.learn.finetune import network as networks
from export.learn.finetune.options import Options
from export.learn.learn import Learned, Order, learn
from testing.motions import MOTIONS, motion_clip, write_folders
from tests.conftest import PROJECT

from .helpers_finetune import LABELS, QUICK, SPEC, VIDEOS, Told, write_clips

pytestmark = pytest.mark.server


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """At this size several threads wait for each other most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Workplace:
    """Clips, the base archive, and what came of them."""

    clips: Path
    base: Path
    order: Order
    learned: Learned
    told: Told
    unpacked: Path
    manifest: Manifest


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The bundled model at 32 pixels, fine-tuned on ten clips."""
    folder = tmp_path_factory.mktemp("finetune")
    write_clips(folder / "clips")
    wanted = build.Order(model="motion", name="small", runtime="torchscript", crop_pixels=SPEC.crop)
    built = build.build(replace(wanted, store=folder / "store"), Console(quiet=True))
    order = Order(
        data=folder / "clips",
        name="mine",
        model=str(built.path),
        method="finetune",
        runtime="torchscript",
        store=folder / "store",
        options=replace(QUICK, rate=1e-3, work=folder / "work"),
    )
    told = Told()
    learned = learn(order, told)
    manifest = base.unpack(learned.path, folder / "unpacked")
    return Workplace(folder / "clips", built.path, order, learned, told, folder / "unpacked", manifest)


def test_archive_answers_with_the_new_labels(place: Workplace) -> None:
    """The archive is an ordinary one: loaded as a server loads it, a clip gets the new labels' scores and an
    embedding, and each artifact has passed its comparison.
    """
    classifier = Classifier(place.manifest, Runtime(place.unpacked, place.manifest, "cpu"), sandbox=True)
    clip = (place.clips / "near" / "0.mp4").read_bytes()
    try:
        (answer,) = classifier.classify([ClipRequest(clip, embedding=True)])
    finally:
        classifier.close()
    assert isinstance(answer, Prediction)
    (window,) = answer.answered
    assert window.scores is not None
    assert window.embedding is not None
    assert place.manifest.labels == tuple(LABELS)
    assert window.scores.shape == (len(LABELS),)
    head = Runtime(place.unpacked, place.manifest, "cpu").head
    logits = head.weight @ window.embedding + head.bias
    scores = np.exp(logits - logits.max())
    np.testing.assert_allclose(window.scores, scores / scores.sum(), atol=1e-5)
    for artifact in place.manifest.artifacts:
        assert artifact.parity["max_abs_score_difference"] <= artifact.parity["tolerance"]
        assert artifact.parity["max_map_difference"] <= artifact.parity["map_tolerance"]


def test_archive_says_what_it_learned(place: Workplace) -> None:
    """Its description has the method, counts, the list's hash, the base, the accuracy with its interval, how it
    was measured, and what was chosen.
    """
    found = place.manifest.learned
    assert found["method"] == "finetune"
    assert found["base"]["name"] == "small"
    assert found["data"]["videos"] == dict.fromkeys(LABELS, VIDEOS)
    assert found["data"]["sha256"] == data.read(place.clips).sha256
    low, high = found["accuracy"]["interval"]
    assert low <= found["accuracy"]["accuracy"] <= high
    assert found["accuracy"]["videos"] == VIDEOS * len(LABELS)
    assert "2 folds" in found["accuracy"]["how"]
    assert "chosen by the videos of the other folds" in found["accuracy"]["how"]
    assert "fine-tuned itself" not in found["accuracy"]["how"]
    assert found["settings"]["mirror"] == "off"
    assert found["settings"]["stages"] == "5 of 5"
    assert 0 <= found["settings"]["head_accuracy"] <= 1
    assert place.manifest.weights.startswith("sha256:")
    assert place.manifest.weights != found["base"]["weights"]
    assert place.manifest.network == "motion"
    assert place.manifest.unsure_below is not None


def test_archive_has_the_weights_that_were_trained(place: Workplace) -> None:
    """The trunk in ``model.pt`` is that of the training on all videos, and can be fine-tuned again."""
    (result,) = (place.order.options.work / "mine").glob("*/all/result.pt")
    state = torch.load(result, weights_only=True)["model"]
    network, net = networks.load(place.manifest, place.unpacked, 3)
    for name, value in net.state_dict().items():
        if ".proj." not in name:
            torch.testing.assert_close(value, state[name], rtol=0, atol=0)
    assert network.classes == 3


def test_report_and_log_lie_where_they_are_told_to(place: Workplace) -> None:
    """The report has the verdict, how it was measured and what a new head alone gets; the log has a row for
    each epoch; decoded clips are gone.
    """
    report = place.learned.report.read_text()
    assert "A plain request" in report or "a plain request" in report
    assert "finetune" in report
    assert "A new head" in report or "a new head alone" in report
    assert "learned from half" not in report
    (told,) = place.told.of("log")
    rows = (Path(told["folder"]) / "fold-1" / "log.csv").read_text().splitlines()
    assert len(rows) == 1 + 1 + QUICK.epochs
    assert not (place.order.options.work / "mine" / "clips").exists()
    epochs = place.told.of("epoch")
    assert {row["training"] for row in epochs} == {"fold 1 of 2", "fold 2 of 2", "all videos"}
    json.dumps(epochs)


def test_a_base_that_cannot_learn_is_refused_before_anything_slow(place: Workplace, tmp_path: Path) -> None:
    """An archive without its network's name is refused, and nothing is decoded, written or trained."""
    other = tmp_path / "old.mar"
    with zipfile.ZipFile(place.base) as source, zipfile.ZipFile(other, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "model-config.yaml":
                content = content.replace(b"network: motion", b"network: ''")
            target.writestr(name, content)
    told = Told()
    order = replace(
        place.order,
        model=str(other),
        name="other",
        store=tmp_path / "store",
        options=replace(QUICK, work=tmp_path / "work"),
    )
    with pytest.raises(ExportError, match="does not say which network"):
        learn(order, told)
    assert not told.of("decoded")
    assert not (tmp_path / "work").exists()
    assert list((tmp_path / "store").iterdir()) == []


def test_two_runs_of_one_name_do_not_mix(place: Workplace, tmp_path: Path) -> None:
    """While a run is fine-tuning, a second one of the same name is refused, and touches nothing."""
    work = tmp_path / "work" / "mine"
    work.mkdir(parents=True)
    (work / "lock").touch()
    order = replace(place.order, options=replace(QUICK, work=tmp_path / "work"), store=tmp_path / "store")
    with (work / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ExportError, match="another run") as caught:
            learn(order, Told())
    assert "NAME" in caught.value.hint
    assert [path.name for path in work.iterdir()] == ["lock"]


def _command(place: Workplace, folder: Path) -> list[str]:
    return [
        *(
            sys.executable,
            "-m",
            "export",
            "learn",
            "--json",
            "--method",
            "finetune",
            "--runtime",
            "torchscript",
        ),
        *("--data", str(place.clips), "--model", str(place.base), "--name", "mine"),
        *("--store", str(folder / "store"), "--work", str(folder / "work")),
        *("--epochs", "2", "--folds", "2", "--batch", "4"),
    ]


@pytest.mark.slow
def test_killed_twice_the_archive_is_the_same(place: Workplace, tmp_path: Path) -> None:
    """Killed with SIGKILL in a fold, and again in the training on all videos, `make learn` gives the archive
    that it gives without.
    """
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000", "OMP_NUM_THREADS": "1"}

    def run(folder: Path, kill_at: str = "") -> None:
        command = _command(place, folder)
        with subprocess.Popen(
            command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if kill_at and kill_at in json.loads(line)["message"]:
                    process.send_signal(signal.SIGKILL)
        assert process.returncode == (-signal.SIGKILL if kill_at else 0)

    run(tmp_path / "whole")
    run(tmp_path / "killed", "fold 1 of 2, epoch 1")
    run(tmp_path / "killed", "all videos, epoch 0")
    run(tmp_path / "killed")
    archives = [(tmp_path / name / "store" / "mine.mar").read_bytes() for name in ("whole", "killed")]
    assert archives[0] == archives[1]


@pytest.mark.slow
def test_fine_tuning_is_at_least_as_good_as_a_new_head(tmp_path: Path) -> None:
    """On six motions that the bundled model does not know, the fine-tuned network is right at least as often as
    a new head on the frozen one, and on new clips as often as its report says.
    """
    torch.set_num_threads(os.cpu_count() or 1)
    write_folders(tmp_path / "clips", 14)
    order = Order(
        data=tmp_path / "clips",
        name="mine",
        model="motion",
        method="finetune",
        runtime="torchscript",
        store=tmp_path / "store",
        options=Options(work=tmp_path / "work"),
    )
    learned = learn(order, Told())
    accuracy = learned.manifest.learned["accuracy"]
    assert accuracy["accuracy"] >= learned.manifest.learned["settings"]["head_accuracy"]
    manifest = base.unpack(learned.path, tmp_path / "unpacked")
    classifier = Classifier(manifest, Runtime(tmp_path / "unpacked", manifest, "cpu"), sandbox=True)
    hits = []
    try:
        for label in MOTIONS:
            requests = [ClipRequest(motion_clip(label, seed)) for seed in range(1000, 1020)]
            for answer in classifier.classify(requests):
                assert isinstance(answer, Prediction)
                (window,) = answer.answered
                assert window.scores is not None
                hits.append(manifest.labels[int(window.scores.argmax())] == label)
    finally:
        classifier.close()
    sys.stdout.write(f"fine-tuned {accuracy}, new clips {np.mean(hits):.3f}\n")
    assert accuracy["interval"][0] <= np.mean(hits) <= accuracy["interval"][1]
