"""Promise: TensorRT is used where it is installed, fits and is faster, and is told what it needs to know."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from actionrec.head import Head
from actionrec.manifest import Artifact, Manifest
from actionrec.model import tensorrt as plans
from actionrec.model.cuda import BATCHES
from actionrec.model.host import fingerprint, mismatch
from actionrec.model.loaders import LOADERS
from actionrec.model.runtime import Runtime
from actionrec.model.transform import LAYOUT
from actionrec.spec import ClipSpec

from export import artifacts
from export import tensorrt as builder
from export.errors import ExportError
from tests.helpers_cuda import FakeCuda, fake_cuda
from tests.helpers_tensorrt import VERSION, FakeTensorRT, fake_tensorrt, plan_of

SPEC = ClipSpec(short_side=32, crop=32)
GPU = torch.device("cuda", 1)
SHAPES = [(3, count, 32, 32) for count in SPEC.pathways]
HEAD = Head(
    weight=np.eye(3, 6, dtype=np.float32), bias=np.zeros(3, np.float32), maps=np.array([[3, 1, 1, 1]] * 2),
    window=np.array([1, 1]),
)  # fmt: skip


@pytest.fixture(autouse=True)
def gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    """A host with two GPUs, played by the CPU."""
    with fake_cuda(monkeypatch) as world:
        yield world


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> FakeTensorRT:
    """TensorRT and torch-tensorrt, played."""
    return fake_tensorrt(monkeypatch)


def clips(batch: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Pathways of noise, as `pack` lays them out."""
    generator = torch.Generator().manual_seed(batch)
    noise = [torch.rand((batch, *shape), generator=generator).to(dtype) for shape in SHAPES]
    return [each.contiguous(memory_format=LAYOUT) for each in noise]


def means(pathways: list[torch.Tensor]) -> list[torch.Tensor]:
    """A trunk: a map of one place for each pathway, with its mean colours."""
    return [pathway.mean((2, 3, 4), keepdim=True) for pathway in pathways]


@pytest.fixture
def load(tmp_path: Path, world: FakeTensorRT) -> Callable[..., plans.Plan]:
    """Loads a plan on the second GPU."""
    assert not world.contexts

    def load(data: bytes = plan_of(SHAPES, BATCHES)) -> plans.Plan:
        path = tmp_path / "model.plan"
        path.write_bytes(data)
        return plans.Plan(path, GPU)

    return load


def test_each_batch_size_has_its_own_context(load: Callable[..., plans.Plan], world: FakeTensorRT) -> None:
    """Whatever came before, a batch gets its own maps, and no context is ever given another shape."""
    plan = load()
    for batch in (8, 1, 16, 8, 1, 2, 4):
        given = clips(batch)
        expected = [each.mean((2, 3, 4), keepdim=True) for each in given]
        maps = plan(given)
        assert all(torch.allclose(one, right) for one, right in zip(maps, expected, strict=True))
    assert sorted(context.shapes["pathway0"][0] for context in world.contexts) == [*BATCHES]
    assert len({context.scratch for context in world.contexts}) == 1


def test_plan_runs_on_the_current_stream(
    load: Callable[..., plans.Plan], world: FakeTensorRT, gpus: FakeCuda
) -> None:
    """What is captured is captured from the stream that is being captured."""
    plan, stream = load(), torch.cuda.Stream(GPU)  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        plan(clips(2))
    plan(clips(2))
    (context,) = world.contexts
    assert context.streams == [stream.cuda_stream] * 2 + [gpus.current_stream(GPU).cuda_stream]


def test_half_precision(load: Callable[..., plans.Plan]) -> None:
    """A plan's type is its tensors'; pathways of another type would be read as other numbers."""
    plan = load(plan_of(SHAPES, BATCHES, "HALF"))
    (one, _) = plan(clips(1, torch.float16))
    assert one.dtype == torch.float16
    with pytest.raises(TypeError, match=r"pathway0 must be torch\.float16, got torch\.float32"):
        plan(clips(1))


