"""What an archive says about how it is served, and what it leaves to the host."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .preflight import DeployError
from .sizing import FROM_HOST, Sizing


@dataclass(frozen=True)
class Served:
    """An archive as TorchServe will register it."""

    name: str
    version: str
    says: dict[str, Any]
    """Its own keys for TorchServe, of those that an archive may leave open."""
    own: bool
    """Whether it is one of this project's. Others are left as they are."""

    @property
    def left_open(self) -> tuple[str, ...]:
        """The keys that the host decides."""
        return tuple(key for key in FROM_HOST if key not in self.says) if self.own else ()


def read(path: Path) -> Served:
    """What an archive says of itself.

    Raises:
        DeployError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            packed = json.loads(archive.read("MAR-INF/MANIFEST.json"))["model"]
            file = packed.get("configFile")
            config = yaml.safe_load(archive.read(file)) if file else {}
        config = config if isinstance(config, dict) else {}
        version = str(packed.get("modelVersion", "1.0"))
    except (OSError, zipfile.BadZipFile, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise DeployError(f"{path} cannot be read ({error})", "build it again: make archive") from error
    says = {key: config[key] for key in FROM_HOST if key in config}
    return Served(path.stem, version, says, own="actionrec" in config)


def check_batch(archives: Iterable[Served], batch: int) -> None:
    """Check that a batch size that somebody has chosen reaches these archives.

    Raises:
        DeployError: one of them has its own.
    """
    for archive in archives:
        if "batchSize" in archive.left_open:
            continue
        own = f"batchSize {archive.says['batchSize']}" if "batchSize" in archive.says else "its own"
        raise DeployError(
            f"BATCH={batch} does not reach {archive.name}.mar, which has {own}",
            "leave BATCH out, or build the archive for a GPU: then its batch is the server's to choose",
        )


def properties(archives: Iterable[Served], sizing: Sizing) -> dict[str, str]:
    """Lines of ``config.properties`` with what the archives leave open; none where they leave nothing open.

    TorchServe takes a number from the archive where that has one, then from ``models``, then its default. The
    queue's length is no part of ``models``: there it is one number for all archives without their own.
    """
    keys = sizing.keys()
    models = {
        archive.name: {archive.version: {key: keys[key] for key in archive.left_open if key != "jobQueueSize"}}
        for archive in archives
        if archive.left_open
    }
    return {"models": json.dumps(models), "job_queue_size": str(sizing.queue)} if models else {}
