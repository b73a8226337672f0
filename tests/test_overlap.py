"""Promise: a GPU is given its next batch while it computes one, and results are fetched without stopping it.

A GPU that the CPU plays tells when each of its streams would have begun and ended what.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
from actionrec.head import Head
from actionrec.limits import Limits
from actionrec.manifest import Artifact, Manifest
from actionrec.model import cuda
from actionrec.model.loaders import LOADERS
from actionrec.model.running import Running
from actionrec.model.runtime import Prepared, Runtime
from actionrec.pipeline import Classifier
from actionrec.reply import Prediction
from actionrec.request import ClipRequest
from actionrec.sampling import Selection
from actionrec.spec import ClipSpec
from actionrec.video.decoded import Decoded
from actionrec.video.resize import Pixels

from tests.helpers_cuda import Costs, FakeCuda, fake_cuda

SPEC = ClipSpec(short_side=32, crop=32)
COSTS = Costs(upload=1.0, replay=10.0, download=0.5)
BATCH = cuda.BATCHES[-1]
"""Clips of a batch; copying them takes 16 s and so more than computing."""


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    """A host with GPUs whose steps take known times."""
    with fake_cuda(monkeypatch) as world:
        yield world


@pytest.fixture
def runtime(gpu: FakeCuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """A model on the second GPU, warmed up; from now on its steps take their time."""
    (tmp_path / "model.pt").touch()
    Head(np.eye(3, dtype=np.float32), np.zeros(3, np.float32), np.array([[3, 1, 1, 1]]), np.array([1, 1])).save(
        tmp_path
    )
    monkeypatch.setitem(
        LOADERS, "torchscript", lambda *_: lambda pathways: (pathways[-1].mean((2, 3, 4), True),)
    )
    artifact = Artifact("torchscript", "fp32", "cuda", "model.pt")
    runtime = Runtime(tmp_path, Manifest("small", "1.0", SPEC, "", (artifact,), ("a", "b", "c")), "cuda:1")
    runtime.warm_up()
    gpu.costs = COSTS
    gpu.now = 0.0
    gpu.work.clear()
    return runtime


def clips(count: int) -> list[Pixels]:
    return [
        np.full((SPEC.num_frames, SPEC.crop, SPEC.crop, 3), level * 128, np.int16) for level in range(count)
    ]


def spans(gpu: FakeCuda, what: str) -> list[tuple[float, float]]:
    """When the GPU did something of a kind; uploads of a batch as one."""
    found = [(start, end) for kind, start, end in gpu.work if kind == what]
    size = BATCH if what == "upload" else 1
    return [(found[n][0], found[n + size - 1][1]) for n in range(0, len(found), size)]


def test_nothing_waits_until_results_are_asked_for(runtime: Runtime, gpu: FakeCuda) -> None:
    """Bringing frames to the GPU, starting the model and the way of its results cost the host no wait."""
    running = runtime.compute(runtime.transform(clips(BATCH)), maps_of=[3])
    assert gpu.now == 0.0
    running.scores()
    assert gpu.now == pytest.approx(16 + 10 + 2 * 0.5)
    running.maps()
    assert gpu.now == pytest.approx(16 + 10 + 2 * 0.5)


def test_next_batch_is_copied_while_one_is_computed(runtime: Runtime, gpu: FakeCuda) -> None:
    """Copies follow each other without a gap, and each batch is computed beside the next one's copy."""
    running: deque[Running] = deque()
    for _ in range(4):
        running.append(runtime.compute(runtime.transform(clips(BATCH))))
        if len(running) == runtime.in_flight:
            running.popleft().scores()
    while running:
        running.popleft().scores()
    uploads, replays = spans(gpu, "upload"), spans(gpu, "replay")
    assert [start for start, _ in replays] == [end for _, end in uploads]
    for (start, _), (begin, end) in zip(uploads[1:], replays, strict=False):
        assert start < end
        assert begin >= start
    alone = 4 * (16 + 10 + 0.5)
    assert gpu.now == pytest.approx(4 * 16 + 10 + 0.5)
    assert gpu.now < 0.75 * alone


def test_a_batch_is_not_computed_before_its_frames_are_there(runtime: Runtime, gpu: FakeCuda) -> None:
    """Overlap costs no order: a graph begins after its frames' copy, and results leave after it."""
    for _ in range(3):
        runtime.compute(runtime.transform(clips(BATCH)))
    for (_, copied), (begin, end), (left, _) in zip(
        spans(gpu, "upload"), spans(gpu, "replay"), spans(gpu, "download"), strict=True
    ):
        assert copied <= begin
        assert end <= left


def test_a_call_keeps_two_batches_in_flight(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the whole pipeline: a second batch is launched before the results of the first are fetched, never
    a third, and every request gets all its views.
    """

    def decoded(_: bytes, spec: ClipSpec, selection: Selection, __: Limits) -> Iterator[Decoded]:
        for number in range(selection.views):
            frames = np.full((spec.num_frames, spec.crop, spec.crop, 3), number * 128, np.int16)
            times = (0.0,) * spec.num_frames
            yield Decoded(frames, 0.0, 1.0, 4, 30.0, 32, 32, window=number, frame_seconds=times)

    order: list[str] = []
    compute, scores = runtime.compute, Running.scores

    def launched(prepared: Prepared, maps_of: Collection[int]) -> Running:
        order.append("launch")
        return compute(prepared, maps_of)

    def fetched(running: Running) -> object:
        order.append("fetch")
        return scores(running)

    monkeypatch.setattr(runtime, "compute", launched)
    monkeypatch.setattr(Running, "scores", fetched)
    manifest = Manifest("small", "1.0", SPEC, "", (runtime.artifact,), ("a", "b", "c"))
    classifier = Classifier(manifest, runtime, 4, decoder=decoded)
    requests = [ClipRequest(bytes([n]), selection=Selection(views=16)) for n in range(4)]
    answers = classifier.classify(requests)
    classifier.close()
    assert all(isinstance(answer, Prediction) and len(answer.windows) == 16 for answer in answers)
    in_flight = list(accumulate(1 if what == "launch" else -1 for what in order))
    assert in_flight[-1] == 0
    assert max(in_flight) == 2
