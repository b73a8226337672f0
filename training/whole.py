"""Files that are written whole or not at all: what a killed process leaves is the old one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to, which takes the place of `path` at the end; an error leaves `path` as it is.

    Raises:
        OSError: the disk is full, or the folder cannot be written to.
    """
    unfinished = path.with_name(f"{path.name}.part")  # the next process writes over what a killed one left
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors and plain values, as `torch.load(path, weights_only=True)` reads them."""
    with whole(path) as file:
        torch.save(state, file)
