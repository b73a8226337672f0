"""The archive whose network is kept: one of the user's, or one that is built from a model's name and kept."""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from actionrec.head import HEAD_FILE
from actionrec.manifest import CONFIG_FILE, LABELS_FILE, Manifest
from actionrec.model.host import fingerprint
from rich.console import Console

from .. import archive, artifacts, build, checksum, zoo
from ..errors import ArchiveError, ExportError
from .cache import cache_folder, key_of

ARCHIVE_SUFFIX = ".mar"
_SOURCES = ("export", "handler/actionrec", "motion")
"""Folders whose code decides what a build gives."""


@dataclass(frozen=True)
class Base:
    """An unpacked archive."""

    manifest: Manifest
    directory: Path
    """Where its artifacts are, with head and description."""
    device: str
    """Where it runs on this host: ``cpu`` or ``cuda``."""


def find(order: build.Order, console: Console) -> Path:
    """The base archive's file, built if need be.

    Args:
        order: `model` is a name, or the path of an archive; then nothing else of it counts.
        console: shows what is being built.

    Raises:
        ExportError: there is no such model or archive, or it cannot be built.
    """
    given = Path(order.model)
    if given.suffix == ARCHIVE_SUFFIX:
        if not given.is_file():
            raise ArchiveError(f"MODEL={order.model} does not exist", "ls model_store")
        if (order.runtime, order.precision, order.device) != (artifacts.AUTO,) * 3:
            raise ExportError(
                f"MODEL={order.model} is built already",
                "RUNTIME, PRECISION and DEVICE are for models that are named, not for archives.",
            )
        return given
    if order.model not in zoo.NAMES:
        raise ExportError(
            f"MODEL={order.model} is neither a model nor an archive",
            f"There are {', '.join(zoo.NAMES)}, and files such as model_store/my.mar.",
        )
    return _kept(order, console)


def unpack(path: Path, directory: Path) -> Manifest:
    """Take out of an archive what a model needs; none of its code.

    Raises:
        ArchiveError: it is no archive of this project, or an old one.
    """
    directory.mkdir(parents=True)
    try:
        with zipfile.ZipFile(path) as file:
            for name in (CONFIG_FILE, LABELS_FILE):
                _extract(file, name, directory)
            manifest = Manifest.load(directory)
            for name in (HEAD_FILE, *(artifact.file for artifact in manifest.artifacts)):
                _extract(file, name, directory)
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ArchiveError(
            f"{path} is no archive that can be learned on: {error}", "Build it with this version: make archive"
        ) from error
    return manifest


def host_device(manifest: Manifest) -> str:
    """Where an archive runs on this host: on a GPU where it is built for one and there is one."""
    for_gpu = any(artifact.device == "cuda" for artifact in manifest.artifacts)
    return "cuda" if for_gpu and torch.cuda.is_available() else "cpu"


def _extract(file: zipfile.ZipFile, name: str, directory: Path) -> None:
    with file.open(name) as source, (directory / Path(name).name).open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)


def _kept(order: build.Order, console: Console) -> Path:
    """The archive of a named model from the cache; built where it is not there."""
    device = order.device
    if device == artifacts.AUTO:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    values = {
        "model": order.model,
        "runtime": order.runtime,
        "precision": order.precision,
        "host": fingerprint(device),
        "sources": _sources(),
    }
    folder = cache_folder() / "archives" / key_of(values)[:16]
    path = folder / f"{order.model}{ARCHIVE_SUFFIX}"
    if not _is_whole(path):
        build.build(replace(order, device=device, store=folder), console)
    return path


def _is_whole(path: Path) -> bool:
    """Whether a kept archive is the one that was built. Its checksum is written last."""
    try:
        expected = checksum.read(path)
        return expected is not None and expected.sha256 == checksum.sha256_of(path)
    except (OSError, ExportError):
        return False


def _sources() -> str:
    """A digest of the code that builds archives."""
    root = archive.HANDLER_DIRECTORY.parent
    files = sorted(
        path for folder in _SOURCES for path in (root / folder).rglob("*") if path.suffix in (".py", ".pth")
    )
    return key_of({str(path.relative_to(root)): checksum.sha256_of(path) for path in files})
