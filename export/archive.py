"""The archive: one file with everything that a prediction needs, and none of this repository's tools.

<name>.mar
  slowfast_handler.py    the one class that TorchServe calls
  torchserve_queue.py    asks TorchServe for its queue
  torchserve_metrics.py  tells its metrics of the sandbox
  actionrec/             the core under it
  model.pt, model.pt2    the exported network without its head, one file per artifact
  head.npz               the head: pools and the last linear layer
  model-config.yaml      TorchServe's settings, and the model's description (actionrec.manifest)
  labels.txt
  MAR-INF/MANIFEST.json  written by torch-model-archiver
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from actionrec.head import HEAD_FILE
from actionrec.manifest import Manifest

from deploy.sizing import FROM_HOST, ON_CPU

from . import checksum, reproducible
from .errors import ArchiveError, ExportError

HANDLER_DIRECTORY = Path(__file__).resolve().parent.parent / "handler"
HANDLER_FILE = "slowfast_handler.py"

SERVING: dict[str, Any] = {
    # Workers, batch and queue.
    **ON_CPU.keys(),
    # Milliseconds. Requests that wait already are taken at once. Waiting for more gained nothing, and every
    # single request would pay for it (same benchmark).
    "maxBatchDelay": 1,
    # Seconds, after which TorchServe kills the worker. A request of 64 views (actionrec.limits) fits in at 1.7
    # s a view; a SlowFast R50 takes 0.9 s on two AVX2 cores. After nine tenths of it the handler answers with
    # an error, and the worker lives on. Proxies, drains and clients rely on this number.
    "responseTimeout": 120,
    # Seconds for importing torch and loading the model, on a slow disk.
    "startupTimeout": 300,
}
"""TorchServe's own keys in ``model-config.yaml``; see `serving`."""

CREATED_FORMAT = "%Y-%m-%dT%H:%M:%SZ"

PACKAGES = ("torch", "torchvision", "pytorchvideo", "av", "numpy", "torch-model-archiver")


def check_name(kind: str, value: str) -> None:
    """Check that a model's name or version is safe in a URL and a file name.

    Raises:
        ExportError: it is not.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", value):
        raise ExportError(
            f"{kind}={value!r} cannot be part of an address",
            "Use letters, digits, '_', '.' and '-', with a letter or digit first.",
        )


def built_with() -> dict[str, str]:
    """Versions and host of this build, and its time: SOURCE_DATE_EPOCH where that is set.

    Raises:
        ExportError: SOURCE_DATE_EPOCH is not a time.
    """
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "platform": platform.platform(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "created": reproducible.build_time().strftime(CREATED_FORMAT),
    }


@contextmanager
def workspace(store: Path) -> Iterator[Path]:
    """A temporary folder to build in; inside the store, so that the last step is one rename.

    Raises:
        ArchiveError: the store is not writable, or is full.
    """
    try:
        store.mkdir(parents=True, exist_ok=True)
        # A leading dot: TorchServe ignores hidden entries of its store.
        with tempfile.TemporaryDirectory(prefix=".build-", dir=store) as directory:
            yield Path(directory).resolve()
    except OSError as error:
        raise ArchiveError(
            f"cannot write to {store}: {error.strerror or error}",
            "Free some space there, or name another folder: --store.",
        ) from error


def check_store(store: Path) -> None:
    """Check that an archive can be built there.

    Raises:
        ArchiveError: the store is not writable, or is full.
    """
    with workspace(store):
        pass


def check_parts() -> Path:
    """The path of the handler's file.

    Raises:
        ArchiveError: it is missing.
    """
    handler = HANDLER_DIRECTORY / HANDLER_FILE
    if not handler.is_file():
        raise ArchiveError(
            f"{handler} is missing", "It comes with this repository, as all that an archive runs."
        )
    return handler


def write(
    manifest: Manifest, directory: Path, store: Path, *, sandbox: bool | str = True, decode: str = "cpu"
) -> Path:
    """Pack an archive and put it into the store in one step, with its checksum beside it.

    Args:
        manifest: the archive's description of itself; its `built_with` has the time of the build.
        directory: the folder with the exported artifacts, which are moved out of it; see `workspace`.
        store: folder for the archive.
        sandbox: the value of ``handler.sandbox``: whether clips are decoded in child processes; ``require``:
            only with all required defences.
        decode: the value of ``handler.decode``: ``cpu``, or ``gpu`` for what a GPU can decode.

    Returns:
        The path of the archive; ``<name>.mar.sha256`` is next to it.

    Raises:
        ArchiveError: a part is missing or torch-model-archiver fails.
    """
    handler = check_parts()
    extra = directory / "extra"
    for source in sorted(HANDLER_DIRECTORY.rglob("*.py")):
        if source == handler:
            continue
        copy = extra / source.relative_to(HANDLER_DIRECTORY)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
    for file in (HEAD_FILE, *(artifact.file for artifact in manifest.artifacts)):
        (directory / file).rename(extra / file)
    # The archiver puts the labels in the archive's root. It gets the configuration's name too, for TorchServe.
    config = manifest.write(extra, {**serving(manifest), "handler": {"sandbox": sandbox, "decode": decode}})
    _run_archiver(manifest, handler, extra, config, directory)

    built = directory / f"{manifest.name}.mar"
    shutil.rmtree(extra)  # never more than two copies of the model on the disk
    made = datetime.strptime(manifest.built_with["created"], CREATED_FORMAT).replace(tzinfo=UTC)
    reproducible.repack(built, made)
    digest = write_checksum(built)
    built.replace(store / built.name)
    digest.replace(store / digest.name)
    return store / built.name


def serving(manifest: Manifest) -> dict[str, Any]:
    """TorchServe's keys for an archive. One for a GPU leaves open what suits one host and not another.

    `deploy` fills them in at each start. A plain ``torchserve`` has defaults: batches of one, and a worker for
    each GPU or as many as ``default_workers_per_model`` says.
    """
    for_gpu = any(artifact.device == "cuda" for artifact in manifest.artifacts)
    return {key: value for key, value in SERVING.items() if not (for_gpu and key in FROM_HOST)}


def write_checksum(archive: Path) -> Path:
    """Write ``<archive>.sha256`` next to an archive, in the format of ``sha256sum -c``; returns its path."""
    return checksum.write(archive, checksum.sha256_of(archive))


def _run_archiver(manifest: Manifest, handler: Path, extra: Path, config: Path, directory: Path) -> None:
    """Run torch-model-archiver in its own temporary folder, since it deletes $TMPDIR/<name>."""
    temporary = directory / "tmp"
    temporary.mkdir()
    command = [
        *(sys.executable, "-m", "model_archiver.model_packaging"),
        *("--model-name", manifest.name),
        *("--version", manifest.version),
        *("--handler", str(handler)),
        *("--extra-files", str(extra)),
        *("--config-file", str(config)),
        *("--export-path", str(directory)),
        # Weights hardly compress; deflating them takes longer than the rest of the archive.
        *("--archive-format", "zip-store"),
    ]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        said = next((line for line in lines if "ERROR" in line), lines[-1])
        raise ArchiveError(
            f"torch-model-archiver failed: {said}", "Is there space for two copies of the model?"
        )
