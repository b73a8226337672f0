"""METHOD=finetune, part by part: clips, the network, steps, folds, and what is refused."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from actionrec.limits import DEFAULT_LIMITS
from actionrec.manifest import Artifact, Manifest
from actionrec.sampling import Selection
from actionrec.video.decode import windows
from lightning_fabric import Fabric

from export import weights, zoo
from export.errors import ExportError
from export.learn import data
from export.learn.data import Example, Listing
from export.learn.embed import WINDOWS
from export.learn.finetune import method
from export.learn.finetune import network as networks
from export.learn.finetune import options as finetune_options
from export.learn.finetune.augment import larger, varied
from export.learn.finetune.choose import choose
from export.learn.finetune.clips import Clips, Room
from export.learn.finetune.course import PATIENCE, Job, Tuning
from export.learn.finetune.options import Options
from export.learn.finetune.run import result_of
from export.learn.finetune.trainings import Trainings
from export.learn.fit import Samples, folds
from export.learn.measure import Verdict, measure
from export.learn.method import Task
from export.split import split
from training.loop import train

from .helpers_finetune import (
    LABELS,
    SPEC,
    VIDEOS,
    Stop,
    Told,
    WithoutDropout,
    clips_of,
    trainings_of,
    write_clips,
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """At this size several threads wait for each other most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finetune") / "clips"
    write_clips(folder)
    return folder


def job_of(trainings: Trainings, *, held_out: bool = True) -> Job:
    """The training of the first fold, or the one on all videos."""
    samples = trainings.samples()
    train, test = next(folds(samples, 2))
    if not held_out:
        train, test = np.arange(len(samples.classes)), np.empty(0, np.int64)
    return trainings._job("fold 1 of 2", "fold-1", samples, train, test)


def trained(job: Job, steps: int) -> Tuning:
    """A course after some steps."""
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    course = Tuning(job, fabric, None)
    course.steps = steps
    job.folder.mkdir(parents=True, exist_ok=True)
    train(fabric, course, job.folder / "kept.pt", 0)
    course.close()
    return course


# Clips


def test_served_windows_are_those_of_a_request(clips: Path, tmp_path: Path) -> None:
    """What accuracy is measured on is, to the last bit, what decoding gives a request for as many views."""
    listing = data.read(clips)
    _, served = clips_of(listing, tmp_path)
    for example in (listing.examples[0], listing.examples[-1]):
        asked = Selection(0.0, None, views=WINDOWS)
        expected = list(windows(example.path.read_bytes(), SPEC, asked, DEFAULT_LIMITS))
        assert served.count(example) == len(expected)
        for number, decoded in enumerate(expected):
            np.testing.assert_array_equal(served.frames(example, number), decoded.frames)


def test_without_room_clips_are_decoded_each_time(clips: Path, tmp_path: Path) -> None:
    """Beyond its bound nothing is written, and the frames are the same."""
    listing = data.read(clips)
    seen, _ = clips_of(listing, tmp_path / "kept")
    bound = 2.5e6
    less, _ = clips_of(listing, tmp_path / "less", bound / 1e9)
    written = sum(path.stat().st_size for path in (tmp_path / "less").rglob("*.npy"))
    whole = sum(path.stat().st_size for path in (tmp_path / "kept").rglob("*.npy"))
    assert 0 < written <= 1.01 * bound < whole  # a file has a header of 128 bytes
    with less:
        for example in listing.examples:
            assert less.count(example) == seen.count(example)
            last = seen.count(example) - 1
            np.testing.assert_array_equal(less.frames(example, last), seen.frames(example, last))


def test_clips_of_other_videos_are_removed(clips: Path, tmp_path: Path) -> None:
    """The folder of clips has those of the present list alone."""
    listing = data.read(clips)
    clips_of(listing, tmp_path)
    clips_of(Listing(listing.examples[:2]), tmp_path)
    assert len(list((tmp_path / "seen").iterdir())) == 2


def test_an_unreadable_video_is_named(clips: Path, tmp_path: Path) -> None:
    """A file that is no video is left out with the reason; the others are decoded."""
    shutil.copytree(clips, tmp_path / "clips")
    broken = tmp_path / "clips" / "away" / "0.mp4"
    broken.write_bytes(b"no video at all, but long enough to look at" * 10)
    listing = data.read(tmp_path / "clips")
    store = Clips(tmp_path / "kept", SPEC, 1, DEFAULT_LIMITS, exact=True)
    unreadable = store.prepare(listing.examples, Room(1e9), lambda: None)
    assert list(unreadable) == [broken]
    assert "(" in unreadable[broken]
    assert all(store.count(one) for one in listing.examples if one.path != broken)


