"""Files that are there whole or as they were, whatever happens meanwhile."""

from __future__ import annotations

import os
from pathlib import Path


def write(path: Path, text: str) -> None:
    """Write a text file. A reader sees the old text or the new one, also after the machine has failed.

    Raises:
        OSError: the disk is full, say.
    """
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
