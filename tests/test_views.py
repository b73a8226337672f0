"""Promise: many windows of many requests share the model fairly, in little memory, and each gets its due."""

from __future__ import annotations

import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from actionrec.batch import Batch
from actionrec.call import Call
from actionrec.errors import ClipError
from actionrec.jobs import Job
from actionrec.limits import DEFAULT_LIMITS, Limits
from actionrec.manifest import Manifest
from actionrec.model.runtime import Runtime
from actionrec.pipeline import Classifier
from actionrec.reply import Prediction
from actionrec.request import ClipRequest
from actionrec.sampling import Selection
from actionrec.spec import ClipSpec
from actionrec.video.decode import Decoded, windows

from motion.clips import random_clip
from motion.evaluate import load
from motion.model import MOTION_SPEC, WEIGHTS
from testing.media import broken, encode, textured_frames
from testing.reference import published_views

TIMELINE = Selection(stride_seconds=0.5)
LONG = encode(textured_frames(160, 120, 300), options={"g": "30", "bf": "0"})
SHORT = encode(textured_frames(160, 120, 70, seed=1))


@pytest.fixture(scope="module")
def parts(motion_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Runtime]:
    """The bundled model, unpacked and loaded."""
    directory = tmp_path_factory.mktemp("unpacked")
    zipfile.ZipFile(motion_archive).extractall(directory)
    manifest = Manifest.load(directory)
    return manifest, Runtime(directory, manifest)


class Watched:
    """`decode.windows`, and what became of each of its generators."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed = 0
        self.given = 0
        self.taken = 0
        self.most_ahead = 0
        self.lock = threading.Lock()

    def __call__(self, data: bytes, spec: ClipSpec, selection: Selection, limits: Limits) -> Iterator[Decoded]:
        with self.lock:
            self.opened += 1
        try:
            for view in windows(data, spec, selection, limits):
                with self.lock:
                    self.given += 1
                    self.most_ahead = max(self.most_ahead, self.given - self.taken)
                yield view
        finally:
            with self.lock:
                self.closed += 1

    def settle(self) -> None:
        """Wait until all that was opened is closed again."""
        end = time.monotonic() + 30
        while self.closed < self.opened and time.monotonic() < end:
            time.sleep(0.01)
        assert self.closed == self.opened


def test_views_are_averaged(parts: tuple[Manifest, Runtime]) -> None:
    """The scores of three windows of three crops are the mean of the nine views' own."""
    classifier = Classifier(*parts)
    selection = Selection(views=3, crops=3)
    (answer,) = classifier.classify([ClipRequest(LONG, selection=selection)])
    assert isinstance(answer, Prediction)
    views = list(windows(LONG, classifier.manifest.spec, selection, DEFAULT_LIMITS))
    rows = [classifier.runtime.scores(classifier.runtime.transform([view.frames]))[0] for view in views]
    assert len(rows) == 9
    assert np.allclose(answer.scores, np.mean(rows, axis=0), atol=1e-5)
    assert not np.allclose(answer.scores, rows[0], atol=1e-3)
    reply = classifier.reply(answer, 2)
    assert reply["clip"]["views"] == {"windows": 3, "crops": 3}
    assert reply["clip"]["end_seconds"] == pytest.approx(views[-1].end_seconds, abs=1e-3)
    assert "timeline" not in reply


