"""What a run is about, and where its files are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .files import write_text

_PLAN = "plan.json"
_FEWEST, _MOST = 8, 1000
"""Contents of a part: few names make small parts, so that all actors have some. A dead actor loses one."""
_PARTS = 2000
"""Parts that a run has before they grow."""
_GROUP = 200_000
"""Contents of a group, which one task holds in memory."""
_BITS = 48
"""Of a digest, that say where a content belongs."""


class Refused(Exception):
    """A run that cannot begin or go on, and why."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for; rows of two runs are comparable where it is the same."""

    archive: str
    """sha256 of the archive."""
    options: Mapping[str, Any]
    """Of each request."""

    def key(self, video: str) -> str:
        """What a result is kept under: sha256 of the video's digest, the archive's and the options."""
        asked = json.dumps([video, self.archive, self.options], sort_keys=True)
        return hashlib.sha256(asked.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Plan:
    """A run whose names are all listed."""

    folder: str
    """Of all its files, on every node."""
    archive_path: str
    asked: Asked
    inputs: tuple[str, ...]
    names: int
    """Names that were listed."""
    shards: int
    """Files that they are in."""
    parts: int
    groups: int

    @classmethod
    def of(
        cls, folder: Path, archive: Path, asked: Asked, inputs: tuple[str, ...], names: int, shards: int
    ) -> Plan:
        """The plan for so many names."""
        a_part = min(max(names // _PARTS, _FEWEST), _MOST)
        parts = -(-names // a_part)
        groups = min(-(-names // _GROUP), parts)
        return cls(str(folder), str(archive), asked, inputs, names, shards, parts, groups)

    def part_of(self, digest: str) -> int:
        """The part that a content belongs to.

        Args:
            digest: its sha256, in hexadecimal.
        """
        return int(digest[: _BITS // 4], 16) * self.parts >> _BITS

    def group_of(self, part: int) -> int:
        """The group that has a part."""
        return part * self.groups // self.parts

    def parts_in(self, group: int) -> range:
        """The parts of a group."""
        return range(-(-group * self.parts // self.groups), -(-(group + 1) * self.parts // self.groups))

    def shard(self, number: int) -> Path:
        """The file of a shard of names."""
        return names_folder(Path(self.folder)) / f"{number:05d}.arrow"

    def hashed(self, number: int) -> Path:
        """The file with the digests of a shard."""
        return self._work("hashed", number, "arrow")

    def grouped(self, number: int) -> Path:
        """The file of a group."""
        return self._work("grouped", number, "arrow")

    def part(self, number: int) -> Path:
        """The file with the results of a part."""
        return Path(self.folder) / f"part-{number:06d}.parquet"

    def save(self) -> None:
        """Write it, whole or not at all: with it a run has begun."""
        write_text(Path(self.folder) / "work" / _PLAN, json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, folder: Path) -> Plan | None:
        """The plan of a run that has begun; None where none has.

        Raises:
            Refused: it is that of another version.
        """
        try:
            text = (folder / "work" / _PLAN).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        try:
            values = json.loads(text)
            asked = Asked(**values.pop("asked"))
            return cls(**{**values, "asked": asked, "inputs": tuple(values["inputs"])})
        except (ValueError, TypeError, KeyError) as error:
            raise Refused(f"{folder} has the plan of another version: {error}") from error

    def _work(self, name: str, number: int, suffix: str) -> Path:
        return Path(self.folder) / "work" / name / f"{number:05d}.{suffix}"


def names_folder(folder: Path) -> Path:
    """Where a run's names are listed."""
    return folder / "work" / "names"
