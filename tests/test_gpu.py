"""Promise: on a GPU every precision keeps the eager model's scores, graphs change nothing, frames arrive whole.

`make test-gpu` runs these and fails where there is no GPU; `make test` leaves them out.
"""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from actionrec.manifest import Manifest
from actionrec.model import cuda
from actionrec.model.runtime import DTYPES, Runtime
from actionrec.model.transform import pack
from actionrec.spec import ClipSpec
from torch import nn

from export import artifacts, calibrate, parity, zoo
from export.samples import calibration_clips, sample_clips
from motion.evaluate import load
from motion.model import MOTION_SPEC, WEIGHTS
from motion.scene import LABELS

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def device() -> Iterator[torch.device]:
    if not torch.cuda.is_available():
        pytest.fail("torch sees no CUDA device: these tests need one")
    yield torch.device("cuda")
    torch.cuda.synchronize()


def runtime(directory: Path, name: str, precision: str) -> Runtime:
    """The bundled model in one artifact, loaded on the GPU."""
    return exported(load(WEIGHTS), MOTION_SPEC, artifacts.Target(name, precision, "cuda"), directory)


def exported(net: nn.Module, spec: ClipSpec, target: artifacts.Target, directory: Path) -> Runtime:
    """A model in one artifact, loaded on the GPU."""
    artifact = artifacts.export(net, spec, target, directory)
    return Runtime(directory, Manifest("small", "1.0", spec, "", (artifact,), LABELS), "cuda")


@pytest.fixture(scope="module")
def x3d_s() -> nn.Module:
    """X3D-S, which has one pathway, with random weights."""
    model = zoo.get("x3d_s")
    net = model.build(model.spec, len(LABELS))
    calibrate.randomise(net, 0)
    calibrate.calibrate(net, model, calibration_clips(model.spec, calibrate.CLIPS, 0))
    return net


@pytest.mark.parametrize("precision", [*DTYPES])
@pytest.mark.parametrize("name", [*artifacts.EXPORTERS])
def test_scores_are_the_eager_models(name: str, precision: str, tmp_path: Path) -> None:
    """Every runtime in every precision stays within the build's own tolerance."""
    clips = sample_clips(MOTION_SPEC, parity.clips_of(precision), 5)
    report = parity.check(load(WEIGHTS), runtime(tmp_path, name, precision), precision, clips)
    assert report["top1_agreement"] >= 0.75


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16"])
@pytest.mark.parametrize("name", [*artifacts.EXPORTERS])
def test_scores_of_one_pathway(name: str, precision: str, x3d_s: nn.Module, tmp_path: Path) -> None:
    """A model with one pathway does too, and its batches are replayed from graphs as well."""
    spec = zoo.get("x3d_s").spec
    loaded = exported(x3d_s, spec, artifacts.Target(name, precision, "cuda"), tmp_path)
    report = parity.check(x3d_s, loaded, precision, sample_clips(spec, parity.clips_of(precision), 5))
    assert report["top1_agreement"] >= 0.75
    assert isinstance(loaded._module, cuda.Graphs)
    assert loaded._module.batches == cuda.BATCHES


@pytest.mark.parametrize("name", [*artifacts.EXPORTERS])
def test_graphs_are_captured_and_change_nothing(name: str, tmp_path: Path) -> None:
    """Batches of every runtime are replayed from CUDA graphs and give the scores of the model called
    plainly.
    """
    loaded = runtime(tmp_path, name, "fp16")
    graphs = loaded._module
    assert isinstance(graphs, cuda.Graphs)
    assert graphs.batches == cuda.BATCHES
    clips = list(sample_clips(MOTION_SPEC, 4, 6).numpy())
    replayed = np.concatenate([loaded.scores(loaded.transform([clip])) for clip in clips])
    loaded._module = graphs._module
    plain = np.concatenate([loaded.scores(loaded.transform([clip])) for clip in clips])
    assert np.allclose(replayed, plain, atol=2e-2)


@pytest.mark.parametrize("name", [*artifacts.EXPORTERS])
def test_each_gpu_of_the_host(name: str, tmp_path: Path) -> None:
    """On whichever GPU, and called from a thread of its own, each clip gets its own scores and no other GPU is
    used.
    """
    artifact = artifacts.export(load(WEIGHTS), MOTION_SPEC, artifacts.Target(name, "fp16", "cuda"), tmp_path)
    manifest = Manifest("small", "1.0", MOTION_SPEC, "", (artifact,), LABELS)
    clips = list(sample_clips(MOTION_SPEC, 2, 8).numpy())
    count = torch.cuda.device_count()
    for index in range(count):
        others = [other for other in range(count) if other != index]
        before = [torch.cuda.memory_allocated(other) for other in others]
        loaded = Runtime(tmp_path, manifest, f"cuda:{index}")
        with ThreadPoolExecutor(1) as pool:
            inputs = [pool.submit(loaded.transform, [clip]).result() for clip in clips]
            one, two = (pool.submit(loaded.scores, pathways).result() for pathways in inputs)
        assert not np.array_equal(one, two)
        # Less, where the model of the GPU before has been given up.
        after = [torch.cuda.memory_allocated(other) for other in others]
        assert all(now <= then for now, then in zip(after, before, strict=True))


