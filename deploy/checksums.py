"""An archive is code that the server runs: the served bytes must be those that were built.

`make archive` writes ``<name>.mar.sha256`` next to each archive, in the format of ``sha256sum -c``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from .preflight import DeployError

_LINE = re.compile(r"(?P<digest>[0-9a-f]{64}) [ *](?P<name>.+)")


def checksum_file(archive: Path) -> Path:
    """The path of an archive's checksum."""
    return archive.with_name(f"{archive.name}.sha256")


def check_archives(archives: Sequence[Path]) -> None:
    """Check that every archive has its checksum.

    An archive without a checksum is refused too: an attacker who can replace the archive can remove the file.

    Raises:
        DeployError: an archive has changed since it was built, or has no checksum.
    """
    for archive in archives:
        path = checksum_file(archive)
        make = f"(cd {archive.parent} && sha256sum {archive.name} > {path.name})"
        try:
            line = path.read_text(encoding="utf-8").strip()
        except FileNotFoundError as error:
            raise DeployError(
                f"{archive} has no checksum", f"if you trust the archive, make it: {make}"
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            raise DeployError(f"{path} cannot be read ({error})", f"make it again: {make}") from error
        parts = _LINE.fullmatch(line)
        if parts is None or parts["name"] != archive.name:
            raise DeployError(f"{path} is not a line of sha256sum for {archive.name}", f"make it again: {make}")
        try:
            with archive.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DeployError(f"{archive} cannot be read ({error})", "build it again: make archive") from error
        if found != parts["digest"]:
            raise DeployError(
                f"{archive} is not what was built: its sha256 is {found}, {path.name} says {parts['digest']}",
                "build it again (make archive), and find out who changed it",
            )
