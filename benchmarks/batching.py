"""The best batch size and delay: one archive with several settings, each behind its own worker, under load.

One server has them all, and they take turns, so that only the setting differs. The result is in
`export.archive.SERVING`. On a GPU: ``--model slowfast_r50 --clients 1 8 32``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import yaml
from actionrec.manifest import CONFIG_FILE

from benchmarks.archives import R50, archive
from benchmarks.load import Subject, raw, round_robin, torchserve
from benchmarks.measure import report
from benchmarks.videos import video
from export.archive import write_checksum

_MAR_MANIFEST = "MAR-INF/MANIFEST.json"


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
        store = Path(folder) / "store"
        mar = archive(options.model, Path(folder))
        settings = [
            (f"{options.model}_{size}_{delay}", {"batchSize": size, "maxBatchDelay": delay})
            # A batch of one clip never waits for another.
            for size, delay in itertools.product(options.sizes, options.delays)
            if size > 1 or delay == options.delays[0]
        ]
        for name, values in settings:
            _variant(mar, store, name, values)
        rows: list[dict[str, Any]] = []
        with torchserve(store) as state:
            subjects = [Subject(name, raw(state.predict_url(name))) for name, _ in settings]
            for clients in options.clients:
                rows += round_robin(subjects, data, clients, max(options.count, clients))
    titles = {name: f"up to {v['batchSize']}, {v['maxBatchDelay']} ms" for name, v in settings}
    for row in rows:
        row["what"] = titles[row["what"]]
    report(f"batching_{options.model}", f"{options.model}: batch size and delay", rows)


def _variant(mar: Path, store: Path, name: str, values: dict[str, int]) -> None:
    """Write the same archive under another name, with other values in its configuration."""
    store.mkdir(exist_ok=True)
    with zipfile.ZipFile(mar) as source, zipfile.ZipFile(store / f"{name}.mar", "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename == CONFIG_FILE:
                content = yaml.safe_dump({**yaml.safe_load(content), **values}).encode()
            elif entry.filename == _MAR_MANIFEST:
                manifest = json.loads(content)
                manifest["model"]["modelName"] = name
                content = json.dumps(manifest).encode()
            target.writestr(entry, content)
    write_checksum(store / f"{name}.mar")


if __name__ == "__main__":
    main()