def test_what_a_plan_refuses(load: Callable[..., plans.Plan], world: FakeTensorRT) -> None:
    """Other batch sizes, other shapes, a run that fails and a file that is no plan are errors with a reason."""
    plan = load()
    with pytest.raises(RuntimeError, match=r"for batches of \[1, 2, 4, 8, 16\], got one of 3"):
        plan(clips(3))
    with pytest.raises(RuntimeError, match="TensorRT refuses pathways of"):
        plan([each[..., :16] for each in clips(1)])
    world.fails = True
    with pytest.raises(RuntimeError, match="could not run its plan"):
        plan(clips(1))
    with pytest.raises(RuntimeError, match=rf"TensorRT {VERSION} cannot load model\.plan"):
        load(b"no plan")


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (VERSION, None),
        ("11.2.0.1", f"it was compiled for tensorrt {VERSION}, and this host has 11.2.0.1"),
        (None, f"it was compiled for tensorrt {VERSION}, and this host has none"),
    ],
)
def test_fingerprint(
    there: str | None, said: str | None, world: FakeTensorRT, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan runs only with the TensorRT that has built it."""
    assert plans.version() == VERSION
    assert not world.contexts
    if there is None:
        monkeypatch.setitem(sys.modules, "tensorrt", None)
    else:
        monkeypatch.setattr(sys.modules["tensorrt"], "__version__", there)
    assert mismatch({**fingerprint(GPU), "tensorrt": VERSION}, GPU) == said


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
def test_what_is_built(
    precision: str, world: FakeTensorRT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan is built for each batch size that a GPU runs, in the program's type, in TF32 only for tf32."""
    target = artifacts.Target("tensorrt", precision, "cuda")
    monkeypatch.setattr(artifacts, "_program", lambda *_: ("a program", None))
    monkeypatch.setattr(artifacts, "_example", lambda *_: clips(2, target.dtype))
    net = cast(artifacts.WithHead, SimpleNamespace(trunk=None))
    artifact = artifacts.EXPORTERS["tensorrt"](net, SPEC, target, tmp_path)
    assert artifact.built_on == {**fingerprint("cuda"), "tensorrt": VERSION}
    assert (tmp_path / artifact.file).is_file()
    asked = world.asked
    assert (asked["program"], asked["disable_tf32"]) == ("a program", precision != "tf32")
    assert asked["arg_input_binding_names"] == (["pathway0", "pathway1"],)
    assert asked["output_binding_names"] == ("map0", "map1")
    assert Path(asked["timing_cache_path"]).parent == tmp_path
    for each, shape in zip(asked["inputs"], SHAPES, strict=True):
        assert each.dtype == target.dtype
        assert [{*profile.values()} for profile in each.profiles] == [{(batch, *shape)} for batch in BATCHES]


def runtimes_of(targets: Sequence[artifacts.Target]) -> list[str]:
    return [target.runtime for target in targets]


def test_where_it_is_a_candidate(world: FakeTensorRT, monkeypatch: pytest.MonkeyPatch) -> None:
    """RUNTIME=auto builds it beside aoti on a GPU where it is installed, and never for a CPU."""
    assert not world.asked
    choose = artifacts.choose_targets
    assert runtimes_of(choose("auto", "fp16", "cuda", fallback=True)) == ["aoti", "tensorrt", "torchscript"]
    assert runtimes_of(choose("tensorrt", "fp16", "cuda", fallback=True)) == ["tensorrt", "torchscript"]
    assert runtimes_of(choose("auto", "auto", "cpu", fallback=True)) == ["aoti", "torchscript"]
    with pytest.raises(ExportError, match="RUNTIME=tensorrt is for GPUs"):
        choose("tensorrt", "fp32", "cpu", fallback=True)
    monkeypatch.setattr(builder, "PACKAGE", "no_such_package")
    assert runtimes_of(choose("auto", "fp16", "cuda", fallback=True)) == ["aoti", "torchscript"]


def test_where_it_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """RUNTIME=tensorrt without the package is refused before anything is begun, with the line that installs it.
    So is a package whose libraries are missing.
    """
    monkeypatch.setattr(builder, "PACKAGE", "no_such_package")
    with pytest.raises(ExportError, match=r"torch-tensorrt.*No module named 'no_such_package'") as missing:
        artifacts.choose_targets("tensorrt", "fp16", "cuda", fallback=True)
    (tmp_path / "broken_package.py").write_text("raise Exception('Could not find libnvinfer.so.11')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(builder, "PACKAGE", "broken_package")
    with pytest.raises(ExportError, match=r"Could not find libnvinfer\.so\.11") as broken:
        builder.plan(cast(torch.export.ExportedProgram, None), clips(1), "fp16", tmp_path)
    for refused in (missing, broken):
        assert isinstance(refused.value.__cause__, ImportError)
        assert "pip install '.[tensorrt]'" in refused.value.hint


def test_the_error_of_a_missing_library_is_said_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is not wrapped into the words for a compiler that failed, whose hint would be wrong."""
    monkeypatch.setattr(artifacts, "_program", lambda *_: ("a program", None))
    monkeypatch.setattr(artifacts, "_example", lambda *_: clips(2))
    monkeypatch.setattr(builder, "PACKAGE", "no_such_package")
    target = artifacts.Target("tensorrt", "fp32", "cuda")
    with pytest.raises(ExportError, match=r"^RUNTIME=tensorrt needs torch-tensorrt"):
        artifacts.EXPORTERS["tensorrt"](
            cast(artifacts.WithHead, SimpleNamespace(trunk=None)), SPEC, target, tmp_path
        )


def test_other_plans_are_passed_over(
    world: FakeTensorRT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive whose plan cannot be loaded here is served by its next artifact, and says why."""
    assert not world.contexts
    (tmp_path / "model.plan").write_bytes(b"no plan")
    (tmp_path / "model.pt").touch()
    monkeypatch.setitem(LOADERS, "torchscript", lambda *_: means)
    HEAD.save(tmp_path)
    plan = Artifact("tensorrt", "fp32", "cuda", "model.plan", None, {**fingerprint(GPU), "tensorrt": VERSION})
    portable = Artifact("torchscript", "fp32", "cuda", "model.pt")
    for first, said in (
        (plan, "cannot load model.plan"),
        (replace(plan, built_on={**plan.built_on, "tensorrt": "10.0"}), "compiled for tensorrt 10.0"),
    ):
        manifest = Manifest("small", "1.0", SPEC, "", (first, portable), ("a", "b", "c"))
        loaded = Runtime(tmp_path, manifest, "cuda:1")
        assert loaded.artifact == portable
        assert said in loaded.rejected[0]


def test_layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT is given pathways and weights without a layout; other code for a GPU gets that of frames."""
    monkeypatch.setattr(artifacts, "pack", lambda frames, *_: clips(len(frames)))
    convolution = torch.nn.Conv3d(3, 4, 3)
    monkeypatch.setattr(artifacts, "rewrite", lambda *_: None)
    for runtime in ("tensorrt", "aoti"):
        target = artifacts.Target(runtime, "fp32", "cuda")
        plain = runtime == "tensorrt"
        assert all(each.is_contiguous() is plain for each in artifacts._example(SPEC, target, 2))
        net = artifacts.prepared(convolution, SPEC, target)
        assert isinstance(net, torch.nn.Conv3d)
        assert net.weight.is_contiguous() is plain