def test_a_timeline_has_each_window(parts: tuple[Manifest, Runtime]) -> None:
    """Each entry is what a request for that window alone gets; the mean of all stands above them."""
    classifier = Classifier(*parts)
    (answer,) = classifier.classify([ClipRequest(LONG, selection=Selection(stride_seconds=2.0))])
    assert isinstance(answer, Prediction)
    reply = classifier.reply(answer, 8)
    assert list(reply)[:4] == ["predictions", "segments", "cuts", "timeline"]
    assert [entry["start_seconds"] for entry in reply["timeline"]] == [0.0, 2.0, 4.0, 6.0]
    for entry in reply["timeline"]:
        request = ClipRequest(LONG, selection=Selection(entry["start_seconds"]))
        (alone,) = classifier.classify([request])
        assert isinstance(alone, Prediction)
        expected = classifier.reply(alone, 8)["predictions"]
        assert [p["label"] for p in entry["predictions"]] == [p["label"] for p in expected]
        assert [p["score"] for p in entry["predictions"]] == pytest.approx(
            [p["score"] for p in expected], abs=1e-4
        )
        assert entry["warnings"] == []
    mean = {p["label"]: p["score"] for p in reply["predictions"]}
    for label, score in mean.items():
        each = [p["score"] for entry in reply["timeline"] for p in entry["predictions"] if p["label"] == label]
        assert score == pytest.approx(np.mean(each), abs=1e-4)
    assert set(reply["segments"][0]) == {"label", "class_index", "start_seconds", "end_seconds", "score"}


def test_a_damaged_stretch_is_a_gap(parts: tuple[Manifest, Runtime]) -> None:
    """Windows that cannot be decoded have no predictions but a warning; the request has its answer."""
    classifier = Classifier(*parts)
    video = broken(LONG, 3.0, 6.5)
    timeline, views = classifier.classify(
        [ClipRequest(video, selection=TIMELINE), ClipRequest(video, selection=Selection(views=10))]
    )
    assert isinstance(timeline, Prediction)
    assert isinstance(views, Prediction)
    reply = classifier.reply(timeline, 3)
    gaps = [entry for entry in reply["timeline"] if not entry["predictions"]]
    assert 2 <= len(gaps) <= 8  # of windows that start from 2.0 to 5.5 s more than half is damaged
    for gap in gaps:
        assert [warning["code"] for warning in gap["warnings"]] == ["WINDOW_MISSING"]
    (warning,) = [w for w in reply["warnings"] if w["code"] == "WINDOW_MISSING"]
    assert f"{len(gaps) - 1} windows more" in warning["message"]
    assert reply["clip"]["views"]["windows"] == len(reply["timeline"]) - len(gaps)
    counted = classifier.reply(views, 3)["clip"]["views"]["windows"]
    assert 5 <= counted < 10


def test_a_long_request_does_not_starve_the_short_ones(parts: tuple[Manifest, Runtime]) -> None:
    """Beside a timeline, requests of one view get theirs in the first rounds, though they came last."""
    manifest, runtime = parts
    decoder = Watched()
    classifier = Classifier(manifest, runtime, 2, open_clips=4, decoder=decoder)
    order: list[int] = []
    launch = classifier.launch
    short = ClipRequest(SHORT)
    requests = [ClipRequest(LONG, selection=TIMELINE), *(replace(short, client=name) for name in "abc")]

    number = {id(request): index for index, request in enumerate(requests)}

    def watching(views: Sequence[tuple[Job, Decoded]]) -> Batch:
        order.extend(number[id(job.request)] for job, _ in views)
        return launch(views)

    classifier.launch = watching  # type: ignore[method-assign]
    answers = classifier.classify(requests)
    assert all(isinstance(answer, Prediction) for answer in answers)
    assert len(order) == 16 + 3
    assert max(order.index(index) for index in (1, 2, 3)) <= 10
    decoder.settle()


