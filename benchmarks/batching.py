"""The best batch size and delay: one archive with several settings, each behind its own worker, under load.

One server has as many of these workers as fit into memory, and they take turns, so that only the setting
differs; the others come in a server after it. The result is in `deploy.sizing`. On a GPU:
``--model slowfast_r50 --clients 8 32 64 --sizes 1 4 8 16``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import psutil
import requests
import yaml
from actionrec.manifest import CONFIG_FILE

from benchmarks.archives import R50, archive
from benchmarks.load import Subject, raw, round_robin, torchserve
from benchmarks.measure import console, gpu_state, report
from benchmarks.videos import video
from deploy.management import get_models
from export.archive import write_checksum

_MAR_MANIFEST = "MAR-INF/MANIFEST.json"
_SHARE_OF_MEMORY = 0.8
"""Of what is free: batches grow, and the host does other things."""

Setting = tuple[str, dict[str, int]]
"""The name of a model, and its keys for TorchServe."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=(R50, "motion"), default="motion")
    parser.add_argument("--sizes", type=int, nargs="+", default=(1, 2, 4, 8))
    parser.add_argument("--delays", type=int, nargs="+", default=(1, 5, 20), help="milliseconds")
    parser.add_argument("--clients", type=int, nargs="+", default=(1, 4, 8))
    parser.add_argument("--count", type=int, default=24, help="clips a round")
    options = parser.parse_args()
    data = video(340, 256)
    with tempfile.TemporaryDirectory() as folder:
        mar = archive(options.model, Path(folder))
        settings: list[Setting] = [
            (f"{options.model}_{size}_{delay}", {"batchSize": size, "maxBatchDelay": delay})
            # A batch of one clip never waits for another.
            for size, delay in itertools.product(options.sizes, options.delays)
            if size > 1 or delay == options.delays[0]
        ]
        most = _that_fit(
            mar, Path(folder) / "first", max(settings, key=lambda each: each[1]["batchSize"]), data
        )
        rows: list[dict[str, Any]] = []
        for number, group in enumerate(groups(settings, most)):
            store = Path(folder) / f"store-{number}"
            for name, values in group:
                _variant(mar, store, name, values)
            with torchserve(store) as state:
                subjects = [Subject(name, raw(state.predict_url(name))) for name, _ in group]
                for clients in options.clients:
                    rows += round_robin(subjects, data, clients, max(options.count, clients))
    titles = {name: f"up to {v['batchSize']}, {v['maxBatchDelay']} ms" for name, v in settings}
    rows.sort(key=lambda row: int(row["clients"]))
    for row in rows:
        row["what"] = titles[row["what"]]
    notes = {"workers that fit": most, "servers": len(groups(settings, most))}
    report(f"batching_{options.model}", f"{options.model}: batch size and delay", rows, notes)


def groups(settings: list[Setting], most: int) -> list[list[Setting]]:
    """Distribute settings evenly over as few servers as have room for them.

    Args:
        settings: all of them.
        most: workers that fit; at least one is started in any case.
    """
    count = -(-len(settings) // max(1, most))
    return [settings[number::count] for number in range(count)]


def fit(needed: float, free: float) -> int:
    """How many workers there is memory for.

    Args:
        needed: by one worker.
        free: beside it, in the same unit.
    """
    return 1 + int(free * _SHARE_OF_MEMORY / needed) if needed > 0 else 1


def _that_fit(mar: Path, store: Path, setting: Setting, data: bytes) -> int:
    """How many workers fit, by the memory of one that has answered: of the host and of the GPU that it uses."""
    _variant(mar, store, *setting)
    before = _used_mib()
    with torchserve(store) as state:
        with requests.Session() as session:
            raw(state.predict_url())(session, data)
        (model,) = get_models(state.management_url, state.models)
        memory = sum(worker.memory_mb or 0.0 for worker in model.workers)
        most = [fit(memory, psutil.virtual_memory().available / 2**20)]
        for index, (used, total) in enumerate(_used_mib()):
            more = used - before[index][0]
            if more > 0:  # workers are spread over all GPUs
                most.append(fit(more, total - used) * len(before))
    console.print(f"{min(most)} workers of {model.name} fit here")
    return min(most)


def _used_mib() -> list[tuple[float, float]]:
    """Used and total MiB of each GPU."""
    return [
        (float(gpu["memory.used"].split()[0]), float(gpu["memory.total"].split()[0])) for gpu in gpu_state()
    ]


def _variant(mar: Path, store: Path, name: str, values: dict[str, int]) -> None:
    """Write the same archive under another name, with one worker and other values in its configuration."""
    store.mkdir(exist_ok=True)
    own = {"minWorkers": 1, "maxWorkers": 1, **values}
    with zipfile.ZipFile(mar) as source, zipfile.ZipFile(store / f"{name}.mar", "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename == CONFIG_FILE:
                content = yaml.safe_dump({**yaml.safe_load(content), **own}).encode()
            elif entry.filename == _MAR_MANIFEST:
                manifest = json.loads(content)
                manifest["model"]["modelName"] = name
                content = json.dumps(manifest).encode()
            target.writestr(entry, content)
    write_checksum(store / f"{name}.mar")


if __name__ == "__main__":
    main()
