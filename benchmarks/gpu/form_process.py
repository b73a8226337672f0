"""A form in a process of its own, which loads it as a worker does and answers questions about it."""

from __future__ import annotations

import argparse
import logging
import resource
import shutil
import statistics
import time
from collections import deque
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from actionrec.manifest import CONFIG_FILE, Manifest
from actionrec.model.runtime import Runtime
from actionrec.spec import STEPS_PER_LEVEL
from torch import nn

from benchmarks.gpu.child import Answer, serve
from benchmarks.gpu.eager import Computing, EagerRuntime, Frames, Runs
from benchmarks.gpu.forms import Form, prepare, why_not, zoo_model
from benchmarks.gpu.plan import EAGER, MOTION, R50
from export import artifacts, parity
from export.errors import ExportError
from export.samples import sample_clips

NOISE_CLIPS = 16
"""Different ones; larger batches repeat them."""
MEMORY_BATCH = 8
BATCHES = 1, 2, 4, 8, NOISE_CLIPS
"""Sizes whose clips must have the scores that they have alone."""


class Process:
    """The answers of a form's process.

    Args:
        form: what it has.
        work: folder with the networks, the clips and the artifacts.
        archive: an unpacked archive, to run what is in it instead of an export.
    """

    def __init__(self, form: Form, work: Path, archive: Path | None = None) -> None:
        self._form, self._work, self._archive = form, work, archive
        self._model = zoo_model(form.model, form.crop)
        self._device = torch.device(form.device)
        self._warnings = _Warnings()
        logging.getLogger("actionrec").addHandler(self._warnings)
        self._replays = _count_replays() if self._device.type == "cuda" else None

    def _net(self) -> nn.Module:
        """The eager model, float32, on the CPU."""
        net = self._model.build(self._model.spec, len(self._model.labels()))
        net.load_state_dict(torch.load(self._work / f"{self._model.name}.pth", weights_only=True))
        return net.eval()

    @cached_property
    def _runtime(self) -> Runs:
        """The model, loaded and warmed up."""
        if self._form.runtime == EAGER:
            return cast(Runs, EagerRuntime(self._net(), self._model.spec, self._form.precision, self._device))
        folder = self._archive or self._work / self._form.folder
        runtime = Runtime(folder, Manifest.load(folder), self._device)
        runtime.warm_up()
        return cast(Runs, runtime)

    @cached_property
    def _noise(self) -> list[Frames]:
        """Clips of noise, in memory as a worker's: zeros would be computed faster than any footage."""
        spec, random = self._model.spec, np.random.default_rng(0)
        clips = [self._runtime.memory((spec.num_frames, spec.crop, spec.crop, 3)) for _ in range(NOISE_CLIPS)]
        for clip in clips:
            clip[:] = random.integers(0, 255 * STEPS_PER_LEVEL, clip.shape, np.int16)
        return clips

    def prepare(self) -> Answer:
        """Make what all forms of the model share."""
        begun = time.perf_counter()
        prepare(self._model, self._work)
        return {"seconds": time.perf_counter() - begun}

    def export(self) -> Answer:
        """Write the artifact, unless it is there; or say why this host cannot have it."""
        if reason := why_not(self._form):
            return {"cannot": reason}
        if self._form.runtime == EAGER:
            return {"export s": 0.0}
        folder, begun = self._work / self._form.folder, time.perf_counter()
        if not (folder / CONFIG_FILE).exists():  # written last
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            target = artifacts.Target(self._form.runtime, self._form.precision, self._device.type)
            try:
                artifact = artifacts.export(self._net(), self._model.spec, target, folder)
            except ExportError as error:
                if isinstance(error.__cause__, ImportError):
                    return {"cannot": error.message}
                raise
            labels = self._model.labels()
            Manifest(self._model.name, "1.0", self._model.spec, "random", (artifact,), labels).write(folder, {})
        return {"export s": time.perf_counter() - begun}

    def load(self) -> Answer:
        """Load the artifact and warm it up, as a worker does, then run a batch of eight: time and memory."""
        begun = time.perf_counter()
        _ = self._runtime
        loaded = time.perf_counter() - begun
        self._once(MEMORY_BATCH)
        return {"load s": loaded, f"GB, batch of {MEMORY_BATCH}": self._peak_gb(), **self._said()}

    def check(self, clips: int) -> Answer:
        """Compare the scores with the eager float32 model's on the CPU, and those of a clip in batches with
        its scores alone.

        Args:
            clips: of the gate; at least 2.
        """
        given = torch.from_numpy(np.load(self._work / f"{self._model.name}-clips.npy"))[:clips]
        if len(given) < clips:
            given = sample_clips(self._model.spec, clips, parity.SEED)
        report = parity.check(self._net(), cast(Runtime, self._runtime), self._form.precision, given)
        sizes = [size for size in BATCHES if size <= self._runtime.max_batch]
        alone = np.concatenate([self._scores([clip]) for clip in self._noise])
        apart = max(float(np.abs(self._scores(self._noise[:size]) - alone[:size]).max()) for size in BATCHES)
        if not apart <= parity.TOLERANCES[self._form.precision].score:
            raise ValueError(f"in batches a clip's scores differ by {apart:.3g} from those alone")
        return {
            "clips": report["clips"],
            "top-1": report["top1_agreement"],
            "difference": report["max_abs_score_difference"],
            "log ratio": report["max_log_score_ratio"],
            "in batches": apart,
            **self._graphs(sizes),
            **self._said(),
        }

    def time(self, batch: int, seconds: float) -> Answer:
        """Run batches for some seconds, at least two; medians in ms.

        Returns:
            ``copy``: frames to the device; ``model``: from there to scores; ``whole``: both, with as many
            batches under way as a worker has.
        """
        most = self._runtime.max_batch
        parts = [self._frames(start, min(batch, start + most)) for start in range(0, batch, most)]
        self._scores(parts[0])  # not counted: kernels are chosen and memory is allocated
        copy: list[float] = []
        model: list[float] = []
        until = time.perf_counter() + seconds
        while len(model) < 2 or time.perf_counter() < until:
            copied = computed = 0.0
            for part in parts:
                begun = time.perf_counter()
                prepared = self._runtime.transform(part)
                self._synchronise()
                moved = time.perf_counter()
                self._runtime.compute(prepared).scores()
                copied, computed = copied + moved - begun, computed + time.perf_counter() - moved
            copy.append(copied * 1e3)
            model.append(computed * 1e3)
        whole = self._whole(parts, len(model))
        timed = {"copy": statistics.median(copy), "model": statistics.median(model), "whole": whole}
        return {**timed, "parts": len(parts), "peak GB": self._peak_gb(), **self._said()}

    def _whole(self, parts: list[list[Frames]], runs: int) -> float:
        """Milliseconds of a batch, where the next one is started before the scores of this one are fetched."""
        under_way: deque[Computing] = deque()
        begun = time.perf_counter()
        for part in parts * runs:
            under_way.append(self._runtime.compute(self._runtime.transform(part)))
            if len(under_way) >= self._runtime.in_flight:
                under_way.popleft().scores()
        while under_way:
            under_way.popleft().scores()
        return (time.perf_counter() - begun) * 1e3 / runs

    def _frames(self, first: int, stop: int) -> list[Frames]:
        return [self._noise[number % NOISE_CLIPS] for number in range(first, stop)]

    def _scores(self, frames: list[Frames]) -> npt.NDArray[np.float32]:
        return self._runtime.compute(self._runtime.transform(frames)).scores()

    def _once(self, batch: int) -> None:
        most = self._runtime.max_batch
        for start in range(0, batch, most):
            self._scores(self._frames(start, min(batch, start + most)))

    def _graphs(self, sizes: list[int]) -> Answer:
        """Which batch sizes are replayed from a CUDA graph."""
        if self._replays is None:
            return {}
        without = []
        for size in sizes:
            before = self._replays()
            self._once(size)
            if self._replays() == before:
                without.append(size)
        return {"no graph for": without}

    def _said(self) -> Answer:
        """The warnings since the last answer; for instance of a graph that could not be captured."""
        return {"warnings": self._warnings.take()}

    def _synchronise(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _peak_gb(self) -> float:
        """The most memory so far: of the GPU, as torch has reserved it; of this process, on a CPU."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_reserved(self._device) / 1e9
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


class _Warnings(logging.Handler):
    """Keeps what is logged as a warning or worse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.append(record.getMessage()[:300])

    def take(self) -> list[str]:
        messages, self._messages = self._messages, []
        return messages


def _count_replays() -> Callable[[], int]:
    """Have replays of CUDA graphs counted from now on; returns what tells the number."""
    count = 0
    replay = torch.cuda.CUDAGraph.replay

    def counted(graph: torch.cuda.CUDAGraph) -> None:
        nonlocal count
        count += 1
        replay(graph)

    torch.cuda.CUDAGraph.replay = counted  # type: ignore[method-assign,assignment]
    return lambda: count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=(R50, MOTION), required=True)
    parser.add_argument("--runtime", required=True)
    parser.add_argument("--precision", required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--crop", type=int)
    parser.add_argument("--archive", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    given = vars(parser.parse_args())
    work, archive = given.pop("work"), given.pop("archive")
    process = Process(Form(**given), work, archive)
    names = ("prepare", "export", "load", "check", "time")
    serve({name: partial(getattr(process, name)) for name in names})


if __name__ == "__main__":
    main()
