"""What the nodes do between the listing and the results. Each step may be done any number of times."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from actionrec_client.errors import Refused
from actionrec_client.video import check_size, size_of, unreadable

from ..archive import sha256_of
from .files import GROUPED, HASHED, Row, read, read_all, write
from .plan import Plan

_UNREAD = b"unread\0"
"""Before the place of a file that cannot be read, in the digest that stands for its content."""


def hash_shard(plan: Plan, number: int) -> None:
    """Write the digests of a shard's files, a batch for each group."""
    if plan.hashed(number).exists():
        return
    groups: list[list[Row]] = [[] for _ in range(plan.groups)]
    for row in read_all(plan.shard(number)):
        hashed = _hashed(row)
        groups[plan.group_of(plan.part_of(content_of(hashed)))].append(hashed)
    write(plan.hashed(number), HASHED, groups)


def group(plan: Plan, number: int) -> None:
    """Write the contents of a group, each once with all its names, a batch for each part.

    A file that was named twice, which has one place, has one name.
    """
    if plan.grouped(number).exists():
        return
    contents: dict[str, Row] = {}
    places: set[bytes] = set()
    for shard in range(plan.shards):
        for row in read(plan.hashed(shard), number):
            if row["place"] in places:
                continue
            places.add(row["place"])
            new = {"paths": [], "sha256": row["sha256"], "error": row["error"]}
            contents.setdefault(content_of(row), new)["paths"].append(row["path"])
    parts: dict[int, list[Row]] = {part: [] for part in plan.parts_in(number)}
    for content in sorted(contents):
        parts[plan.part_of(content)].append(contents[content])
    write(plan.grouped(number), GROUPED, parts.values())


def content_of(row: Row) -> str:
    """What decides where a content belongs: its sha256, or for a file that cannot be read, one of its place."""
    return str(row["sha256"]) if row["sha256"] else hashlib.sha256(_UNREAD + row["place"]).hexdigest()


def path_of(raw: bytes) -> Path:
    """A name as a path."""
    return Path(os.fsdecode(raw))


def _hashed(row: Row) -> Row:
    path = path_of(row["path"])
    try:
        check_size(size_of(path))
        return {**row, "sha256": sha256_of(path), "error": None}
    except Refused as error:
        refused = error
    except OSError as error:
        refused = unreadable(path, error)
    return {**row, "sha256": None, "error": json.dumps(refused.to_dict())}
