"""Promise: a form's process sees which batches a GPU replays from graphs, and what is said of the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from actionrec.head import Head
from actionrec.manifest import Artifact, Manifest
from actionrec.model import cuda
from actionrec.model.loaders import LOADERS

from benchmarks.gpu.form_process import Process
from benchmarks.gpu.forms import Form, zoo_model
from benchmarks.gpu.plan import R50
from export import artifacts
from tests import helpers_cuda
from tests.helpers_cuda import FakeCuda, fake_cuda

CROP = 32
FORM = Form(R50, artifacts.PORTABLE, "fp16", "cuda:1", CROP)


@pytest.fixture(autouse=True)
def gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    """A host with two GPUs, played by the CPU, whose graphs are a class as torch's are."""
    with fake_cuda(monkeypatch) as world:

        class Graph(helpers_cuda._Graph):
            def __init__(self) -> None:
                super().__init__(world)

        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        yield world


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Process:
    """The process of a model whose maps are mean colours."""

    def means(pathways: list[torch.Tensor]) -> tuple[torch.Tensor]:
        return (pathways[-1].mean((2, 3, 4), keepdim=True),)

    monkeypatch.setitem(LOADERS, artifacts.PORTABLE, lambda *_: means)
    weights = np.eye(3, dtype=np.float32), np.zeros(3, np.float32)
    Head(*weights, maps=np.array([[3, 1, 1, 1]]), window=np.array([1, 1])).save(tmp_path)
    (tmp_path / "model.pt").touch()
    artifact = Artifact(FORM.runtime, FORM.precision, "cuda", "model.pt")
    labels = "a", "b", "c"
    Manifest("small", "1.0", zoo_model(R50, CROP).spec, "", (artifact,), labels).write(tmp_path, {})
    return Process(FORM, tmp_path, archive=tmp_path)


def test_batches_that_are_replayed(process: Process) -> None:
    """Each batch size of a worker is known to be replayed from a graph."""
    assert process.load()["warnings"] == []
    assert process._graphs(list(cuda.BATCHES)) == {"no graph for": []}


def test_batches_that_are_not(process: Process, gpus: FakeCuda) -> None:
    """Where no graph is taken, each size is named, with what the runtime has logged of it."""
    gpus.model_index = 0
    said = process.load()["warnings"]
    for batch in cuda.BATCHES:
        assert any(f"No CUDA graph for a batch of {batch}:" in line for line in said)
    assert process._graphs(list(cuda.BATCHES)) == {"no graph for": list(cuda.BATCHES)}


def test_large_batches_of_a_gpu(process: Process) -> None:
    """A batch that no graph has is timed as a worker runs it: 16 at a time, two of them under way."""
    process.load()
    answer = process.time(40, 0.0)
    assert answer["parts"] == 3
    assert answer["warnings"] == []
