"""How a host serves: workers, batches, decoding. What the host has goes in, settings come out; all of it pure.

An archive for a CPU carries `ON_CPU`. One for a GPU leaves these settings open (`FROM_HOST`), since a host with
one GPU and one with eight serve it differently.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

FROM_HOST = ("minWorkers", "maxWorkers", "batchSize", "jobQueueSize")
"""Keys of ``model-config.yaml`` that an archive may leave to the host. What it says itself is served so."""

# What a GPU's workers need. Nothing of it was measured on a GPU: it is reckoned from what a clip costs on a CPU
# and from the memory that the project has set itself as a goal.
_CORES_A_WORKER = 4
"""Cores whose decoding one worker waits for: 4 cores decode 150 clips of 340x256 a second."""
_FEWEST = 2
"""Workers that a GPU has in any case: while one decodes, the other computes."""
_MOST = 4
"""Workers that a GPU has at most where their kernels take turns."""
_MOST_WITH_MPS = 6
"""The same where MPS runs them side by side."""
_GIB_A_WORKER = 4.0
"""Memory on the GPU for a worker: a context, a SlowFast R50 in fp16, and what a batch of 16 needs."""
_BATCH, _LARGE_BATCH = 8, 16
_CORES_OF_A_LARGE_BATCH = 8
"""Cores of a worker from which it decodes a batch of 16 as fast as 4 cores decode one of 8."""
_BATCHES_WAITING = 4
"""Batches of each worker that may wait in the queue: less than a second of work."""


@dataclass(frozen=True)
class Gpu:
    """A GPU that the server may use."""

    number: int
    """As ``nvidia-smi`` counts."""
    name: str
    gib: float
    """Its memory in GiB."""


@dataclass(frozen=True)
class Host:
    """What a host has."""

    cores: int
    """Those that this process may use."""
    gpus: tuple[Gpu, ...] = ()
    """Those that torch sees and the server may use; ``cuda:0`` is the first of them."""
    mps: bool = False
    """Whether NVIDIA's Multi-Process Service runs: kernels of several processes then run side by side."""


@dataclass(frozen=True)
class Sizing:
    """How each model is served."""

    workers: int
    """Worker processes, on all GPUs together."""
    batch: int
    """The most requests in one call of the model's handler; as many videos are open at once in a worker."""
    queue: int
    """Requests that may wait for a worker; more are refused with 503."""
    decode_threads: int | None = None
    """Windows that one worker decodes at once; None: one per core."""

    def keys(self) -> dict[str, int]:
        """The same as TorchServe's own keys, without what it does not know."""
        return dict(zip(FROM_HOST, (self.workers, self.workers, self.batch, self.queue), strict=True))


ON_CPU = Sizing(
    # A single clip already fills a CPU's cores. `make scale` adds more workers.
    workers=1,
    # The clips of a batch are decoded side by side, and ahead of the model. With the small `motion` model and
    # eight clients this gives 1.1x the throughput of single clips, with four clients the same; batches of 8
    # give no more (benchmarks/batching.py, on two cores).
    batch=4,
    # On a CPU that does one a second, the last one waits a minute: half of the time that clients and proxies
    # allow.
    queue=64,
)
"""For hosts without a GPU, whatever else they have."""


def decide(
    host: Host,
    models: int = 1,
    *,
    workers: int | None = None,
    batch: int | None = None,
    decode_threads: int | None = None,
) -> Sizing:
    """The settings of each model.

    Args:
        host: what there is.
        models: how many are served; they share the GPUs and the cores evenly.
        workers, batch, decode_threads: what somebody has chosen; None: what suits the host.
    """
    chosen = _on_gpus(host, models, workers, batch) if host.gpus else ON_CPU
    given = {"workers": workers, "batch": batch, "decode_threads": decode_threads}
    return replace(chosen, **{name: value for name, value in given.items() if value is not None})


def kept(now: int, keep: int, gpus: int) -> int:
    """How many workers to keep, so that those that are added later spread evenly over the GPUs.

    TorchServe stops the last workers first, and gives each new one the next GPU in turn. So new ones get the
    GPUs of the stopped ones only where as many are stopped as there are GPUs, or twice as many, and so on.

    Args:
        now: workers of a model.
        keep: how many of them are wanted.
        gpus: GPUs of the server.

    Returns:
        `keep`, or up to ``gpus - 1`` fewer; never none, which would leave the model without an answer.
    """
    if gpus < 2 or keep >= now:
        return keep
    even = keep - (keep - now) % gpus
    return even if even > 0 else keep


def _on_gpus(host: Host, models: int, workers: int | None, batch: int | None) -> Sizing:
    gpus = len(host.gpus)
    by_cores = max(_FEWEST, host.cores // (gpus * _CORES_A_WORKER))
    by_memory = int(min(gpu.gib for gpu in host.gpus) // _GIB_A_WORKER)
    most = _MOST_WITH_MPS if host.mps else _MOST
    workers = workers or gpus * max(1, min(by_cores, by_memory, most) // models)
    cores = host.cores / (workers * models)
    batch = batch or (_LARGE_BATCH if cores >= _CORES_OF_A_LARGE_BATCH else _BATCH)
    return Sizing(
        workers=workers,
        batch=batch,
        queue=max(ON_CPU.queue, _BATCHES_WAITING * workers * batch),
        decode_threads=max(1, math.ceil(cores)),
    )
