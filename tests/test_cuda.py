"""Promise: what only a GPU runs keeps to its device and is checked, as far as a CPU can tell."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from actionrec.head import Head
from actionrec.manifest import Artifact, Manifest
from actionrec.model import cuda
from actionrec.model.head import TorchHead
from actionrec.model.host import arithmetic, device_of_worker, fingerprint, mismatch
from actionrec.model.loaders import LOADERS, Trunk
from actionrec.model.runtime import Runtime
from actionrec.model.transform import LAYOUT
from actionrec.pipeline import Classifier
from actionrec.service import Row, Service
from actionrec.spec import ClipSpec
from actionrec.video.resize import Pixels

from export import artifacts
from export.errors import ExportError
from motion.clips import random_clip
from tests.conftest import PROJECT
from tests.helpers_cuda import FakeCuda, fake_cuda

SPEC = ClipSpec(short_side=32, crop=32)
GPU = torch.device("cuda", 1)


@pytest.fixture(autouse=True)
def gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    """A host with two GPUs, played by the CPU."""
    with fake_cuda(monkeypatch) as world:
        yield world


def means(pathways: list[torch.Tensor]) -> tuple[torch.Tensor]:
    """A trunk: a map of one place, with each clip's mean colours, [B, 3, 1, 1, 1]."""
    return (pathways[-1].mean((2, 3, 4), keepdim=True),)


HEAD = Head(
    weight=np.diag([1.0, 2.0, 3.0]).astype(np.float32),
    bias=np.zeros(3, np.float32),
    maps=np.array([[3, 1, 1, 1]]),
    window=np.array([1, 1]),
)
"""Behind `means`: the brighter a clip, the more its scores differ."""


def clips(value: float, batch: int = 1) -> list[torch.Tensor]:
    """Pathways of one colour."""
    return [torch.full((batch, 3, count, 32, 32), value) for count in SPEC.pathways]


def grey(level: int, batch: int = 1) -> torch.Tensor:
    """Clips on the device, of one grey."""
    return torch.full((batch, SPEC.num_frames, SPEC.crop, SPEC.crop, 3), level * 128, dtype=torch.int16)


def whole(frames: torch.Tensor) -> cuda.Outputs:
    """A model from frames to outputs, which are mean levels."""
    levels = frames.float().mean((1, 2, 3)) / 128
    return levels, [levels[:, :, None, None, None] * 2]


def frames(*levels: int) -> list[np.ndarray]:
    """Clips as they are decoded, each of one grey."""
    return [np.full((SPEC.num_frames, SPEC.crop, SPEC.crop, 3), level * 128, np.int16) for level in levels]


Load = Callable[..., Runtime]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads a model, which is a function here, as a worker of the second GPU does."""
    (tmp_path / "model.pt").touch()
    HEAD.save(tmp_path)

    def load(
        module: Trunk = means, name: str = "torchscript", device: str = "cuda:1", precision: str = "fp32"
    ) -> Runtime:
        monkeypatch.setitem(LOADERS, name, lambda *_: module)
        artifact = Artifact(name, precision, "cuda", "model.pt")
        return Runtime(tmp_path, Manifest("small", "1.0", SPEC, "", (artifact,), ("a", "b", "c")), device)

    return load


@torch.inference_mode()
def graphs(model: cuda.Whole = whole) -> cuda.Graphs:
    return cuda.Graphs(model, SPEC, GPU)


def test_each_clip_gets_its_own_scores() -> None:
    """A replay computes what it is given, not what was captured."""
    made = graphs()
    assert made.batches == cuda.BATCHES
    with torch.inference_mode():
        for level, count in ((100, 1), (20, 3)):
            scores, (maps,) = made(grey(level, count))
            assert torch.allclose(scores, torch.full((count, 3), float(level)))
            assert torch.allclose(maps, torch.full((count, 3, 1, 1, 1), 2.0 * level))


def test_graph_of_another_device_is_refused(gpus: FakeCuda, caplog: pytest.LogCaptureFixture) -> None:
    """A capture that holds none of the model's kernels replays to nothing; the model is called plainly then."""
    gpus.model_index = 0
    made = graphs()
    assert made.batches == ()
    for batch in cuda.BATCHES:
        assert f"No CUDA graph for a batch of {batch}: its outputs differ by nan" in caplog.text
    with torch.inference_mode():
        scores, _ = made(grey(30))
        assert torch.allclose(scores, torch.full((1, 3), 30.0))


