"""Which of a GPU's artifacts an archive serves: the one that is measured the fastest on the building host."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import median

from actionrec.manifest import Artifact
from actionrec.model.runtime import Runtime
from torch import Tensor

BATCH = 8
"""Clips: what `deploy.sizing` has a GPU's workers be given together."""
ROUNDS = 30

Clock = Callable[[], float]
"""Returns seconds."""


def fastest_first(
    artifacts: Sequence[Artifact],
    racing: Mapping[str, Runtime],
    clips: Tensor,
    tell: Callable[[str], object],
    clock: Clock = time.perf_counter,
) -> tuple[Artifact, ...]:
    """Put those artifacts first that are compared, by the time that each takes; the others keep their order.

    Args:
        artifacts: all of an archive, as they were made.
        racing: those of them that are compared, by their runtimes, loaded on one GPU; fewer than two: none is.
        clips: int16 [N, T, H, W, 3], N at least 1.
        tell: is given a line for the user.
        clock: see `batch_seconds`.
    """
    if len(racing) < 2:
        return tuple(artifacts)
    seconds = dict(zip(racing, batch_seconds([*racing.values()], clips, clock), strict=True))
    order = ranking(seconds)
    tell(
        ", ".join(f"{name} takes {seconds[name] * 1e3:.2f} ms" for name in order)
        + f" for a batch of {BATCH}: {order[0]} is served"
    )
    made = {artifact.runtime: artifact for artifact in artifacts}
    measured = [replace(made[name], batch_ms=round(seconds[name] * 1e3, 3)) for name in order]
    return (*measured, *(artifact for artifact in artifacts if artifact.runtime not in racing))


def ranking(seconds: Mapping[str, float]) -> list[str]:
    """Runtimes, the fastest first. Of two that take equally long the first stays the first."""
    return sorted(seconds, key=lambda name: seconds[name])


def batch_seconds(runtimes: Sequence[Runtime], clips: Tensor, clock: Clock = time.perf_counter) -> list[float]:
    """How long each runtime takes for a batch of `BATCH` clips, as a worker runs it: the median of its turns.

    They take turns, so that what slows the host for a while slows all of them.

    Args:
        runtimes: on the same GPU.
        clips: int16 [N, T, H, W, 3]; taken again where there are fewer than a batch.
        clock: seconds.
    """
    batch = [clips[number % len(clips)].numpy() for number in range(BATCH)]
    prepared = [runtime.transform(batch) for runtime in runtimes]
    for runtime in runtimes:
        runtime.warm_up()
    seconds: list[list[float]] = [[] for _ in runtimes]
    for _ in range(ROUNDS):
        for runtime, inputs, taken in zip(runtimes, prepared, seconds, strict=True):
            begun = clock()
            runtime.scores(inputs)
            taken.append(clock() - begun)
    return [median(taken) for taken in seconds]
