"""Promise: the same host is always served in the same way, and a host without a GPU as it always was."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from actionrec.manifest import Artifact, Manifest
from actionrec.spec import ClipSpec

from deploy import archives
from deploy.archives import Served
from deploy.preflight import DeployError
from deploy.sizing import FROM_HOST, ON_CPU, Gpu, Host, Sizing, decide, kept
from export.archive import SERVING, serving
from tests.conftest import PROJECT


def gpus(count: int, gib: float = 79.6) -> tuple[Gpu, ...]:
    return tuple(Gpu(number, "NVIDIA H100", gib) for number in range(count))


HOSTS = {
    "1 GPU, 16 cores": (Host(16, gpus(1)), Sizing(workers=4, batch=8, queue=128, decode_threads=4)),
    "1 GPU, 16 cores, MPS": (Host(16, gpus(1), mps=True), Sizing(4, 8, 128, 4)),
    "1 GPU, 64 cores": (Host(64, gpus(1)), Sizing(4, 16, 256, 16)),
    "1 GPU, 64 cores, MPS": (Host(64, gpus(1), mps=True), Sizing(6, 16, 384, 11)),
    "8 GPUs, 64 cores": (Host(64, gpus(8)), Sizing(16, 8, 512, 4)),
    "8 GPUs, 192 cores, MPS": (Host(192, gpus(8), mps=True), Sizing(48, 8, 1536, 4)),
    "1 GPU, 4 cores": (Host(4, gpus(1)), Sizing(2, 8, 64, 2)),
    "2 GPUs, 2 cores": (Host(2, gpus(2)), Sizing(4, 8, 128, 1)),
    "1 GPU of 16 GB, 16 cores": (Host(16, gpus(1, gib=15.8)), Sizing(3, 8, 96, 6)),
    "1 GPU of 4 GB, 16 cores": (Host(16, gpus(1, gib=3.9)), Sizing(1, 16, 64, 16)),
    "no GPU, 2 cores": (Host(2), ON_CPU),
    "no GPU, 64 cores": (Host(64), ON_CPU),
}


@pytest.mark.parametrize("name", HOSTS)
def test_each_host(name: str) -> None:
    """Cores, memory and MPS decide the workers; the cores of one worker decide its batches and decoding."""
    host, sizing = HOSTS[name]
    assert decide(host) == sizing


def test_the_documented_hosts() -> None:
    """The table in the documents is what the code makes of these hosts."""
    text = (PROJECT / "docs" / "gpu.md").read_text(encoding="utf-8")
    rows = re.findall(r"\| (\d+) GPUs? of (\d+) GB, (\d+) cores(, MPS)? \| (\d+) \| (\d+) \| (\d+) \|", text)
    assert len(rows) == 5
    for count, gigabytes, cores, mps, *figures in rows:
        there = gpus(int(count), 0.99 * int(gigabytes))
        sizing = decide(Host(int(cores), there, mps=bool(mps)))
        assert [str(sizing.workers), str(sizing.batch), str(sizing.decode_threads)] == figures


def test_the_smallest_gpu_counts() -> None:
    """Workers are spread evenly, so a GPU with less memory sets the number for all."""
    mixed = (*gpus(1), Gpu(1, "NVIDIA T4", 14.6))
    assert decide(Host(32, mixed)).workers == 2 * 3


def test_models_share() -> None:
    """Several models share a GPU's workers and the cores; each has at least one worker on each GPU."""
    host = Host(32, gpus(2))
    alone, two, many = (decide(host, models) for models in (1, 2, 9))
    assert (alone.workers, two.workers, many.workers) == (8, 4, 2)
    assert (alone.decode_threads, two.decode_threads, many.decode_threads) == (4, 4, 2)


def test_what_was_chosen_goes() -> None:
    """A number that somebody gives is used as it is, and the others follow from it; on a CPU too."""
    host = Host(16, gpus(1))
    assert decide(host, workers=2) == Sizing(workers=2, batch=16, queue=128, decode_threads=8)
    assert decide(host, batch=4) == Sizing(workers=4, batch=4, queue=64, decode_threads=4)
    assert decide(host, decode_threads=7) == Sizing(workers=4, batch=8, queue=128, decode_threads=7)
    assert decide(Host(64), workers=3, decode_threads=5) == replace(ON_CPU, workers=3, decode_threads=5)


@pytest.mark.parametrize("count", range(1, 5))
def test_scaling_keeps_the_gpus_even(count: int) -> None:
    """With as many workers as GPUs or more, TorchServe's turns leave no GPU with two more than another."""
    for full in range(count, 5 * count, count):
        for wanted in range(count, full):
            turn = 0
            workers: list[int] = []
            for target in (full, kept(full, wanted, count), wanted, full):
                del workers[target:]
                while len(workers) < target:
                    turn = (turn + 1) % count
                    workers.append(turn)
                loads = [workers.count(gpu) for gpu in range(count)]
                assert max(loads) - min(loads) <= 1, (full, wanted, workers)


def test_scaling_never_leaves_a_model_without_workers() -> None:
    """One of two workers on two GPUs is kept, though the next one may come to the same GPU."""
    assert kept(2, 1, 2) == 1
    assert kept(8, 3, 2) == 2
    assert kept(8, 0, 2) == 0
    assert kept(2, 8, 2) == 8


def manifest(*devices: str) -> Manifest:
    artifacts = tuple(Artifact("torchscript", "fp32", device, f"{device}.pt") for device in devices)
    return Manifest("m", "1.0", ClipSpec(), "random", artifacts, ("a", "b"))


def test_what_an_archive_says() -> None:
    """An archive for a CPU carries all settings; one for a GPU leaves to the host what depends on it."""
    assert serving(manifest("cpu")) == SERVING
    assert {key: SERVING[key] for key in FROM_HOST} == {
        "minWorkers": 1,
        "maxWorkers": 1,
        "batchSize": 4,
        "jobQueueSize": 64,
    }
    for mixed in (manifest("cuda"), manifest("cuda", "cpu")):
        assert serving(mixed) == {key: value for key, value in SERVING.items() if key not in FROM_HOST}


def test_what_the_server_adds() -> None:
    """The server's configuration has what archives leave open, and nothing about others."""
    sizing = Sizing(4, 8, 128)
    full = Served("full", "1.0", dict.fromkeys(FROM_HOST, 1), own=True)
    stranger = Served("stranger", "1.0", {}, own=False)
    assert archives.properties([full, stranger], sizing) == {}
    half = Served("half", "2.1", {"batchSize": 2}, own=True)
    assert archives.properties([full, half], sizing) == {
        "models": '{"half": {"2.1": {"minWorkers": 4, "maxWorkers": 4}}}',
        "job_queue_size": "128",
    }


def test_a_batch_that_does_not_arrive_is_refused() -> None:
    """BATCH for an archive with a batch of its own names both, and the way out."""
    full = Served("full", "1.0", {key: SERVING[key] for key in FROM_HOST}, own=True)
    with pytest.raises(DeployError, match=r"BATCH=8 .* full\.mar, which has batchSize 4; .* for a GPU"):
        archives.check_batch([full], 8)
    archives.check_batch([replace(full, says={})], 8)
