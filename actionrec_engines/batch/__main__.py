"""``python -m actionrec_engines.batch``: videos of folders and lists on a cluster into Parquet."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import ray
import typer
from ray.exceptions import RayError
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from actionrec_client.commands import console, folder

from .plan import Plan, Refused
from .run import Actors, Summary, planned, run


def batch(
    inputs: folder.Inputs,
    archive: Annotated[
        Path, typer.Option(help="As `make archive` makes it; every node sees it.", dir_okay=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the result.", file_okay=False)],
    address: Annotated[str, typer.Option("--ray", help="Of the cluster; local: one of this process.")] = "auto",
    resume: folder.Resume = False,
    top_k: console.TopK = None,
    start: console.Start = None,
    end: console.End = None,
    views: console.Views = None,
    crops: console.CropsOption = None,
    stride: Annotated[float | None, typer.Option(help="A timeline's: seconds between windows.")] = None,
    embedding: Annotated[bool, typer.Option("--embedding", help="Each video's embedding, too.")] = False,
    cpus: Annotated[float, typer.Option(min=0.01, help="Of each actor.")] = 1.0,
    gpus: Annotated[float, typer.Option(min=0.0, help="Of each actor: 0.25 puts four on a GPU.")] = 0.0,
    least: Annotated[int, typer.Option("--min-actors", min=1)] = 1,
    most: Annotated[int | None, typer.Option("--max-actors", help="Default: what there is room for.")] = None,
    as_json: console.AsJson = False,
) -> None:
    """Name the action in each of very many videos, by a Ray cluster.

    Equal videos are computed once and listed under each name. The result is a folder of Parquet files, each of
    which is there whole or not at all. --resume goes on after a stop or a kill.
    """
    options = console.given(console.selected(top_k, start, end, views, crops))
    options |= {"stride_seconds": stride} if stride else {}
    options |= {"embedding": "json"} if embedding else {}
    actors = Actors(cpus, gpus, least, most)
    compute(address, inputs, archive, output, options, resume=resume, as_json=as_json, actors=actors)


def compute(
    address: str,
    inputs: Sequence[str],
    archive: Path,
    output: Path,
    options: dict[str, object],
    *,
    resume: bool,
    as_json: bool,
    actors: Actors | None = None,
) -> None:
    """Compute a batch and say what came of it: what `batch` and ``actionrec batch --ray`` are.

    Raises:
        typer.Exit: videos failed, or there is no result.
    """
    try:
        # Ray says on standard output what befalls its nodes; that is the summary's.
        with redirect_stdout(sys.stderr):
            plan = planned(output, archive, inputs, options, resume=resume)
            found = _computed(plan, address, actors or Actors())
    except FileNotFoundError as error:
        console.fail(f"{error.filename or error} is not there.", "Patterns go in quotes: 'videos/**/*.mp4'.")
    except Refused as error:
        console.fail(str(error))
    except (RayError, ConnectionError) as error:
        hint = "The same command with --resume goes on."
        console.fail(f"The cluster stopped: {error}", hint, console.NOT_READY)
    _tell(found, output, as_json)
    if found.failed:
        raise typer.Exit(console.FAILED)


def _computed(plan: Plan, address: str, actors: Actors) -> Summary:
    """Run a plan on a cluster, with a bar."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    ray.init(address, log_to_driver=False, include_dashboard=False if address == "local" else None)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    try:
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console.err) as bars:
            bar = bars.add_task("")
            step = ""

            def show(name: str, done: int, total: int) -> None:
                nonlocal step
                if name != step:
                    bars.reset(bar, description=name)
                    step = name
                bars.update(bar, completed=done, total=total)

            return run(plan, actors, show)
    finally:
        ray.shutdown()


def _tell(found: Summary, output: Path, as_json: bool) -> None:
    if as_json:
        console.print_json(asdict(found))
        return
    rate = (found.parts - found.parts_before) / found.parts * found.contents / found.seconds
    console.out.print(
        f"{found.listed:,} names: {found.repeated:,} of files that were named before, {found.files:,} files.\n"
        f"{found.files:,} files: {found.answered:,} answered, {found.failed:,} failed; "
        f"{found.contents:,} different ones, each computed once.\n"
        f"{found.parts:,} parts ({found.parts_before:,} were there before) in {output}; {rate:.1f} videos/s."
    )


if __name__ == "__main__":
    typer.run(batch)
