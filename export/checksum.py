"""SHA-256 files in the format of ``sha256sum -c``, and the checksums that weights must have.

Nobody publishes checksums of the weights. So the first build that can use them records their checksum, and a
later build accepts no others: neither from a mirror or server, nor from a cache, that has changed.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from .errors import WeightsChangedError, WeightsError


@dataclass(frozen=True)
class Expected:
    """A checksum that a file must have, and where it comes from."""

    sha256: str
    """64 hex digits."""
    seen: Path | None = None
    """The file that an earlier build wrote it to; None: the user gave it (WEIGHTS_SHA256)."""

    def check(self, digest: str, what: str, *, thrown_away: bool = False) -> None:
        """Compare a checksum with it.

        Args:
            digest: the file's checksum, 64 hex digits.
            what: the file, or where it came from.
            thrown_away: whether the file was deleted already; changes the message.

        Raises:
            WeightsError: the user expects another one.
            WeightsChangedError: an earlier build saw another one.
        """
        if digest == self.sha256:
            return
        gone = "; the download was thrown away" if thrown_away else ""
        if self.seen is None:
            raise WeightsError(
                f"{what} has sha256 {digest}, but WEIGHTS_SHA256 is {self.sha256}{gone}",
                "Check the number against its source; if it is right, the file on the server is not yours."
                if thrown_away
                else "Check the number; if the file is the wrong one, delete it and run this again.",
            )
        raise WeightsChangedError(
            f"{what} has sha256 {digest}, but an earlier build saw {self.sha256} ({self.seen}){gone}",
            f"Where you know that they were published anew, accept them: WEIGHTS_SHA256={digest}. "
            + (
                "Else do not trust that server." if thrown_away else f"Else somebody changed {what}: delete it."
            ),
        )


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_of(path: Path) -> Path:
    """The path of a file's checksum: ``<file>.sha256`` beside it."""
    return path.with_name(f"{path.name}.sha256")


def write(path: Path, digest: str) -> Path:
    """Write a file's checksum beside it, completely or not at all; returns the path.

    Raises:
        OSError: the folder is not writable.
    """
    target = file_of(path)
    new = target.with_name(f"{target.name}.{os.getpid()}.new")
    try:
        new.write_text(f"{digest}  {path.name}\n", encoding="ascii")
        new.replace(target)
    finally:
        new.unlink(missing_ok=True)
    return target


def read(path: Path) -> Expected | None:
    """The checksum that an earlier build recorded for a file; None: there is none.

    Raises:
        WeightsError: the checksum file cannot be read, or holds no checksum.
    """
    seen = file_of(path)
    try:
        text = seen.read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise WeightsError(
            f"cannot read {seen}: {error.strerror or error}", "Check who may read it."
        ) from error
    digest = re.match(r"([0-9a-f]{64})\s", text)
    if not digest:
        raise WeightsError(
            f"{seen} holds no SHA-256, so nobody knows what the weights were",
            f"Give WEIGHTS_SHA256, or delete it: the next build then trusts what is in {path.name}.",
        )
    return Expected(digest[1], seen)