@pytest.mark.parametrize("stale", ["scores", "maps"])
def test_graph_with_stale_inputs_is_refused(stale: str) -> None:
    """A graph that reads copies of what was captured gives every clip the same scores: it is left out."""

    def forgetful(frames: torch.Tensor) -> cuda.Outputs:
        scores, maps = whole(frames)
        return (torch.from_numpy(frames.numpy().mean((1, 2, 3))) + 0, maps) if stale == "scores" else (
            scores, [torch.from_numpy(frames.numpy().mean((1, 2, 3)))[:, :, None, None, None] + 0])  # fmt: skip

    assert graphs(forgetful).batches == ()


def test_worker_touches_its_own_gpu_alone(gpus: FakeCuda, load: Load) -> None:
    """The worker of the second GPU makes no context, stream or event on the first one."""
    loaded = load()
    assert set(gpus.touched) == {1}
    assert {stream.index for stream, _ in gpus.captures} == {1}
    assert loaded._graphs.batches == cuda.BATCHES


def test_any_thread_runs_on_the_models_gpu(gpus: FakeCuda, load: Load) -> None:
    """CUDA's current device is each thread's own: a thread that has set none is moved to the model's GPU."""
    seen: list[int] = []

    def watching(pathways: list[torch.Tensor]) -> tuple[torch.Tensor]:
        seen.append(torch.cuda.current_device())
        return means(pathways)

    gpus.model_index = 0  # no graph, so that the model itself is called
    loaded = load(watching)
    seen.clear()
    gpus.index = 0
    loaded.scores(loaded.transform(frames(*[200] * 3)))
    assert seen == [1]
    assert gpus.index == 0


def test_gpu_without_a_number(gpus: FakeCuda, load: Load) -> None:
    """``cuda`` is the current GPU, by its number from then on."""
    gpus.index = 1
    assert load(device="cuda").device == torch.device("cuda:1")


@pytest.fixture
def loader(monkeypatch: pytest.MonkeyPatch) -> Loader:
    """The loader of compiled packages, played by one that notes what it is given."""
    made = Loader()
    monkeypatch.setattr(torch._C._aoti, "AOTIModelPackageLoader", made)
    return made


class Loader:
    """Notes its arguments and runs `means`."""

    def __init__(self) -> None:
        self.arguments: list[tuple[object, ...]] = []
        self.strides: list[tuple[int, ...]] = []

    def __call__(self, *arguments: object) -> Loader:
        self.arguments.append(arguments)
        Path(tempfile.mkdtemp(dir=os.environ["TMPDIR"]), "model.so").touch()  # as the real one unpacks it
        return self

    def boxed_run(self, pathways: list[torch.Tensor]) -> list[torch.Tensor]:
        self.strides = [pathway.stride() for pathway in pathways]
        return [*means(pathways)]


def test_compiled_code_can_be_captured(loader: Loader) -> None:
    """Compiled code for a GPU is loaded for one thread: else it asks events, which a capture refuses."""
    LOADERS["aoti"](Path("model.pt2"), GPU)
    assert loader.arguments == [("model.pt2", "model", True, 1, 1)]


@pytest.mark.parametrize("name", [*LOADERS])
def test_every_runtime_is_captured(name: str, load: Load) -> None:
    """Batches are replayed from graphs whatever made the artifact."""
    loaded = load(name=name)
    assert loaded._graphs.batches == cuda.BATCHES


