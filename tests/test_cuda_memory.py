"""Promise: out of memory inside compiled code is told from its other errors, and costs no clip its answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from actionrec.head import Head
from actionrec.manifest import Artifact, Manifest
from actionrec.model.runtime import Runtime
from actionrec.spec import ClipSpec

from tests.helpers_cuda import FakeCuda, fake_cuda

SPEC = ClipSpec(short_side=32, crop=32)
HEAD = Head(
    weight=np.diag([1.0, 2.0, 3.0]).astype(np.float32),
    bias=np.zeros(3, np.float32),
    maps=np.array([[3, 1, 1, 1]]),
    window=np.array([1, 1]),
)


@pytest.fixture(autouse=True)
def gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    """A host with two GPUs, played by the CPU. There are no graphs: those have their memory beforehand."""
    with fake_cuda(monkeypatch) as world:
        world.model_index = 0
        yield world


class Package:
    """A compiled package that finds memory for a few clips, and says so as torch's do: by a RuntimeError."""

    def __init__(self) -> None:
        self.most_clips = 100
        self.broken = False
        self.sizes: list[int] = []
        self.errors = 0
        """Of the allocator."""

    def __call__(self, *_: object) -> Package:
        return self

    def boxed_run(self, pathways: list[torch.Tensor]) -> list[torch.Tensor]:
        inputs = pathways.pop()
        pathways.clear()
        self.sizes.append(len(inputs))
        if self.broken:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if len(inputs) > self.most_clips:
            self.errors += 1
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.\nException raised from malloc")
        return [inputs.mean((2, 3, 4), keepdim=True)]


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Package:
    """What torch's loader of packages gives, beside the allocator's count of its errors."""
    made = Package()
    monkeypatch.setattr(torch._C._aoti, "AOTIModelPackageLoader", made)
    monkeypatch.setattr(torch.cuda, "memory_stats_as_nested_dict", lambda _: {"num_ooms": made.errors})
    return made


@pytest.fixture
def runtime(package: Package, tmp_path: Path) -> Runtime:
    """The package, loaded by a worker of the second GPU."""
    assert not package.sizes
    (tmp_path / "model.pt2").touch()
    HEAD.save(tmp_path)
    artifact = Artifact("aoti", "fp32", "cuda", "model.pt2")
    return Runtime(tmp_path, Manifest("small", "1.0", SPEC, "", (artifact,), ("a", "b", "c")), "cuda:1")


def frames(*levels: int) -> list[np.ndarray]:
    """Clips as they are decoded, each of one grey."""
    return [np.full((SPEC.num_frames, SPEC.crop, SPEC.crop, 3), level * 128, np.int16) for level in levels]


def test_compiled_code_that_finds_no_memory(
    runtime: Runtime, package: Package, caplog: pytest.LogCaptureFixture
) -> None:
    """A batch for which compiled code finds no memory is run in halves, and each clip gets its own scores."""
    prepared = runtime.transform(frames(*range(10, 170, 10)))
    expected = runtime.scores(prepared)
    package.most_clips = 4
    package.sizes.clear()
    assert np.array_equal(runtime.scores(prepared), expected)
    assert package.sizes == [16, 8, 4, 4, 8, 4, 4]
    assert "Out of memory with 16 clips: they are run in halves" in caplog.text
    assert runtime.lost is None


def test_one_clip_that_finds_no_memory(runtime: Runtime, package: Package) -> None:
    """It is an error of its own kind, with the first line of what was said."""
    prepared = runtime.transform(frames(10))
    package.most_clips = 0
    with pytest.raises(torch.OutOfMemoryError, match=r"^CUDA out of memory\. Tried to allocate 2\.00 GiB\.$"):
        runtime.scores(prepared)


def test_other_errors_of_compiled_code(runtime: Runtime, package: Package) -> None:
    """Whatever else goes wrong is not tried again in halves, also after memory has run out once."""
    prepared = runtime.transform(frames(10, 20, 30, 40))
    package.most_clips = 2
    runtime.scores(prepared)
    package.broken = True
    package.sizes.clear()
    with pytest.raises(RuntimeError, match="illegal memory access") as broken:
        runtime.scores(prepared)
    assert not isinstance(broken.value, torch.OutOfMemoryError)
    assert package.sizes[0] == 4
    assert runtime.lost == "CUDA error: an illegal memory access was encountered"
