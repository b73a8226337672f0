"""Promise: on a GPU graphs change nothing, clips keep their own scores, frames arrive whole.

`make test-gpu` runs these and fails where there is no GPU; `make test` leaves them out. It also compares every
runtime and precision with the eager model (`benchmarks.gpu.correct`).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from actionrec.manifest import Manifest
from actionrec.model import cuda
from actionrec.model.runtime import DTYPES, Runtime
from actionrec.model.transform import pack
from actionrec.reply import Scores
from actionrec.spec import ClipSpec
from actionrec.video.resize import Pixels
from torch import nn

from export import artifacts, calibrate, parity, zoo
from export.errors import ExportError
from export.samples import calibration_clips, sample_clips
from motion.evaluate import load
from motion.model import MOTION_SPEC, WEIGHTS
from motion.scene import LABELS

pytestmark = pytest.mark.gpu

RUNTIMES = [*artifacts.EXPORTERS]


@pytest.fixture(autouse=True)
def device() -> Iterator[torch.device]:
    if not torch.cuda.is_available():
        pytest.fail("torch sees no CUDA device: these tests need one")
    yield torch.device("cuda")
    torch.cuda.synchronize()


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The graphs that were replayed, in order."""
    replayed: list[object] = []
    replay = torch.cuda.CUDAGraph.replay

    def noted(graph: torch.cuda.CUDAGraph) -> None:
        replayed.append(graph)
        replay(graph)

    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", noted)
    return replayed


Built = Callable[[str, str], Path]
"""(runtime, precision) -> the folder of the bundled model's artifact, exported once for all tests."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    @cache
    def folder(name: str, precision: str) -> Path:
        directory = tmp_path_factory.mktemp(f"{name}-{precision}")
        exported(load(WEIGHTS), MOTION_SPEC, name, precision, directory)
        return directory

    return folder


def exported(net: nn.Module, spec: ClipSpec, name: str, precision: str, directory: Path) -> None:
    """Write a model's artifact for a GPU. Where a runtime's package is not installed, the test is skipped and
    says so.
    """
    try:
        artifact = artifacts.export(net, spec, artifacts.Target(name, precision, "cuda"), directory)
    except ExportError as error:
        if isinstance(error.__cause__, ImportError):
            pytest.skip(error.message)
        raise
    Manifest("small", "1.0", spec, "", (artifact,), LABELS).write(directory, {})


def loaded_from(directory: Path, device: str = "cuda") -> Runtime:
    """What is in a folder, as a worker loads it."""
    return Runtime(directory, Manifest.load(directory), device)


def scores_of(loaded: Runtime, clips: Sequence[Pixels]) -> Scores:
    """Scores of clips in one batch."""
    return loaded.scores(loaded.transform(clips))


def alone(loaded: Runtime, clips: Sequence[Pixels]) -> Scores:
    """Scores of clips one by one."""
    return np.concatenate([scores_of(loaded, [clip]) for clip in clips])


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Runtime]:
    """Loads a model that has no graphs."""

    def load_plainly(directory: Path) -> Runtime:
        with monkeypatch.context() as patch:
            patch.setattr(cuda, "Graphs", lambda whole, *_: whole)
            return loaded_from(directory)

    return load_plainly


@pytest.fixture(scope="module")
def x3d_s() -> nn.Module:
    """X3D-S, which has one pathway, with random weights."""
    model = zoo.get("x3d_s")
    net = model.build(model.spec, len(LABELS))
    calibrate.randomise(net, 0)
    calibrate.calibrate(net, model, calibration_clips(model.spec, calibrate.CLIPS, 0))
    return net


@pytest.mark.parametrize("name", RUNTIMES)
def test_scores_of_one_pathway(name: str, x3d_s: nn.Module, tmp_path: Path, replays: list[object]) -> None:
    """A model with one pathway has the eager model's scores too, and its batches are replayed from graphs."""
    spec = zoo.get("x3d_s").spec
    exported(x3d_s, spec, name, "fp16", tmp_path)
    loaded = loaded_from(tmp_path)
    clips = sample_clips(spec, parity.clips_of("fp16"), 5)
    replays.clear()
    report = parity.check(x3d_s, loaded, "fp16", clips)
    assert report["top1_agreement"] >= 0.75
    assert replays


@pytest.mark.parametrize("name", RUNTIMES)
def test_each_batch_size_has_a_graph(name: str, built: Built, replays: list[object]) -> None:
    """Batches of every runtime are replayed from CUDA graphs, one for each size."""
    loaded = loaded_from(built(name, "fp16"))
    clips = list(sample_clips(MOTION_SPEC, max(cuda.BATCHES), 6).numpy())
    graphs = set()
    for size in cuda.BATCHES:
        replays.clear()
        scores_of(loaded, clips[:size])
        assert len(replays) == 1, size
        graphs |= set(map(id, replays))
    assert len(graphs) == len(cuda.BATCHES)


@pytest.mark.parametrize("name", RUNTIMES)
def test_graphs_change_nothing(
    name: str, built: Built, plain: Callable[[Path], Runtime], replays: list[object]
) -> None:
    """Batches give the scores that the same artifact gives without graphs."""
    clips = list(sample_clips(MOTION_SPEC, 5, 6).numpy())
    without = plain(built(name, "fp16"))
    replays.clear()
    expected = alone(without, clips)
    assert not replays
    loaded = loaded_from(built(name, "fp16"))
    assert np.allclose(alone(loaded, clips), expected, atol=2e-2)
    assert np.allclose(scores_of(loaded, clips), expected, atol=2e-2)