@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_compiled_code_gets_the_layout_that_it_was_exported_with(device: str, loader: Loader) -> None:
    """Compiled code trusts strides: whatever the caller's are, it reads those of the device's layout."""
    module = LOADERS["aoti"](Path("model.pt2"), torch.device(device))
    expected = [pathway.contiguous(memory_format=LAYOUT).stride() for pathway in clips(1.0, 2)]
    for given in (torch.contiguous_format, torch.channels_last_3d):
        module([pathway.contiguous(memory_format=given) for pathway in clips(1.0, 2)])
        assert loader.strides == expected


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_tf32_is_used_where_it_is_asked_for(precision: str, load: Load) -> None:
    """Neither a capture nor a call multiplies in TF32, unless the artifact's precision is that."""
    seen: set[tuple[bool, bool]] = set()

    def watching(pathways: list[torch.Tensor]) -> tuple[torch.Tensor]:
        seen.add((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))
        return means(pathways)

    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    loaded = load(watching, precision=precision)
    loaded.scores(loaded.transform(frames(*[200] * 3)))
    assert seen == {(precision == "tf32",) * 2}
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before


def test_blocks_of_two_threads() -> None:
    """Of two blocks that overlap, neither leaves its arithmetic behind, whichever ends first."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    for first, second in ((0, 1), (1, 0)):
        blocks = [arithmetic("fp32"), arithmetic("tf32")]
        for block in blocks:
            block.__enter__()
        blocks[first].__exit__(None, None, None)
        assert torch.backends.cuda.matmul.allow_tf32 == (first == 0)
        blocks[second].__exit__(None, None, None)
        assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_old_gpus(precision: str, gpus: FakeCuda, load: Load) -> None:
    """GPUs older than Ampere are not given what they lack, and the error names it."""
    gpus.capability = (7, 5)
    with pytest.raises(RuntimeError, match=f"this cuda (has no|runs) {precision}"):
        load(precision=precision)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"gpu": "sm_80"}, "it was compiled for gpu sm_80, and this host has sm_90"),
        ({"instruction_sets": ["avx", "avx1024"]}, "this CPU lacks avx1024, which it was compiled to use"),
    ],
)
def test_fingerprint_of_a_gpu(change: dict[str, object], said: str | None) -> None:
    """Code for a GPU is started by code for a CPU: an archive that moves needs both as they were."""
    reason = mismatch({**fingerprint(GPU), **change}, GPU)
    assert reason is None if said is None else said == reason


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 8, 9, 16, 17, 40])
@pytest.mark.parametrize("captured", [True, False])
def test_any_number_of_clips(count: int, captured: bool, gpus: FakeCuda, load: Load) -> None:
    """The model is run with a few batch sizes only; each clip gets its own scores, and no row is added to the
    answer.
    """
    seen: list[int] = []

    def watching(pathways: list[torch.Tensor]) -> tuple[torch.Tensor]:
        seen.append(len(pathways[0]))
        return means(pathways)

    gpus.model_index = 1 if captured else 0
    loaded = load(watching)
    levels = np.linspace(0, 250, count).astype(int).tolist()
    scores = loaded.scores(loaded.transform(frames(*levels)))
    alone = np.concatenate([loaded.scores(loaded.transform(frames(level))) for level in levels])
    assert scores.shape == (count, 3)
    assert np.allclose(scores, alone, atol=1e-6)
    assert len(np.unique(scores[:, 0])) == count
    assert set(seen) == set(cuda.BATCHES)


def test_no_batch_size_is_run_first_by_a_request(gpus: FakeCuda, load: Load) -> None:
    """A warm worker has run every batch size, whether it has a graph or not."""
    seen: list[int] = []

    def watching(pathways: list[torch.Tensor]) -> tuple[torch.Tensor]:
        seen.append(len(pathways[0]))
        return means(pathways)

    gpus.model_index = 0  # no graph, so that the model itself is called
    loaded = load(watching)
    seen.clear()
    loaded.warm_up()
    assert set(seen) == set(cuda.BATCHES)


def test_graphs_share_their_memory(gpus: FakeCuda) -> None:
    """All batch sizes' graphs live in one memory pool, which the largest makes."""
    graphs()
    (_, first), *others = gpus.captures
    assert first is None
    assert len({id(pool) for _, pool in others}) == 1
    assert all(pool is not None for _, pool in others)