def test_an_unreadable_video_is_left_out_of_a_run(clips: Path, tmp_path: Path) -> None:
    """All spans of it are; the run says so, and goes on with the others."""
    shutil.copytree(clips, tmp_path / "clips")
    broken = tmp_path / "clips" / "away" / "9.mp4"
    broken.write_bytes(b"no video at all, but long enough to look at" * 10)
    listing = data.read(tmp_path / "clips")
    (found,) = (one for one in listing.examples if one.path == broken)
    listing = Listing((*listing.examples, replace(found, start_seconds=1.0)))
    told = Told()
    options = Options(work=tmp_path / "work")
    task = Task(listing, _manifest(), tmp_path, "cpu", told, options=options)
    store = Clips(tmp_path / "kept", SPEC, 1, DEFAULT_LIMITS, exact=True)
    left = method._decoded(task, store, store)
    assert len(left.examples) == len(listing.examples) - 2
    assert broken not in {one.path for one in left.examples}
    assert [one["path"] for one in told.of("left_out")] == [str(broken)]


def test_a_video_that_changes_is_not_learned_from(clips: Path, tmp_path: Path) -> None:
    """A file that is another one than when the list was read is an error, and never another clip."""
    shutil.copytree(clips, tmp_path / "clips")
    listing = data.read(tmp_path / "clips")
    without_room, _ = clips_of(listing, tmp_path / "kept", 0)
    shutil.copyfile(listing.examples[1].path, listing.examples[0].path)
    with without_room, pytest.raises(OSError, match="changed"):
        without_room.frames(listing.examples[0], 0)


def _ramp(spec_side: int) -> np.ndarray:
    """Two frames whose red and green levels are a pixel's column and row."""
    frames = np.zeros((2, spec_side, spec_side, 3), np.uint8)
    frames[..., 0] = np.arange(spec_side)
    frames[..., 1] = np.arange(spec_side)[:, None]
    return frames


def test_scale_and_crop_are_the_recipes() -> None:
    """Short sides are between that of the recipe and 320/256 of it; squares are anywhere, and the same in all
    frames.
    """
    spec = zoo.get("motion").spec
    frames = _ramp(larger(spec).crop)
    assert len(frames[0]) == 160
    rng = np.random.default_rng(0)
    sides, lefts = [], []
    for _ in range(300):
        out = varied(rng, frames, spec, mirror=False).astype(int)
        assert out.shape == (2, 128, 128, 3)
        np.testing.assert_array_equal(out[0], out[1])
        sides.append((out[0, 0, -1, 0] - out[0, 0, 0, 0]) / 127 * 128)
        lefts.append(out[0, 0, 0, 0])
        assert (np.diff(out[0, :, :, 0], axis=1) >= 0).all()  # not mirrored
    assert min(sides) == pytest.approx(128, abs=2)
    assert max(sides) == pytest.approx(160, abs=2)
    assert min(lefts) <= 1
    assert max(lefts) >= 20


def test_mirror_is_for_those_who_ask() -> None:
    """With MIRROR=1 half of the clips are mirrored; without, none (labels may be left and right)."""
    frames, rng = _ramp(160), np.random.default_rng(0)
    spec = zoo.get("motion").spec
    mirrored = [
        bool(out[0, 0, 0, 0] > out[0, 0, -1, 0])
        for out in (varied(rng, frames, spec, mirror=True) for _ in range(200))
    ]
    assert 0.4 < np.mean(mirrored) < 0.6
    assert not Options().mirror


# The network


def _manifest(**changes: object) -> Manifest:
    artifact = Artifact("torchscript", "fp32", "cpu", "model.pt")
    values = {
        "name": "mine",
        "version": "1.0",
        "spec": SPEC,
        "weights": "random",
        "artifacts": (artifact,),
        "labels": ("a", "b"),
        "network": "motion",
    }
    return Manifest(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "artifact",
    [
        Artifact("aoti", "fp32", "cpu", "model.pt2"),
        Artifact("torchscript", "fp16", "cuda", "model.pt"),
    ],
)
def test_an_archive_without_trained_weights_is_refused(artifact: Artifact) -> None:
    """An archive that has compiled or rounded weights only is refused, with what to do."""
    with pytest.raises(ExportError, match="cannot be fine-tuned") as caught:
        networks.check(_manifest(artifacts=(artifact,)))
    assert f"{artifact.runtime} in {artifact.precision} for {artifact.device}" in caught.value.message
    assert "MODEL=" in caught.value.hint
    assert "FALLBACK=1" in caught.value.hint


