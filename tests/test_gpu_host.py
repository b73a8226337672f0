"""Promise: on a host with several GPUs each worker has one of its own, and the settings are those of the host.

TorchServe, its workers and the project's handler are real. The GPUs are not: `helpers_gpus` says that there are
some, and in the workers only the model is left out, since nothing could run it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import requests

from deploy import server as deploy_server
from deploy.config import load_config
from deploy.launch import CONFIG_FILE
from deploy.management import get_models
from deploy.supervisor import Supervisor
from export.archive import write_checksum
from tests.conftest import PROJECT, RunningServer, pack
from tests.helpers_gpus import Nvidia

pytestmark = pytest.mark.server

GPUS = ("NVIDIA H100", "NVIDIA T4", "NVIDIA H100")
HANDLER = """
import types
import torch
from actionrec.pipeline import Classifier
from slowfast_handler import SlowFastHandler

torch.cuda.is_available = lambda: True

def load(directory, device, *, decode_threads, open_clips, **others):
    described = {"name": "seen", "version": "1.0", "serving": {"device": device}, "sandbox": open_clips,
                 "decode": {}}
    return types.SimpleNamespace(
        decode_threads=decode_threads,
        describe=lambda: described,
        classify=lambda requests, others_wait: [],
        manifest=types.SimpleNamespace(name="seen"),
        runtime=types.SimpleNamespace(lost=None),
        sandbox=None,
    )

Classifier.load = load

class Seen(SlowFastHandler):
    pass
"""
"""The project's handler and service; only the model is left out."""


def gpu_archive(store: Path) -> Path:
    """An archive as it is built for a GPU, which leaves workers, batch and queue to the host."""
    config = "maxBatchDelay: 1\nresponseTimeout: 120\nstartupTimeout: 300\nactionrec: {}\n"
    archive = pack("seen", HANDLER, store, config)
    handler = PROJECT / "handler"
    with zipfile.ZipFile(archive, "a") as packed:
        for path in sorted(handler.rglob("*.py")):
            packed.write(path, path.relative_to(handler))
    write_checksum(archive)
    return archive


@pytest.fixture(scope="module")
def nvidia(tmp_path_factory: pytest.TempPathFactory) -> Nvidia:
    """Three GPUs, and MPS."""
    return Nvidia(tmp_path_factory.mktemp("host") / "nvidia", GPUS, mps=True)


