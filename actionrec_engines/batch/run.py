"""The driver of a run: the steps one after the other, each by Ray Data, and the sum of what they did."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset

from ..archive import sha256_of
from . import listing, steps
from .compute import Compute, counts_of
from .plan import Asked, Plan, Refused

_BLOCKS, _BLOCKS_OF_AN_ACTOR = 2000, 8
"""Blocks of a step at most, or of each actor, so that none is idle while others have much. What is redone
after a crash is a block, but for what is there of it."""

Batch = dict[str, np.ndarray[Any, Any]]
Progress = Callable[[str, int, int], None]
"""Called with the step, the number of its parts that are done, and of those that there are."""


@dataclass(frozen=True, slots=True)
class Actors:
    """The processes that compute."""

    cpus: float = 1.0
    """Of each."""
    gpus: float = 0.0
    """Of each: 0.25 puts four on one GPU."""
    least: int = 1
    most: int | None = None
    """None: as many as the cluster has room for when the run begins."""

    def number(self) -> int:
        """How many there may be."""
        there = ray.cluster_resources()  # type: ignore[no-untyped-call]
        rooms = [there.get("CPU", 0.0) / self.cpus]
        if self.gpus:
            rooms.append(there.get("GPU", 0.0) / self.gpus)
        return max(self.least, self.most or int(min(rooms)))


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run has, in all: ``listed == repeated + files``, ``files == answered + failed``."""

    listed: int
    """Names that the inputs lead to."""
    repeated: int
    """Of these, further names of files that were named before."""
    files: int
    """Rows of the result."""
    contents: int
    """Different videos among them; each was computed once."""
    answered: int
    failed: int
    parts: int
    """Files of the result."""
    parts_before: int
    """Of these, files that were there when this process began."""
    seconds: float
    """That this process took."""


def planned(
    folder: Path, archive: Path, inputs: Sequence[str], options: dict[str, Any], *, resume: bool
) -> Plan:
    """The plan of a run: that of the folder, or a new one, for which the names are listed.

    Args:
        folder: of the result; every node sees it under this name, and the videos and the archive under theirs.
        archive: the model.
        inputs: folders, patterns in quotes, lists (a path a line) or files.
        options: of each request.
        resume: go on with a run that began with the same inputs, archive and options.

    Raises:
        Refused: the folder has another run, or the inputs no video.
        FileNotFoundError: an input or the archive is not there.
    """
    folder, archive, named = folder.absolute(), archive.absolute(), tuple(inputs)
    asked = Asked(sha256_of(archive), options)
    plan = Plan.load(folder)
    if plan is None:
        count, shards = listing.shards(folder, named)
        if not count:
            raise Refused(f"There is no video in {' '.join(named)}.")
        plan = Plan.of(folder, archive, asked, named, count, shards)
        plan.save()
    elif not resume:
        raise Refused(f"{folder} has a run already. Use --resume to go on with it, or another folder.")
    elif (plan.asked, plan.inputs) != (asked, named):
        raise Refused(f"{folder} has a run of {plan.inputs} with {plan.asked}, not of {named} with {asked}.")
    return plan


def run(plan: Plan, actors: Actors, progress: Progress = lambda *_: None) -> Summary:
    """Compute what is not there yet. Ray must be connected.

    Args:
        plan: of `planned`.
        actors: the processes that compute.
        progress: told how far each step is.

    Raises:
        ray.exceptions.RayError: a step failed for good; another run of the same plan goes on.
    """
    began = time.monotonic()
    DataContext.get_current().enable_progress_bars = False
    _each("hashing", plan.shards, lambda n: plan.hashed(n).exists(), partial(_hash, plan=plan), progress)
    _each("grouping", plan.groups, lambda n: plan.grouped(n).exists(), partial(_group, plan=plan), progress)
    done = _parts_in(Path(plan.folder), plan.parts)
    most = actors.number()

    def compute(numbers: Dataset) -> Dataset:
        return numbers.map_batches(
            Compute,
            batch_size=1,
            compute=ActorPoolStrategy(min_size=actors.least, max_size=most),
            num_cpus=actors.cpus,
            num_gpus=actors.gpus,
            fn_constructor_args=(plan, actors.cpus, actors.gpus > 0),
        )

    blocks = max(_BLOCKS, _BLOCKS_OF_AN_ACTOR * most)
    _each("computing", plan.parts, done.__getitem__, compute, progress, blocks)
    counts = {"files": 0, "contents": 0, "failed": 0}
    counted = _numbers(range(plan.parts)).map_batches(partial(_count, plan=plan), batch_size=None)
    for batch in counted.iter_batches(batch_size=None):
        for name in counts:
            counts[name] += int(batch[name].sum())
    _tidy(Path(plan.folder))
    return Summary(
        listed=plan.names,
        repeated=plan.names - counts["files"],
        answered=counts["files"] - counts["failed"],
        parts=plan.parts,
        parts_before=sum(done),
        seconds=time.monotonic() - began,
        **counts,
    )


def _each(
    step: str,
    count: int,
    is_done: Callable[[int], object],
    work: Callable[[Dataset], Dataset],
    progress: Progress,
    blocks: int = _BLOCKS,
) -> None:
    """Do what is not done of a step."""
    left = [number for number in range(count) if not is_done(number)]
    done = count - len(left)
    progress(step, done, count)
    if not left:
        return
    for batch in work(_numbers(left, blocks)).iter_batches(batch_size=None):
        done += len(batch["number"])
        progress(step, done, count)


def _numbers(numbers: Sequence[int], most: int = _BLOCKS) -> Dataset:
    """The numbers of what is to be done. They are the driver's own, so no lost node takes them along."""
    size = -(-len(numbers) // most)
    blocks = (numbers[first : first + size] for first in range(0, len(numbers), size))
    return ray.data.from_arrow([pa.table({"number": pa.array(block, pa.int64())}) for block in blocks])


def _hash(numbers: Dataset, plan: Plan) -> Dataset:
    return numbers.map_batches(partial(_stepped, steps.hash_shard, plan), batch_size=1)


def _group(numbers: Dataset, plan: Plan) -> Dataset:
    return numbers.map_batches(partial(_stepped, steps.group, plan), batch_size=1)


def _stepped(step: Callable[[Plan, int], None], plan: Plan, batch: Batch) -> Batch:
    for number in batch["number"].tolist():
        step(plan, number)
    return batch


def _count(batch: Batch, plan: Plan) -> Batch:
    counts = [counts_of(plan.part(number)) for number in batch["number"].tolist()]
    return {name: np.array([each[name] for each in counts]) for name in ("files", "contents", "failed")}


def _tidy(folder: Path) -> None:
    """Remove what processes that were killed left half. All that was to be written is there."""
    for place in (folder, folder / "work" / "hashed", folder / "work" / "grouped"):
        for left in place.glob(".*.partial"):
            left.unlink(missing_ok=True)


def _parts_in(folder: Path, count: int) -> bytearray:
    """Which parts are there: a 1 for each. They are seen by one look through the folder."""
    found = bytearray(count)
    for number in _numbers_in(entry.name for entry in os.scandir(folder)):
        if number < count:
            found[number] = 1
    return found


def _numbers_in(names: Iterable[str]) -> Iterator[int]:
    for name in names:
        if name.startswith("part-") and name.endswith(".parquet"):
            yield int(name.removeprefix("part-").removesuffix(".parquet"))
