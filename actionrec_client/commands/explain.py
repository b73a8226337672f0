"""``actionrec explain``: why does the model say that?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from actionrec.limits import DEFAULT_LIMITS
from actionrec.sampling import Selection
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ..api import ActionClient
from ..deletion import Deletion, delete
from ..description import Description
from ..errors import BadReply, ServerError
from ..explanation import Explanation
from ..files.find import name_of
from ..files.subtitles import clock
from . import console
from .console import err, out

Clip = Annotated[Path, typer.Argument(metavar="CLIP", help="A video file.")]
Label = Annotated[str | None, typer.Option(help="Which label; default: the best one.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write the video with a heat map over it (.mp4, .mkv).")
]
Plot = Annotated[Path | None, typer.Option("--plot", help="Draw when it speaks for the label (.png, .svg).")]
Check = Annotated[
    bool, typer.Option("--check", help="Blank the strongest tenth of places, and ask for the score again.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    console.add(
        app,
        explain,
        "actionrec explain clip.mp4 --output heat.mp4 --plot when.png",
        "actionrec explain clip.mp4 --label archery --check",
    )


def explain(
    clip: Clip,
    label: Label = None,
    output: Output = None,
    plot: Plot = None,
    check: Check = False,
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
    """Say where and when a clip speaks for a label.

    Each place's and time's share of the logit is exact: all shares and the bias add up to it. In the video
    orange speaks for the label, blue against it, and what the model did not look at is dark.

    --check is the deletion test. It needs the management address, which says what the model's frames are.
    """
    client = console.connect(url, model, token, management_url, timeout, insecure_token)
    options = console.selected(_all_labels(client), start, end, views, crops)
    options["explain"] = True if label is None else label
    result = client.classify(clip, **options)
    found = result.explanation
    if found is None:
        raise BadReply("BAD_REPLY", 200, "The reply has no explanation.", "Is the server of an older version?")
    if output:
        _draw(clip, found, output)
    if plot:
        from ..files.plot import plot_explanation

        plot_explanation(found, plot, title=f"{clip.name}: {found.label}{_score(found)}")
    deletion = None
    if check:
        selection = Selection(start or 0.0, end, views or 1, crops or 1)
        deletion = delete(client, clip, found, selection)
    if as_json:
        checked = {"check": deletion.to_dict()} if deletion else {}
        console.print_json({"file": name_of(clip), **result.to_dict(), **checked})
        return
    _report(found, deletion)
    for path in (output, plot):
        if path:
            out.print(f"wrote {escape(str(path))}")
    console.remark(name_of(clip), result)


def _all_labels(client: ActionClient) -> int | None:
    """How many labels there are, so that the reply has the score of each; None where that is not known."""
    try:
        labels = Description.from_dict(client.describe()).labels
    except ServerError:  # from another host the management address cannot be asked
        return None
    return None if labels is None else min(labels, DEFAULT_LIMITS.top_k)


def _draw(clip: Path, found: Explanation, output: Path) -> None:
    from ..files.heat import heat_video

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
    with Progress(*columns, TimeRemainingColumn(), console=err, transient=True) as progress:
        task = progress.add_task("drawing", total=max(view.end_seconds for view in found.views))
        heat_video(clip, found, output, lambda seconds: progress.update(task, completed=seconds))


def _report(found: Explanation, deletion: Deletion | None) -> None:
    out.print(f"[bold]{escape(found.label)}[/bold]{_score(found)}")
    parts = zip(found.pathway_names, found.pathway_sums(), strict=True)
    shares = "".join(f" {added:+.2f} ({name})" for name, added in parts)
    mean = f", the mean of {len(found.views)} views" if len(found.views) > 1 else ""
    out.print(f"logit {found.logit:.2f} = {found.bias:.2f} (bias){shares}{mean}")
    peak = found.peak()
    when = f"{clock(peak.start_seconds)} to {clock(peak.end_seconds)}"
    out.print(f"most of it from {when}, at {peak.x:.0f} x {peak.y:.0f} pixels from the upper left corner")
    if deletion:
        out.print(
            f"score {deletion.score:.3f}; {deletion.without_strongest:.3f} without the strongest tenth of "
            f"places; {deletion.without_random:.3f} without a random tenth (mean of {deletion.draws})"
        )


def _score(found: Explanation) -> str:
    return "" if found.score is None else f" {found.score:.3f}"