@pytest.mark.parametrize("name", RUNTIMES)
def test_each_gpu_of_the_host(name: str, built: Built) -> None:
    """On whichever GPU, and called from a thread of its own, each clip gets its own scores and no other GPU is
    used.
    """
    clips = list(sample_clips(MOTION_SPEC, 2, 8).numpy())
    count = torch.cuda.device_count()
    for index in range(count):
        others = [other for other in range(count) if other != index]
        before = [torch.cuda.memory_allocated(other) for other in others]
        loaded = loaded_from(built(name, "fp16"), f"cuda:{index}")
        with ThreadPoolExecutor(1) as pool:
            one, two = (pool.submit(scores_of, loaded, [clip]).result() for clip in clips)
        assert not np.array_equal(one, two)
        # Less, where the model of the GPU before has been given up.
        after = [torch.cuda.memory_allocated(other) for other in others]
        assert all(now <= then for now, then in zip(after, before, strict=True))


@pytest.mark.parametrize("name", RUNTIMES)
def test_any_number_of_clips(name: str, built: Built) -> None:
    """Batches that are filled up, or cut, give each clip the scores that it gets alone."""
    loaded = loaded_from(built(name, "fp32"))
    clips = list(sample_clips(MOTION_SPEC, 19, 10).numpy())
    expected = alone(loaded, clips)
    for count in (3, 5, 9, 19):
        assert np.allclose(scores_of(loaded, clips[:count]), expected[:count], atol=1e-3)


@pytest.mark.parametrize("name", RUNTIMES)
def test_batches_under_way_together(name: str, built: Built) -> None:
    """Batches that are started before the scores of others are fetched keep their own scores and maps."""
    loaded = loaded_from(built(name, "fp32"))
    clips = list(sample_clips(MOTION_SPEC, 12, 12).numpy())
    batches = [clips[start : start + 3] for start in range(0, len(clips), 3)]
    expected = alone(loaded, clips)
    running = [loaded.compute(loaded.transform(batch), maps_of=[1]) for batch in batches]
    assert np.allclose(np.concatenate([each.scores() for each in running]), expected, atol=1e-3)
    for number, each in enumerate(running):
        embedding = loaded.head.embedding(each.maps()[1])
        logits = loaded.head.weight @ embedding + loaded.head.bias
        shares = np.exp(logits - logits.max())
        assert np.allclose(shares / shares.sum(), expected[3 * number + 1], atol=1e-3)


def test_frames_packed_on_the_device(device: torch.device) -> None:
    """Normalising and packing on the GPU gives what it gives on the CPU."""
    clips = sample_clips(MOTION_SPEC, 2, 7)
    here = pack(clips, MOTION_SPEC)
    there = pack(clips, MOTION_SPEC, device, DTYPES["fp32"])
    for expected, got in zip(here, there, strict=True):
        assert torch.allclose(expected, got.cpu(), atol=1e-6)


@pytest.mark.parametrize("make", [cuda.pinned, lambda shape: np.empty(shape, np.int16)])
def test_uploads_do_not_overwrite_each_other(make: Callable[..., Pixels], device: torch.device) -> None:
    """Many uploads in a row, each while the one before may still be copied, arrive as they were sent."""
    upload = cuda.Uploader(MOTION_SPEC, device)
    shape = (MOTION_SPEC.num_frames, MOTION_SPEC.crop, MOTION_SPEC.crop, 3)

    def clip(value: int) -> Pixels:
        frames = make(shape)
        frames.fill(value)
        return frames

    moved = [upload([clip(value), clip(value)]) for value in range(20)]
    for value, tensor in enumerate(moved):
        assert torch.all(tensor == value)


def test_no_unpacked_package_stays(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled code leaves no file behind where it was unpacked, and runs without them."""
    folder = built(artifacts.AOTI, "fp16")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    loaded = loaded_from(folder)
    assert list(tmp_path.iterdir()) == []
    loaded.warm_up()


def test_batch_that_finds_no_memory(
    device: torch.device,
    built: Built,
    plain: Callable[[Path], Runtime],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With little memory left on the GPU a batch is run in halves, with the same scores."""
    loaded = plain(built(artifacts.PORTABLE, "fp16"))  # a graph has its memory already
    prepared = loaded.transform(list(sample_clips(MOTION_SPEC, 16, 11).numpy()))
    expected = loaded.scores(prepared)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    loaded.scores(prepared)
    needed = torch.cuda.max_memory_allocated(device) - before
    torch.cuda.empty_cache()
    allowed = torch.cuda.memory_reserved(device) + needed // 2
    torch.cuda.set_per_process_memory_fraction(allowed / torch.cuda.mem_get_info(device)[1], device)
    try:
        assert np.allclose(loaded.scores(prepared), expected, atol=2e-2)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    assert "they are run in halves" in caplog.text


_STICKY = """
import sys
from pathlib import Path
import numpy as np
import torch
from actionrec.manifest import Manifest
from actionrec.model.runtime import Runtime
folder = Path(sys.argv[1])
runtime = Runtime(folder, Manifest.load(folder), "cuda")
spec = runtime.spec
prepared = runtime.transform([np.zeros((spec.num_frames, spec.crop, spec.crop, 3), np.int16)])
torch.zeros(1, device="cuda")[torch.tensor([99], device="cuda")]  # no call works after that
try:
    runtime.scores(prepared)
except Exception:
    print("lost:", runtime.lost)
"""


def test_error_that_stays_is_noticed(built: Built) -> None:
    """After an error that CUDA repeats for every call the runtime says that the model is lost."""
    command = [sys.executable, "-c", _STICKY, str(built(artifacts.PORTABLE, "fp16"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert "lost: " in done.stdout, done.stderr
    assert "lost: None" not in done.stdout