def test_memory_holds_a_few_views_at_most(
    parts: tuple[Manifest, Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slow the model and quick the decoder, no more than a batch is decoded ahead, and one view."""
    manifest, runtime = parts
    decoder = Watched()
    classifier = Classifier(manifest, runtime, 2, decoder=decoder)
    next_views = Call._next_views

    def counting(call: Call) -> list[tuple[Job, Decoded]]:
        batch = next_views(call)
        decoder.taken += len(batch)
        time.sleep(0.05)
        return batch

    monkeypatch.setattr(Call, "_next_views", counting)
    (answer,) = classifier.classify([ClipRequest(LONG, selection=TIMELINE)])
    assert isinstance(answer, Prediction)
    assert decoder.given == 16
    assert 1 <= decoder.most_ahead <= runtime.max_batch + 1


def test_generators_are_closed_when_a_request_fails(
    parts: tuple[Manifest, Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the model fails, decoding of that request ends, and the next call is served."""
    manifest, runtime = parts
    decoder = Watched()
    classifier = Classifier(manifest, runtime, 2, decoder=decoder)

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(runtime, "compute", fail)
        answers = classifier.classify([ClipRequest(LONG, selection=TIMELINE)] * 3)
    assert [a.code for a in answers if isinstance(a, ClipError)] == ["INTERNAL"] * 3
    decoder.settle()
    assert decoder.given < 16 * 3
    assert isinstance(classifier.classify([ClipRequest(SHORT)])[0], Prediction)


def test_a_decoder_that_fails_half_way(parts: tuple[Manifest, Runtime]) -> None:
    """An error after some windows is the request's answer, whatever kind it is, and costs no other request."""

    def failing(data: bytes, spec: ClipSpec, selection: Selection, limits: Limits) -> Iterator[Decoded]:
        for view in windows(data, spec, selection, limits):
            yield view
            if selection.views == 4:
                raise ClipError("CORRUPT_VIDEO", 422, "No more.", "Send it again.")
            if selection.views == 5:
                raise ZeroDivisionError

    classifier = Classifier(*parts, decoder=failing)
    asked = [Selection(views=4), Selection(views=5), Selection(views=3)]
    known, unknown, fine = classifier.classify([ClipRequest(LONG, selection=s) for s in asked])
    assert isinstance(known, ClipError)
    assert known.code == "CORRUPT_VIDEO"
    assert isinstance(unknown, ClipError)
    assert (unknown.code, unknown.status) == ("INTERNAL", 500)
    assert isinstance(fine, Prediction)


def test_what_is_not_done_in_time_is_an_error(parts: tuple[Manifest, Runtime]) -> None:
    """Before TorchServe would kill the worker, what is unfinished gets an error, the rest has its answers."""
    manifest, runtime = parts
    decoder = Watched()

    def slow(data: bytes, spec: ClipSpec, selection: Selection, limits: Limits) -> Iterator[Decoded]:
        for view in decoder(data, spec, selection, limits):
            if selection.several and view.window > 2:
                time.sleep(1)
            yield view

    classifier = Classifier(manifest, runtime, 2, decoder=slow, answer_seconds=4)
    done, late = classifier.classify([ClipRequest(SHORT), ClipRequest(LONG, selection=TIMELINE)])
    assert isinstance(done, Prediction)
    assert isinstance(late, ClipError)
    assert (late.code, late.status) == ("OUT_OF_TIME", 503)
    assert "4 s" in late.message
    assert "stride_seconds" in late.hint
    decoder.settle()


@pytest.mark.parametrize("size", [(426, 240), (240, 320)])
def test_ten_views_of_three_crops_are_the_published_evaluation(
    parts: tuple[Manifest, Runtime], size: tuple[int, int]
) -> None:
    """Mean scores of 10 x 3 views are those of pytorchvideo's sampler and transforms, to a thousandth."""
    classifier = Classifier(*parts)
    video = random_clip(31, "rotating clockwise", "libx264", size=size, fps=30, seconds=7).data
    (answer,) = classifier.classify([ClipRequest(video, selection=Selection(views=10, crops=3))])
    assert isinstance(answer, Prediction)
    net = load(WEIGHTS).eval()
    views = published_views(video, MOTION_SPEC, 10, 3)
    with torch.inference_mode():
        rows = torch.cat([net([slow[None], fast[None]]).softmax(1) for slow, fast in views])
    assert len(rows) == 30
    assert abs(answer.scores - rows.mean(0).numpy()).max() <= 1e-3
    assert rows.std(0).max() > 0.01, "views that are all alike show nothing"