@pytest.mark.parametrize("network", ["", "slowfast_r18"])
def test_an_archive_of_an_unknown_network_is_refused(network: str) -> None:
    """An archive that names no network, or one that is not known, is refused by name."""
    with pytest.raises(ExportError, match="mine"):
        networks.check(_manifest(network=network))


@pytest.mark.parametrize("name", ["slowfast_r50", "slow_r50", "x3d_s"])
def test_every_network_gets_a_linear_head(name: str) -> None:
    """The networks of each family are built with as many outputs as there are labels, have five stages, and a
    head whose logits add up from their maps.
    """
    model = zoo.get(name)
    spec = replace(model.spec, short_side=64, crop=64)
    network = networks.Network(name, spec, 3)
    with torch.device("meta"):
        net = network.build()
    assert len(networks.stages(net)) == 5
    assert network.head(net).out_features == 3
    assert [parameter.shape[0] for parameter in network.head(net).parameters()] == [3, 3]
    _, head = split(network.build(), spec)
    assert head.linear


def test_weights_are_known_by_their_numbers() -> None:
    """The digest of weights is the same for equal ones, whatever their order, and another for others."""
    state = {"a": torch.ones(2), "b": torch.zeros(3)}
    digest = networks.digest(state)
    assert digest == networks.digest(dict(reversed(state.items())))
    assert digest != networks.digest({**state, "b": torch.ones(3)})
    assert len(digest) == len("sha256:") + 64


# Steps


def test_each_epoch_has_every_example_once(clips: Path, tmp_path: Path) -> None:
    """The clips of an epoch are all examples, in an order of the epoch's own; its last step is filled up."""
    job = job_of(trainings_of(clips, tmp_path), held_out=False)
    fabric = Fabric(accelerator="cpu", devices=1)
    course = Tuning(job, fabric, None)
    assert job.epoch_steps == 3
    epochs = [
        [number for step in range(3 * epoch, 3 * epoch + 3) for number in course._numbers(step).values()]
        for epoch in range(2)
    ]
    for order in epochs:
        assert len(order) == 12
        assert sorted(order[:10]) == list(range(10))
    assert epochs[0] != epochs[1]
    course.close()


def test_rare_labels_count_more(clips: Path, tmp_path: Path) -> None:
    """Of unbalanced data each label counts the same in the loss, and an example counts 1 in the mean."""
    listing = data.read(clips)
    few = Listing(listing.examples[: VIDEOS + 2])
    job = job_of(trainings_of(clips, tmp_path, listing=few), held_out=False)
    course = Tuning(job, Fabric(accelerator="cpu", devices=1), None)
    found = course._weights[job.classes]
    totals = [float(found[job.classes == label].sum()) for label in range(2)]
    assert totals[0] == pytest.approx(totals[1])
    assert float(found.mean()) == pytest.approx(1)
    course.close()


def test_accumulated_steps_are_the_same_steps(clips: Path, tmp_path: Path) -> None:
    """A step whose clips are taken in parts is the step with all of them at once, but for rounding."""
    states = []
    for parts in (1, 4):
        job = job_of(trainings_of(clips, tmp_path / str(parts), accumulate=parts))
        job = replace(job, network=WithoutDropout("motion", SPEC, len(LABELS)))
        states.append(trained(job, 1).model.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=2e-5)
    assert any(not torch.equal(value, job.start[name]) for name, value in states[0].items())


@pytest.mark.parametrize(("stages", "changed"), [(0, {0, 1, 2, 3, 4, 6}), (2, {3, 4, 6}), (1, {4, 6})])
def test_last_stages_learn_alone(clips: Path, tmp_path: Path, stages: int, changed: set[int]) -> None:
    """With STAGES=n the last n stages and the head change, and nothing before them; BatchNorm's statistics
    never do.
    """
    job = job_of(trainings_of(clips, tmp_path, stages=stages))
    state = trained(job, 2).model.state_dict()
    found = {name for name, value in state.items() if not torch.equal(value, job.start[name])}
    assert {int(name.split(".")[1]) for name in found} == changed
    assert not any("running_" in name or "num_batches" in name for name in found)


def test_statistics_learn_where_they_are_asked_to(clips: Path, tmp_path: Path) -> None:
    """With BATCH_NORM=learned BatchNorm's statistics change."""
    job = job_of(trainings_of(clips, tmp_path, batch_norm="learned"))
    state = trained(job, 1).model.state_dict()
    assert any(
        "running_mean" in name and not torch.equal(value, job.start[name]) for name, value in state.items()
    )


