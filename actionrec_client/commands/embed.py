"""``actionrec embed``: a folder of videos as vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from actionrec.explanation import to_base64
from actionrec.limits import DEFAULT_LIMITS

from ..errors import BadReply
from ..files import vectors
from ..floats import Floats
from ..results import Result, Window
from . import console, folder, work

Output = Annotated[
    Path, typer.Option("--output", "-o", help="vectors.parquet or .npy (or .jsonl).", dir_okay=False)
]
Stride = Annotated[
    float | None,
    typer.Option(
        min=DEFAULT_LIMITS.stride_seconds,
        help="A vector for each window, one every so many seconds; default: one for each video.",
        rich_help_panel="What to look at",
    ),
]

_TIMELINES_AT_A_TIME = 2
"""Each may ask for as many windows as a request may have."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    console.add(
        app,
        embed,
        "actionrec embed videos/ -o vectors.parquet",
        "actionrec embed videos/ -o vectors.npy --stride 1 --resume",
    )


def embed(
    inputs: folder.Inputs,
    output: Output,
    resume: folder.Resume = False,
    stride: Stride = None,
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
) -> None:
    """Turn each of many videos into a vector: what the model's last layer gets, float32.

    A row has the file, the span, the best label and the vector. With --views or --crops it is their mean,
    with --stride there is a row for each window. A .npy has the vectors alone; OUTPUT.csv beside it says which
    is whose. It goes on with --resume as batch does.
    """
    folder.check_kind(output, vectors.WRITERS)
    if stride is not None and views is not None:
        console.fail("--stride and --views exclude each other.", "A vector for each window, or one for all?")
    options = console.selected(1, start, end, views, crops)
    options["embedding"] = "base64"
    client = console.connect(url, model, token, management_url, timeout, insecure_token)

    def clip(job: work.SentFile) -> Mapping[str, object]:
        found = client.classify(job.path, **options)
        span = Window(found.clip.start_seconds, found.clip.end_seconds, found.predictions)
        return _record(found, [span], [] if found.embedding is None else [found.embedding])

    def windows(job: work.SentFile) -> Mapping[str, object]:
        found = client.timeline(
            job.path,
            stride_seconds=stride or 0.0,
            start_seconds=start or 0.0,
            end_seconds=end,
            crops=console.as_crops(crops) or 1,
            top_k=1,
            embedding="base64",
        )
        answered = [window for window in found.windows if window.predictions]
        return _record(found, answered, found.embeddings.vectors)

    folder.run(
        inputs,
        output,
        vectors.WRITERS,
        {"model": client.model, "stride_seconds": stride, **console.given(options)},
        clip if stride is None else windows,
        console.requests_at_a_time(in_flight, options) if stride is None else in_flight or _TIMELINES_AT_A_TIME,
        resume=resume,
        as_json=as_json,
    )


def _record(
    found: Result, windows: Sequence[Window], vectors_of: Sequence[Floats] | Floats
) -> dict[str, object]:
    """What the journal has of an answered video.

    Args:
        found: the answer.
        windows: with at least one label each.
        vectors_of: float32 [features] of each.
    """
    if len(vectors_of) != len(windows):
        hint = "Is the server of an older version of this project?"
        raise BadReply("BAD_REPLY", 200, "The reply lacks an embedding.", hint)
    rows = [
        {
            "start_seconds": window.start_seconds,
            "end_seconds": window.end_seconds,
            "label": window.predictions[0].label,
            "score": window.predictions[0].score,
            "embedding": to_base64(vector),
        }
        for window, vector in zip(windows, vectors_of, strict=True)
    ]
    return {"weights": found.model.weights, "windows": rows}
