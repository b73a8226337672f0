"""``actionrec similar``: which videos are like this one?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ..errors import BadReply
from ..files.find import name_of
from ..files.nearest import Neighbour, VectorsError, nearest
from ..files.subtitles import clock
from . import console
from .console import out

Clip = Annotated[Path, typer.Argument(metavar="CLIP", help="A video file.")]
To = Annotated[
    Path,
    typer.Option(
        "--to", help="vectors.parquet or .npy, as `actionrec embed` writes.", exists=True, dir_okay=False
    ),
]
Count = Annotated[int, typer.Option("--count", "-n", min=1, help="How many videos to name.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    console.add(app, similar, "actionrec similar clip.mp4 --to vectors.parquet -n 10")


def similar(
    clip: Clip,
    to: To,
    count: Count = 10,
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
) -> None:
    """Name the videos of a table that are most like a clip: nearest by cosine, 1 is the same.

    Of a video with several windows the nearest one is named.
    """
    client = console.connect(url, model, token, management_url, timeout, insecure_token)
    options = console.selected(1, start, end, views, crops)
    options["embedding"] = "base64"
    found = client.classify(clip, **options)
    vector = found.embedding
    if vector is None:
        raise BadReply("BAD_REPLY", 200, "The reply has no embedding.", "Is the server of an older version?")
    try:
        neighbours = nearest(to, vector, found.model.weights, count)
    except VectorsError as error:
        console.fail(str(error))
    if as_json:
        rows = [neighbour.to_dict() for neighbour in neighbours]
        console.print_json({"file": name_of(clip), "to": str(to), "neighbours": rows})
    else:
        out.print(_table(neighbours))
    console.remark(name_of(clip), found)


def _table(neighbours: list[Neighbour]) -> Table:
    table = Table("file", "from", "to", "label", "similarity", "", box=None, pad_edge=False)
    for one in neighbours:
        table.add_row(
            escape(one.file),
            clock(one.start_seconds),
            clock(one.end_seconds),
            escape(one.label),
            f"{one.similarity:.3f}",
            console.bar(max(0.0, one.similarity)),
        )
    for number in (1, 2, 4):
        table.columns[number].justify = "right"
    return table