class Troubled:
    """A model that raises what it is told to."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self.most_clips = 100
        self.sizes: list[int] = []

    def __call__(self, pathways: list[torch.Tensor]) -> tuple[torch.Tensor]:
        self.sizes.append(len(pathways[0]))
        if self.errors:
            raise self.errors.pop()
        if self.sizes[-1] > self.most_clips:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return means(pathways)


def test_batch_that_finds_no_memory(gpus: FakeCuda, load: Load, caplog: pytest.LogCaptureFixture) -> None:
    """Clips for which there is no memory together are run in halves, and each gets its own scores."""
    gpus.model_index = 0  # no graph, so that the model itself is called
    module = Troubled()
    loaded = load(module)
    pathways = loaded.transform(frames(*range(10, 170, 10)))
    expected = loaded.scores(pathways)
    module.most_clips = 4
    module.sizes.clear()
    assert np.array_equal(loaded.scores(pathways), expected)
    assert module.sizes == [16, 8, 4, 4, 8, 4, 4]
    assert "Out of memory with 16 clips: they are run in halves" in caplog.text
    assert loaded.lost is None


def test_frames_that_find_no_memory(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames for which there is no memory on the GPU together are brought there in halves."""
    loaded = load()
    given = frames(*range(10, 80, 10))
    expected = loaded.scores(loaded.transform(given))
    upload = loaded._upload

    def scarce(clips: Sequence[Pixels]) -> torch.Tensor:
        if len(clips) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return upload(clips)

    monkeypatch.setattr(loaded, "_upload", scarce)
    prepared = loaded.transform(given)
    assert [len(frames) for (frames,) in prepared] == [1, 1, 1, 1, 1, 1, 1]
    assert np.array_equal(loaded.scores(prepared), expected)


def test_one_clip_that_finds_no_memory(gpus: FakeCuda, load: Load) -> None:
    """A clip for which there is no memory is an error; where a grey clip finds none either, it is lost."""
    gpus.model_index = 0
    module = Troubled()
    loaded = load(module)
    pathways = loaded.transform(frames(100))
    module.errors = [torch.OutOfMemoryError("CUDA out of memory")]
    with pytest.raises(torch.OutOfMemoryError):
        loaded.scores(pathways)
    assert loaded.lost is None
    module.most_clips = 0
    with pytest.raises(torch.OutOfMemoryError):
        loaded.scores(pathways)
    assert loaded.lost == "CUDA out of memory"


def test_worker_whose_gpu_is_lost(gpus: FakeCuda, load: Load) -> None:
    """After an error the row gets one, and the next is answered; after one that stays, the process is told to
    end.
    """
    gpus.model_index = 0
    module = Troubled()
    loaded = load(module)
    manifest = Manifest("small", "1.0", SPEC, "", (loaded.artifact,), ("a", "b", "c"))
    lost: list[str] = []
    service = Service(Classifier(manifest, loaded, 1), when_lost=lost.append)
    row = Row({"body": random_clip(31).data})
    module.errors = [RuntimeError("passing")]
    assert [reply.status for _ in range(2) for reply in service.answer([row])] == [500, 200]
    assert lost == []
    module.errors = [RuntimeError("CUDA error: unspecified launch failure")] * 2
    assert [reply.status for reply in service.answer([row])] == [500]
    assert lost == ["CUDA error: unspecified launch failure"]
    service.close()


