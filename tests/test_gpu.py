"""Promise: on a GPU every precision keeps the eager model's scores, graphs change nothing, frames arrive whole.

`make test-gpu` runs these and fails where there is no GPU; `make test` leaves them out.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from actionrec.manifest import Manifest
from actionrec.model import cuda
from actionrec.model.runtime import DTYPES, Runtime
from actionrec.model.transform import pack

from export import artifacts, parity
from export.samples import sample_clips
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
    artifact = artifacts.export(
        load(WEIGHTS), MOTION_SPEC, artifacts.Target(name, precision, "cuda"), directory
    )
    return Runtime(directory, Manifest("motion", "1.0", MOTION_SPEC, "", (artifact,), LABELS), "cuda")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("name", [*artifacts.EXPORTERS])
def test_scores_are_the_eager_models(name: str, precision: str, tmp_path: Path) -> None:
    """Every runtime in every precision stays within the build's own tolerance."""
    clips = sample_clips(MOTION_SPEC, 4, 5)
    report = parity.check(load(WEIGHTS), runtime(tmp_path, name, precision), precision, clips)
    assert report["top1_agreement"] >= 0.75


def test_graphs_are_captured_and_change_nothing(tmp_path: Path) -> None:
    """Small batches are replayed from CUDA graphs and give the scores of the model called plainly."""
    loaded = runtime(tmp_path, artifacts.PORTABLE, "fp16")
    assert isinstance(loaded._module, cuda.Graphs)
    assert loaded._module.batches == cuda.GRAPH_BATCHES
    clips = list(sample_clips(MOTION_SPEC, 4, 6).numpy())
    together = loaded.scores(loaded.transform(clips))
    alone = np.concatenate([loaded.scores(loaded.transform([clip])) for clip in clips])
    assert np.allclose(together, alone, atol=2e-2)


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