def test_stopped_anywhere_a_run_ends_the_same(clips: Path, tmp_path: Path) -> None:
    """Interrupted inside a fold and again in the training on all videos, fine-tuning gives the same logits and
    the same weights as without, and takes no finished training again.
    """
    whole = trainings_of(clips, tmp_path / "whole")
    samples = whole.samples()
    expected, weights = whole.by_folds(samples), whole.on_all(samples, 2)
    total = len(whole.tell.of("epoch"))  # type: ignore[attr-defined]
    heard = []
    for stop_at in (("epoch", 2), ("trained", 7), ("epoch", 3), None):
        told = Told(stop_at)
        again = trainings_of(clips, tmp_path / "stopped", told)
        try:
            found = again.by_folds(again.samples())
            state = again.on_all(samples, 2)
        except Stop:
            heard.append(len(told.of("epoch")))
    assert len(heard) == 3
    np.testing.assert_array_equal(found.logits, expected.logits)
    assert (found.of_folds, found.of_all) == (expected.of_folds, expected.of_all)
    assert all(torch.equal(value, weights[name]) for name, value in state.items())
    assert len(told.of("epoch")) < total
    log = (tmp_path / "stopped" / "fold-1" / "log.csv").read_text()
    assert log == (tmp_path / "whole" / "fold-1" / "log.csv").read_text()
    assert log.splitlines()[0] == "epoch,held_out_loss,held_out_right,rate,loss,right"
    assert not list((tmp_path / "stopped").rglob("*.part"))


@pytest.mark.long
def test_two_processes_are_as_good_as_one(clips: Path, tmp_path: Path) -> None:
    """Two processes that share each step's clips hear the same of the held-out videos as one, and take the same
    steps but for rounding.
    """
    logits = []
    for devices in (1, 2):
        job = job_of(trainings_of(clips, tmp_path / str(devices), devices=devices, epochs=1, rate=1e-2))
        job = replace(job, network=WithoutDropout("motion", SPEC, len(LABELS)))
        told: list[str] = []
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("OMP_NUM_THREADS", "1")
            result = result_of(job, lambda event, _, told=told: told.append(event))  # type: ignore[misc]
        assert told == ["epoch", "steps", "steps", "epoch"]
        logits.append(result["logits"])
    (before, after), (also_before, also_after) = logits
    torch.testing.assert_close(also_before, before, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(also_after, after, rtol=1e-2, atol=1e-3)
    assert float((after - before).abs().max()) > 0.05


def test_no_better_for_a_while_ends_a_training() -> None:
    """A training ends when its held-out videos were answered clearly worse for a number of epochs."""
    course = object.__new__(Tuning)
    course.rows = [{"held_out_loss": loss} for loss in (1.0, 0.5)]
    assert not course.finished
    course.rows += [{"held_out_loss": 0.6}] * (PATIENCE - 1)
    assert not course.finished
    course.rows += [{"held_out_loss": 0.6}]
    assert course.finished
    course.rows += [{"held_out_loss": 0.52}]  # hardly worse
    assert not course.finished
    course.rows = [{"epoch": number} for number in range(3 * PATIENCE)]  # nothing held out
    assert not course.finished


# Folds


def test_no_video_is_on_both_sides(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans of one video are learned from together, or held out together, in every training that measures."""
    listing = data.read(clips)
    spans = tuple(
        replace(one, start_seconds=start, end_seconds=start + 1.2)
        for one in listing.examples
        for start in (0.0, 1.2)
    )
    trainings = trainings_of(clips, tmp_path, listing=Listing(spans))
    jobs: list[Job] = []

    def remember(job: Job, _: object) -> dict[str, object]:
        jobs.append(job)
        assert job.held_out_samples is not None
        return {"logits": torch.zeros(1, len(job.held_out_samples.classes), 2)}

    monkeypatch.setattr("export.learn.finetune.trainings.result_of", remember)
    trainings.by_folds(trainings.samples())
    assert len(jobs) == 2

    def videos(examples: tuple[Example, ...]) -> set[str]:
        return {one.sha256 for one in examples}

    for job in jobs:
        assert not videos(job.examples) & videos(job.held_out)
        assert videos(job.examples) | videos(job.held_out) == videos(spans)
    assert sorted(one.sha256 for job in jobs for one in job.held_out) == sorted(one.sha256 for one in spans)


def test_a_fold_does_not_choose_for_itself() -> None:
    """How long a fold's network trains is chosen by the other folds; for all videos, by all."""
    classes = np.arange(24) % 3
    samples = Samples(np.zeros((24, 0)), classes, np.arange(24), np.arange(24), 3)
    rows = [np.arange(0, 8), np.arange(8, 16), np.arange(16, 24)]
    noise = np.random.default_rng(0).normal(size=(24, 3))

    def curve(mine: np.ndarray, skill: tuple[float, ...]) -> np.ndarray:
        return np.stack([how * np.eye(3)[classes[mine]] + noise[mine] for how in skill])

    worse, better = (3.0, 2.0, 1.0, 0.0), (0.0, 1.0, 2.0, 9.0)
    chosen = choose([curve(rows[0], better), curve(rows[1], worse), curve(rows[2], worse)], rows, samples)
    assert chosen.of_folds[0] == 0  # though its own videos are for 3
    np.testing.assert_array_equal(chosen.logits[rows[0]], curve(rows[0], better)[0])
    better_all = [curve(mine, better) for mine in rows]
    chosen = choose([better_all[0], better_all[1], better_all[2][:2]], rows, samples)
    assert chosen.of_all == 3
    np.testing.assert_array_equal(chosen.logits[rows[2]], better_all[2][1])  # it stopped there
    np.testing.assert_array_equal(chosen.before[rows[1]], better_all[1][0])


def test_verdict_does_not_send_round_in_circles() -> None:
    """The report of a network that is fine-tuned never advises to fine-tune, and says chance where it is."""
    rng = np.random.default_rng(0)
    classes = np.arange(80) % 4
    samples = Samples(np.zeros((80, 0)), classes, np.arange(80), np.arange(80), 4)
    for noise, verdict in ((0.0, Verdict.GOOD), (0.9, Verdict.MORE_CLIPS), (50.0, Verdict.CHANCE)):
        logits = np.eye(4)[classes] + noise * rng.normal(size=(80, 4))
        measured = measure(samples, logits, None, ("a", "b", "c", "d"))
        assert measured.verdict == verdict
        assert "METHOD=finetune" not in measured.words


# Options


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epochs": 0}, "EPOCHS=0"),
        ({"folds": 1}, "FOLDS=1"),
        ({"rate": 0.0}, "RATE=0"),
        ({"batch_norm": "off"}, "BATCH_NORM=off"),
        ({"train_precision": "fp8"}, "TRAIN_PRECISION=fp8"),
        ({"train_precision": "fp16"}, "for GPUs"),
        ({"batch": 6, "accumulate": 4}, "BATCH=6"),
        ({"devices": 3}, "BATCH=8"),
        ({"devices": 0}, "DEVICES=0"),
    ],
)
def test_what_cannot_work_is_refused(changes: dict[str, object], said: str) -> None:
    """Options out of range are refused with what was received and a hint, before anything slow begins."""
    with pytest.raises(ExportError, match=said) as caught:
        Options(**changes).check("cpu")  # type: ignore[arg-type]
    assert caught.value.hint


