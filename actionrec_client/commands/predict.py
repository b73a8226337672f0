"""``actionrec predict``: what is done in these clips?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import ServerError
from ..files.find import name_of
from ..results import Result
from . import console
from .console import out

Files = Annotated[list[Path], typer.Argument(metavar="FILE", help="Video files.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    console.add(app, predict, "actionrec predict archery.mp4 -k 3")


def predict(
    files: Files,
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
) -> None:
    """Name the action in each clip.

    With --json there is one object a line and file: the server's reply with "file", or "file" and "error".
    """
    client = console.connect(url, model, token, management_url, timeout, insecure_token)
    answers: dict[int, Result | ServerError] = {}
    options = console.selected(top_k, start, end, views, crops)
    at_a_time = console.requests_at_a_time(in_flight, options)
    # By number, since a file may be named twice.
    for (number, _), answer in client.classify_many(
        enumerate(files), at_a_time, video_of=lambda item: item[1], **options
    ):
        answers[number] = answer
    results = []
    for number, path in enumerate(files):
        answer = answers[number]
        if as_json:
            reply = {"error": answer.to_dict()} if isinstance(answer, ServerError) else answer.to_dict()
            console.print_json({"file": name_of(path), **reply}, indent=None)
        elif isinstance(answer, Result):
            results.append((name_of(path), answer))
    if results:
        out.print(console.scores_table(results, named=len(files) > 1))
    if not as_json:
        for number, path in enumerate(files):
            console.remark(name_of(path), answers[number])
    errors = [answer for answer in answers.values() if isinstance(answer, ServerError)]
    if errors:
        codes = {console.exit_code(error) for error in errors}
        raise typer.Exit(console.NOT_READY if codes == {console.NOT_READY} else console.FAILED)
