"""``actionrec batch``: a folder, a pattern or a list of videos into one file of results."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from ..files import tables
from . import console, folder, job, work

Output = Annotated[
    Path, typer.Option("--output", "-o", help="results.jsonl, .csv or .parquet; with --ray a folder.")
]
Ray = Annotated[
    str | None,
    typer.Option(
        help="Address of a Ray cluster, which computes in the server's place; auto, local.",
        rich_help_panel="Cluster",
    ),
]
Archive = Annotated[
    Path | None,
    typer.Option(
        help="With --ray: the model, as `make archive` makes it.", dir_okay=False, rich_help_panel="Cluster"
    ),
]
_INSTALL = "slowfast-torchserve[serve,gateway,kserve,ray]"
_ENGINE = "actionrec_engines.batch.__main__"
"""Imported by its name where it is asked for: the client needs nothing of what an engine needs."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    console.add(
        app,
        batch,
        "actionrec batch videos/ -o results.csv",
        "actionrec batch 'videos/**/*.mp4' -o results.parquet --resume",
        "actionrec batch names.txt -o results --ray auto --archive motion.mar",
    )


def batch(
    inputs: folder.Inputs,
    output: Output,
    resume: folder.Resume = False,
    top_k: console.TopK = None,
    start: console.Start = None,
    end: console.End = None,
    views: console.Views = None,
    crops: console.CropsOption = None,
    as_json: console.AsJson = False,
    url: console.Url = console.DEFAULT_URL,
    model: console.Model = None,
    token: console.Token = None,
    management_url: console.ManagementUrl = None,
    insecure_token: console.InsecureToken = False,
    timeout: console.Timeout = None,
    in_flight: console.InFlight = None,
    ray: Ray = None,
    archive: Archive = None,
) -> None:
    """Name the action in each of many videos.

    One line for each file, with "predictions" or "error", on the disk as soon as it is there. For .csv and
    .parquet the lines go to OUTPUT.jsonl first and are converted at the end. A server that goes away ends
    the run (exit code 3); --resume goes on. A file that is too large for a request becomes a job, where the
    server is a gateway. With --ray a cluster computes, without a server, and OUTPUT is a folder of Parquet.
    """
    options = console.selected(top_k, start, end, views, crops)
    if ray is not None:
        _on_a_cluster(ray, inputs, archive, output, console.given(options), resume=resume, as_json=as_json)
        return
    if output.is_dir():
        console.fail(f"{output} is a folder.", "Without --ray the results are a file.")
    folder.check_kind(output, tables.WRITERS)
    client = console.connect(url, model, token, management_url, timeout, insecure_token)
    has_jobs = cache(client.has_jobs)  # asked when the first large file comes

    def ask(one: work.SentFile) -> Mapping[str, object]:
        if job.is_large(one.path) and has_jobs():
            return job.result_of(client.submit(one.path, **options), quiet=True).to_dict()
        return client.classify(one.path, **options).to_dict()

    folder.run(
        inputs,
        output,
        tables.WRITERS,
        {"model": client.model, **console.given(options)},
        ask,
        console.requests_at_a_time(in_flight, options),
        resume=resume,
        as_json=as_json,
    )


def _on_a_cluster(
    ray: str,
    inputs: list[str],
    archive: Path | None,
    output: Path,
    options: Mapping[str, object],
    *,
    resume: bool,
    as_json: bool,
) -> None:
    """Let the engine for clusters, if it is installed, do it."""
    if archive is None:
        console.fail("A cluster needs the model.", "Name its archive: --archive motion.mar.")
    try:
        engine = import_module(_ENGINE)
    except ModuleNotFoundError:
        console.fail("This Python has no Ray.", f"Install it: pip install '{_INSTALL}'")
    engine.compute(ray, inputs, archive, output, dict(options), resume=resume, as_json=as_json)
