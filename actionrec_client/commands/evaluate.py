"""``actionrec evaluate``: how often is the model right on a labelled data set?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from actionrec.limits import DEFAULT_LIMITS
from rich.markup import escape
from rich.table import Table

from ..files.find import name_of
from ..files.journal import Journal, JournalError, records
from ..files.lists import ListError, read_list
from ..options import Options
from ..results import Result
from . import console, work
from .accuracy import TOP, Accuracy
from .console import out

_SHOWN_CLASSES = 20
_SHOWN_CONFUSIONS = 5

List = Annotated[
    Path,
    typer.Argument(metavar="LIST", exists=True, dir_okay=False, help="Kinetics CSV, or lines of 'path label'."),
]
Videos = Annotated[
    Path | None, typer.Option(help="Folder of the videos; default: the list's.", file_okay=False)
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Journal; default: LIST.results.jsonl.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on after a stop or a kill; no video is done twice.")]
Confusion = Annotated[Path | None, typer.Option(help="Draw which label is taken for which (.png).")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    console.add(
        app,
        evaluate,
        "actionrec evaluate kinetics_val.csv --videos val/ --views 10 --crops 3 --confusion val.png",
        "actionrec evaluate my_list.txt --resume",
    )


def evaluate(
    list_path: List,
    videos: Videos = None,
    views: Annotated[int, typer.Option(min=1, help="Windows spread over each video.")] = 1,
    crops: Annotated[int, typer.Option(min=1, max=3, help="1 or 3 a window.")] = 1,
    output: Output = None,
    resume: Resume = False,
    confusion: Confusion = None,
    as_json: console.AsJson = False,
    url: console.Url = console.DEFAULT_URL,
    model: console.Model = None,
    token: console.Token = None,
    management_url: console.ManagementUrl = None,
    insecure_token: console.InsecureToken = False,
    timeout: console.Timeout = None,
    in_flight: console.InFlight = None,
) -> None:
    """Count how often the model is right: top-1, top-5, by class, and what is taken for what.

    Each video counts as a whole: one view is its middle window, --views 10 --crops 3 is the published
    evaluation of SlowFast. Videos that are missing or broken are counted apart and make the exit code 1.
    """
    client = console.connect(url, model, token, management_url, timeout, insecure_token)
    journal_path = output or list_path.with_name(list_path.name + ".results.jsonl")
    # The whole video: for one view that is its middle window, for more they are spread over it.
    options = Options(end_seconds=DEFAULT_LIMITS.seconds, views=views, crops=console.as_crops(crops))
    request = {"model": client.model, "views": views, "crops": crops}
    at_a_time = console.requests_at_a_time(in_flight, options)
    try:
        jobs = {
            name_of(entry.path): work.SentFile(name_of(entry.path), entry.path, {"label": entry.label})
            for entry in read_list(list_path, videos)
        }
        with Journal(journal_path, request, resume=resume) as journal:
            outcome = work.run(
                jobs.values(),
                len(jobs),
                journal,
                lambda job: _record(client.classify(job.path, **options)),
                at_a_time,
            )
        mine = [record for record in records(journal_path) if record["file"] in jobs]
    except (ListError, JournalError, OSError, UnicodeDecodeError) as error:
        console.fail(str(error))
    work.end_if_stopped(outcome)
    accuracy = Accuracy.of(mine)
    if confusion and accuracy.answered:
        from ..files.plot import plot_confusion

        title = f"{client.model}: {accuracy.top1 / accuracy.answered:.1%} of {accuracy.answered} videos right"
        plot_confusion(accuracy.confusion(), accuracy.labels, confusion, title)
    if as_json:
        console.print_json({"list": str(list_path), **request, **accuracy.to_dict()})
    else:
        _report(accuracy, request, confusion)
    if work.list_failures(mine):
        raise typer.Exit(console.FAILED)


def _record(result: Result) -> Mapping[str, object]:
    return {"predictions": [prediction.to_dict() for prediction in result.predictions[:TOP]]}


def _report(accuracy: Accuracy, request: Mapping[str, object], confusion: Path | None) -> None:
    total = accuracy.answered
    if not total:
        out.print("No video was answered.")
        return
    views = f"{request['views']} x {request['crops']} views"
    out.print(f"[bold]{escape(str(request['model']))}[/bold], {views} of {total} videos")
    out.print(f"top-1  {accuracy.top1 / total:7.2%}  ({accuracy.top1})")
    out.print(f"top-5  {accuracy.top5 / total:7.2%}  ({accuracy.top5})")
    if not accuracy.top5:
        out.print("Not one is right: are the labels of the list those of the model?")
    of_class, right = accuracy.of_class, accuracy.right
    worst = sorted(of_class, key=lambda label: (right[label] / of_class[label], label))
    table = Table("class", "videos", "top-1", "top-5", "", box=None, pad_edge=False)
    for number in (1, 2, 3):
        table.columns[number].justify = "right"
    for label in worst[:_SHOWN_CLASSES]:
        count = of_class[label]
        share, share5 = right[label] / count, accuracy.right5[label] / count
        table.add_row(escape(label), str(count), f"{share:.1%}", f"{share5:.1%}", console.bar(share))
    out.print()
    out.print(table)
    if len(worst) > _SHOWN_CLASSES:
        out.print(f"the worst {_SHOWN_CLASSES} of {len(worst)} classes; --json has all")
    if wrong := accuracy.confused()[:_SHOWN_CONFUSIONS]:
        out.print()
        for true, said, count in wrong:
            out.print(f"{escape(true)} taken for {escape(said)}: {count}")
    if confusion:
        out.print(f"wrote {escape(str(confusion))}")
