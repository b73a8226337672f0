"""An archive (.mar) as an engine without TorchServe needs it: unpacked, and with what it says of serving."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from actionrec.manifest import CONFIG_FILE, Manifest
from actionrec.service import Service

_SHARE_OF_TIMEOUT = 0.9  # of ``responseTimeout``, as in TorchServe's handler
_ROWS, _WAITING = 8, 64
"""Where the archive leaves it to the host, as those for GPUs do."""


@dataclass(frozen=True, slots=True)
class Archive:
    """An unpacked archive."""

    directory: Path
    digest: str
    """sha256 of the file, in hexadecimal."""
    manifest: Manifest
    rows: int
    """The most requests of one call (``batchSize``)."""
    waiting: int
    """Requests that may wait for their turn (``jobQueueSize``)."""
    answer_seconds: float | None
    """Seconds that a call may take; None: any."""
    handler: dict[str, Any]
    """How videos are decoded: ``sandbox``, ``decode``."""

    @classmethod
    def open(cls, path: Path, cache: Path | None = None) -> Archive:
        """Unpack an archive, once for each content, and read what it says of serving.

        Args:
            path: the file.
            cache: folder of unpacked archives; default: ``actionrec`` in the user's folder of caches.

        Raises:
            FileNotFoundError, ValueError: it is not there, or no archive of this project.
        """
        directory, digest = _unpacked(path, cache or _cache())
        config = yaml.safe_load((directory / CONFIG_FILE).read_text(encoding="utf-8"))
        timeout = config.get("responseTimeout")
        return cls(
            directory,
            digest,
            Manifest.load(directory),
            rows=config.get("batchSize", _ROWS),
            waiting=config.get("jobQueueSize", _WAITING),
            answer_seconds=timeout and timeout * _SHARE_OF_TIMEOUT,
            handler=dict(config.get("handler") or {}),
        )

    def load(self, device: str = "cpu", rows: int | None = None) -> Service:
        """The model, loaded and warm, in a process that does nothing else; see `Service.load`.

        Args:
            device: ``cpu``, ``cuda:0``.
            rows: the most requests of one call; default: the archive's.

        Raises:
            ValueError, RuntimeError: it does not fit this host.
        """
        return Service.load(
            self.directory, device, rows=rows or self.rows, answer_seconds=self.answer_seconds, **self.handler
        )


def sha256_of(path: Path) -> str:
    """Of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "actionrec"


def _unpacked(path: Path, cache: Path) -> tuple[Path, str]:
    """The folder with an archive's files, and the archive's digest. Two processes at once do no harm."""
    digest = sha256_of(path)
    directory = cache / digest
    if not directory.is_dir():
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=cache, prefix=".partial-"))
        try:
            with zipfile.ZipFile(path) as files:
                files.extractall(partial)
            if not (partial / CONFIG_FILE).is_file():
                raise ValueError(f"{path} has no {CONFIG_FILE}: it is no archive of `make archive`")
            partial.rename(directory)
        except zipfile.BadZipFile as error:
            raise ValueError(f"{path} is no archive: {error}") from error
        except OSError:
            if not directory.is_dir():  # and not by another process, meanwhile
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return directory, digest