@pytest.mark.parametrize("name", [*artifacts.EXPORTERS])
def test_any_number_of_clips(name: str, tmp_path: Path) -> None:
    """Batches that are filled up, or cut, give each clip the scores that it gets alone."""
    loaded = runtime(tmp_path, name, "fp32")
    clips = list(sample_clips(MOTION_SPEC, 19, 10).numpy())
    alone = np.concatenate([loaded.scores(loaded.transform([clip])) for clip in clips])
    for count in (3, 5, 9, 19):
        together = loaded.scores(loaded.transform(clips[:count]))
        assert np.allclose(together, alone[:count], atol=1e-3)


@pytest.mark.parametrize("name", [*artifacts.EXPORTERS])
def test_pathways_in_another_layout_score_the_same(name: str, tmp_path: Path) -> None:
    """Inputs that lie otherwise in memory than `pack` leaves them give the same scores, also without graphs."""
    loaded = runtime(tmp_path, name, "fp32")
    clips = list(sample_clips(MOTION_SPEC, 9, 9).numpy())
    for some in (clips[:1], clips):
        pathways = loaded.transform(some)
        otherwise = [pathway.contiguous(memory_format=torch.channels_last_3d) for pathway in pathways]
        assert np.allclose(loaded.scores(otherwise), loaded.scores(pathways), atol=1e-4)


def test_frames_packed_on_the_device(device: torch.device) -> None:
    """Normalising and packing on the GPU gives what it gives on the CPU."""
    clips = sample_clips(MOTION_SPEC, 2, 7)
    here = pack(clips, MOTION_SPEC)
    there = pack(clips, MOTION_SPEC, device, DTYPES["fp32"])
    for expected, got in zip(here, there, strict=True):
        assert torch.allclose(expected, got.cpu(), atol=1e-6)


def test_uploads_do_not_overwrite_each_other(device: torch.device) -> None:
    """Many uploads in a row, each while the one before may still be copied, arrive as they were sent."""
    upload = cuda.Uploader(MOTION_SPEC, 2, device)
    shape = (MOTION_SPEC.num_frames, MOTION_SPEC.crop, MOTION_SPEC.crop, 3)
    moved = [upload([np.full(shape, value, np.int16)] * 2) for value in range(20)]
    for value, tensor in enumerate(moved):
        assert torch.all(tensor == value)


def test_no_unpacked_package_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled code leaves no file behind where it was unpacked, and runs without them."""
    folder, unpacked = tmp_path / "archive", tmp_path / "unpacked"
    folder.mkdir()
    unpacked.mkdir()
    artifact = artifacts.export(
        load(WEIGHTS), MOTION_SPEC, artifacts.Target(artifacts.AOTI, "fp16", "cuda"), folder
    )
    monkeypatch.setenv("TMPDIR", str(unpacked))
    loaded = Runtime(folder, Manifest("small", "1.0", MOTION_SPEC, "", (artifact,), LABELS), "cuda")
    assert list(unpacked.iterdir()) == []
    loaded.warm_up()


def test_batch_that_finds_no_memory(device: torch.device, tmp_path: Path) -> None:
    """With little memory left on the GPU a batch is run in halves, with the same scores."""
    loaded = runtime(tmp_path, artifacts.PORTABLE, "fp16")
    graphs = loaded._module
    assert isinstance(graphs, cuda.Graphs)
    loaded._module = graphs._module  # a graph has its memory already
    pathways = loaded.transform(list(sample_clips(MOTION_SPEC, 16, 11).numpy()))
    expected = loaded.scores(pathways)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    loaded.scores(pathways)
    needed = torch.cuda.max_memory_allocated(device) - before
    torch.cuda.empty_cache()
    allowed = torch.cuda.memory_reserved(device) + needed // 2
    torch.cuda.set_per_process_memory_fraction(allowed / torch.cuda.mem_get_info(device)[1], device)
    try:
        assert np.allclose(loaded.scores(pathways), expected, atol=2e-2)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


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
pathways = runtime.transform([np.zeros((spec.num_frames, spec.crop, spec.crop, 3), np.int16)])
torch.zeros(1, device="cuda")[torch.tensor([99], device="cuda")]  # no call works after that
try:
    runtime.scores(pathways)
except Exception:
    print("lost:", runtime.lost)
"""


def test_error_that_stays_is_noticed(tmp_path: Path) -> None:
    """After an error that CUDA repeats for every call the runtime says that the model is lost."""
    artifact = artifacts.export(
        load(WEIGHTS), MOTION_SPEC, artifacts.Target(artifacts.PORTABLE, "fp16", "cuda"), tmp_path
    )
    Manifest("small", "1.0", MOTION_SPEC, "", (artifact,), LABELS).write(tmp_path, {})
    command = [sys.executable, "-c", _STICKY, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert "lost: " in done.stdout, done.stderr
    assert "lost: None" not in done.stdout