def test_lost_process_ends() -> None:
    """It ends at once with exit code 1 and a log line, whatever its other threads wait for."""
    code = (
        "import logging, threading\n"
        "from actionrec.service import end_process\n"
        "logging.basicConfig()\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        "end_process('CUDA error: unspecified launch failure')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1
    assert "This process ends, for another to take its place" in done.stderr
    assert "unspecified launch failure" in done.stderr


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_no_unpacked_package_stays(device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is unpacked to be loaded is gone at once, on a GPU too: a killed worker leaves none on the disk."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    LOADERS["aoti"](Path("model.pt2"), torch.device(device))
    assert list(tmp_path.iterdir()) == []


NET = artifacts.WithHead(torch.nn.Identity(), TorchHead(HEAD))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_kernels_are_inside_the_compiled_code(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU's kernels are no files beside the code, which would be read after they are removed."""
    given: dict[str, object] = {}
    monkeypatch.setattr(artifacts, "_program", lambda *_: (None, None))
    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", lambda _, **options: given.update(options))
    artifacts.EXPORTERS["aoti"](NET, SPEC, artifacts.Target("aoti", "fp16", device), tmp_path)
    assert given["inductor_configs"] == {
        "freezing": True,
        "aot_inductor.embed_kernel_binary": device == "cuda",
    }


@pytest.mark.parametrize(
    ("gpu", "seen", "device", "said"),
    [
        (1, True, "cuda:1", ""),
        (None, False, "cpu", ""),
        (None, True, "cpu", "torch sees 2, and the server gives this worker none"),
        (1, False, "cpu", "the server gives this worker GPU 1, and torch"),
    ],
)
def test_device_of_a_worker(
    gpu: int | None, seen: bool, device: str, said: str, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """A worker runs on the GPU that it is given; where server and torch disagree, one line says so."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: seen)
    assert device_of_worker(gpu) == device
    assert [said in record.message for record in caplog.records] == [True] * bool(said)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_compiling_needs(device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where compiling for a GPU fails, the hint names CUDA_HOME and the headers beside the compiler."""

    def lacking(*_: object, **__: object) -> None:
        raise OSError("CUDA_HOME environment variable is not set")

    monkeypatch.setattr(artifacts, "_program", lambda *_: (None, None))
    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", lacking)
    target = artifacts.Target("aoti", "fp16", device)
    with pytest.raises(ExportError, match="CUDA_HOME environment variable is not set") as refused:
        artifacts.EXPORTERS["aoti"](NET, SPEC, target, tmp_path)
    assert "g++" in refused.value.hint
    for needed in ("CUDA_HOME", "include/cuda.h", "Python.h"):
        assert (needed in refused.value.hint) is (device == "cuda")


@pytest.mark.parametrize("complete", [True, False])
def test_setting_up_looks_for_what_compiling_needs(complete: bool, tmp_path: Path) -> None:
    """On a host with a GPU, setting up names the headers that are missing and where they were looked for."""
    tools, headers = tmp_path / "tools", tmp_path / "toolkit" / "include"
    tools.mkdir()
    headers.mkdir(parents=True)
    for file in ("cuda.h", "Python.h") if complete else ():
        (headers / file).touch()
    # An environment that is there already, in which pip has nothing to do.
    for name in ("python", "java", "g++", "nginx", "nvidia-smi"):
        (tools / name).write_text(f"#!/bin/sh\necho {headers}\n", encoding="utf-8")
        (tools / name).chmod(0o755)
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "bin").symlink_to(tools)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "CUDA_HOME": str(headers.parent)}
    command = ["bash", str(PROJECT / "scripts" / "setup"), str(tmp_path / "venv")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    for header in ("cuda.h", "Python.h"):
        assert (f"{headers}/{header} is not there" in done.stdout) is not complete