def test_options_are_read_from_a_command_line() -> None:
    """Every option has a place on the command line; empty ones keep their defaults."""
    parser = argparse.ArgumentParser()
    finetune_options.add_to(parser)
    words = "--stages 2 --epochs 7 --rate 1e-4 --mirror 1 --batch-norm learned --cache-gb 0.5 --folds"
    given = finetune_options.read(parser.parse_args([*words.split(), ""]), parser.error)
    own = Options()
    expected = replace(
        own, stages=2, epochs=7, rate=1e-4, mirror=True, batch_norm="learned", cache_gb=0.5, folds=own.folds
    )
    assert given == expected


@pytest.mark.parametrize("words", ["--epochs 1_0", "--rate fast", "--mirror yes", "--stages -1", "--rate inf"])
def test_options_that_are_no_numbers_are_refused(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A word in the place of a number ends the command with the option's name."""
    parser = argparse.ArgumentParser()
    finetune_options.add_to(parser)
    with pytest.raises(SystemExit):
        finetune_options.read(parser.parse_args(words.split()), parser.error)
    assert words.split()[0] in capsys.readouterr().err


def test_what_decides_is_told_from_what_does_not() -> None:
    """Another folder or bound finds the same run again; another rate does not."""
    own = Options()
    assert replace(own, work=Path("elsewhere"), cache_gb=1.0).deciding() == own.deciding()
    assert replace(own, rate=1e-3).deciding() != own.deciding()
    json.dumps(own.deciding())


def test_bundled_weights_fit_what_is_built() -> None:
    """The network that is fine-tuned has the bundled model's names and shapes, but for the head."""
    path = zoo.get("motion").bundled_file
    assert path is not None
    bundled, own = weights.load_state(path), networks.Network("motion", SPEC, len(LABELS)).build().state_dict()
    assert {name: value.shape for name, value in bundled.items() if ".proj." not in name} == {
        name: value.shape for name, value in own.items() if ".proj." not in name
    }