@pytest.fixture
def path(nvidia: Nvidia, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", nvidia.path)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, nvidia: Nvidia) -> deploy_server.Settings:
    """GPUs 0 and 2 of the three, and all else as the host has it."""
    home = tmp_path_factory.mktemp("gpus")
    return deploy_server.Settings(
        model_store=gpu_archive(home / "store").parent,
        config=PROJECT / "config.properties",
        run_dir=home / "run",
        log_dir=home / "logs",
        port=0,
        python=nvidia.python,
        device_ids=(0, 2),
    )


@pytest.fixture(scope="module")
def up(settings: deploy_server.Settings, nvidia: Nvidia) -> Iterator[RunningServer]:
    """A server of the GPU archive; every test leaves it with two workers on each of the two GPUs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", nvidia.path)
        state = deploy_server.start(settings)
    yield RunningServer(state, settings.run_dir)
    deploy_server.stop(settings.run_dir)


def deploy(run_dir: Path, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "deploy", command, "--run-dir", str(run_dir), *arguments]
    return subprocess.run(line, cwd=PROJECT, capture_output=True, text=True, timeout=180, check=False)


def workers(state: deploy_server.State) -> list[psutil.Process]:
    """The worker processes of all models."""
    found = [
        each.process() for model in get_models(state.management_url, state.models) for each in model.workers
    ]
    return [process for process in found if process]


def devices(run_dir: Path) -> Counter[str]:
    """How many workers `status` shows on each device."""
    status = deploy(run_dir, "status")
    assert status.returncode == 0, status.stdout
    return Counter(re.findall(r"READY\s*[│|]\s*(\S+(?: \d+)?)", status.stdout))


@pytest.mark.usefixtures("path")
def test_each_worker_has_its_gpu(up: RunningServer) -> None:
    """TorchServe puts equally many workers on the chosen GPUs; `status` names them as nvidia-smi does."""
    assert devices(up.run_dir) == {"GPU 0": 2, "GPU 2": 2}
    status = deploy(up.run_dir, "status").stdout
    assert "workers on GPU 0: 2, GPU 2: 2; MPS runs" in status


def test_the_workers_see_only_the_chosen_gpus(up: RunningServer) -> None:
    """Each worker may see GPUs 0 and 2, counted as nvidia-smi counts, so that ``cuda:1`` is GPU 2."""
    for process in workers(up.state):
        environment = process.environ()
        assert environment["CUDA_VISIBLE_DEVICES"] == "0,2"
        assert environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_the_description_names_the_device(up: RunningServer) -> None:
    """The description comes from a worker, and says on which of the GPUs that it sees its model runs."""
    seen = set()
    for _ in range(10):
        reply = requests.get(f"{up.management_url}/models/seen?customized=true", timeout=30).json()
        (described,) = reply
        seen.add(re.findall(r"cuda:\d", str(described["customizedMetadata"]))[0])
    assert seen <= {"cuda:0", "cuda:1"}


@pytest.mark.usefixtures("path")
def test_the_settings_are_the_hosts(up: RunningServer) -> None:
    """Workers, batches, the queue and the decoding width come from the host, and `status` shows them."""
    (model,) = get_models(up.management_url, ["seen"])
    assert (len(model.workers), model.min_workers, model.batch, model.queue) == (4, 4, 8, 128)
    threads = {process.environ()["ACTIONREC_DECODE_THREADS"] for process in workers(up.state)}
    assert threads == {"1"}, "two cores or fewer for four workers"
    shown = "seen: batches of up to 8, 128 requests may wait, each worker decodes 1 at once"
    assert shown in deploy(up.run_dir, "status").stdout


def test_nvidia_smi_is_not_run_for_each_worker(up: RunningServer, nvidia: Nvidia) -> None:
    """A question for a model's state runs no nvidia-smi for each worker; all else still reaches it."""
    for _ in range(3):
        get_models(up.management_url, ["seen"])
    calls = nvidia.calls.read_text() if nvidia.calls.exists() else ""
    assert "utilization" not in calls
    (process, *_) = workers(up.state)
    environment = process.environ()
    done = subprocess.run(["nvidia-smi", "-L"], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("index")
    assert "-L" in nvidia.calls.read_text()


@pytest.mark.usefixtures("path")
def test_scaling_keeps_the_gpus_even(up: RunningServer) -> None:
    """Three of four workers, and then four again: no GPU has two workers more than the other."""
    for count, spread in ((3, [1, 2]), (4, [2, 2])):
        assert deploy(up.run_dir, "scale", "--workers", str(count)).returncode == 0
        assert sorted(devices(up.run_dir).values()) == spread


@pytest.mark.usefixtures("path")
def test_a_new_server_has_the_same(up: RunningServer, settings: deploy_server.Settings) -> None:
    """A server that the supervisor starts anew has the same GPUs, workers and batches."""
    before = up.state
    before.process.terminate(5)
    Supervisor(replace(settings, port=None)).look(before)
    state = deploy_server.running(up.run_dir)
    assert state.process != before.process
    assert state.gpus == "0,2"
    assert devices(up.run_dir) == {"GPU 0": 2, "GPU 2": 2}
    (model,) = get_models(state.management_url, ["seen"])
    assert (model.batch, model.queue) == (8, 128)


@pytest.mark.usefixtures("path")
def test_what_was_chosen_goes(settings: deploy_server.Settings, tmp_path: Path) -> None:
    """Numbers that somebody gives are used, those of the configuration too."""
    config = tmp_path / "config.properties"
    config.write_text((PROJECT / "config.properties").read_text() + "number_of_gpu=1\njob_queue_size=7\n")
    changed = replace(
        settings, config=config, run_dir=tmp_path / "run", log_dir=tmp_path / "logs", device_ids=(2, 0),
        workers=1, batch=16, decode_threads=3,
    )  # fmt: skip
    state = deploy_server.start(changed)
    try:
        (model,) = get_models(state.management_url, ["seen"])
        assert (state.gpus, len(model.workers), model.batch, model.queue) == ("2", 1, 16, 7)
        assert devices(changed.run_dir) == {"GPU 2": 1}
        (process,) = workers(state)
        assert process.environ()["ACTIONREC_DECODE_THREADS"] == "3"
        assert load_config(changed.run_dir / CONFIG_FILE).most_gpus == 1
    finally:
        deploy_server.stop(changed.run_dir)


@pytest.mark.usefixtures("path")
def test_the_cpu_of_a_host_with_gpus(
    motion_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where torch sees no GPU that TorchServe gives out, the CPU serves as ever, and a log says why."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    settings = deploy_server.Settings(
        model_store=motion_archive.parent,
        models=("motion",),
        config=PROJECT / "config.properties",
        run_dir=tmp_path / "run",
        log_dir=tmp_path / "logs",
        port=0,
    )
    state = deploy_server.start(settings)
    try:
        (entry,) = requests.get(f"{state.management_url}/models/motion", timeout=30).json()
        assert [worker["gpu"] for worker in entry["workers"]] == [True], "TorchServe counts by nvidia-smi"
        assert (state.gpus, entry["batchSize"], entry["minWorkers"]) == ("", 4, 1)
        log = (settings.log_dir / "model_log.log").read_text(encoding="utf-8")
        assert "The CPU is used, not a GPU: the server gives this worker GPU 1, and torch" in log
        status = deploy(settings.run_dir, "status")
        assert devices(settings.run_dir) == {"cpu": 1}
        assert "1 on the CPU, though there is a GPU" in status.stdout
        assert f"each worker decodes {os.cpu_count()} at once" in status.stdout
    finally:
        deploy_server.stop(settings.run_dir)
