"""``actionrec models | describe | ready | scale``: the server itself."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from .. import probe
from ..api import ActionClient
from ..description import Description
from ..transport import LONGEST_SECONDS
from . import console
from .console import out

READY_SECONDS = 30.0


def register(app: typer.Typer) -> None:
    """Add the commands."""
    console.add(app, models, "actionrec models")
    console.add(app, describe, "actionrec describe --json")
    console.add(app, ready, "until actionrec ready --timeout 5; do sleep 1; done")
    console.add(app, scale, "actionrec scale 2")


def models(
    as_json: console.AsJson = False,
    url: console.Url = console.DEFAULT_URL,
    token: console.Token = None,
    management_url: console.ManagementUrl = None,
    insecure_token: console.InsecureToken = False,
) -> None:
    """List what is served, and how many of its workers are READY."""
    client = ActionClient(url, token=token, management_url=management_url, insecure_token=insecure_token)
    served = client.models()
    if as_json:
        console.print_json([{**model.to_dict(), "ready": model.ready} for model in served])
        return
    table = Table("model", "version", "workers", "state", box=None, pad_edge=False)
    for model in served:
        count = f"{model.workers.count('READY')} of {max(len(model.workers), model.least_workers)}"
        state = "[green]ready[/green]" if model.ready else "[red]not ready[/red]"
        table.add_row(escape(model.name), escape(model.version), count, state)
    out.print(table if served else "No model is served.")


def describe(
    as_json: console.AsJson = False,
    url: console.Url = console.DEFAULT_URL,
    model: console.Model = None,
    token: console.Token = None,
    management_url: console.ManagementUrl = None,
    insecure_token: console.InsecureToken = False,
) -> None:
    """Say what the archive says of itself: recipe, labels, weights, runtime, parity, versions."""
    client = ActionClient(
        url, model=model, token=token, management_url=management_url, insecure_token=insecure_token
    )
    raw = client.describe()
    if as_json:
        console.print_json(raw)
        return
    described = Description.from_dict(raw)
    out.print(f"[bold]{escape(described.name)}[/bold] {escape(described.version)}")
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in _facts(described):
        table.add_row(name, escape(value))
    out.print(table)


def ready(
    timeout: Annotated[
        float, typer.Option(min=0.1, max=LONGEST_SECONDS, help="Seconds until it must be ready.")
    ] = READY_SECONDS,
    as_json: console.AsJson = False,
    url: console.Url = console.DEFAULT_URL,
    model: console.Model = None,
    token: console.Token = None,
    management_url: console.ManagementUrl = None,
    insecure_token: console.InsecureToken = False,
) -> None:
    """Probe: are the workers READY, and does a tiny clip get its label? Exit code 0 or 3.

    Where the management address cannot be reached (it stays on the server's host), --model makes the clip
    alone decide.
    """
    client = ActionClient(
        url,
        model=model,
        token=token,
        timeout=timeout,
        management_url=management_url,
        insecure_token=insecure_token,
    )
    state = probe.probe(client, timeout, named=model is not None)
    if as_json:
        console.print_json(state.to_dict())
    else:
        colour = "green" if state.ready else "red"
        out.print(f"[{colour}]{'ready' if state.ready else 'not ready'}[/{colour}]: {escape(state.message)}")
    if not state.ready:
        raise typer.Exit(console.NOT_READY)


def scale(
    workers: Annotated[int, typer.Argument(min=0, help="Processes that run the model.")],
    timeout: Annotated[
        float | None,
        typer.Option(min=0.1, max=LONGEST_SECONDS, help="Seconds until they must be READY; default: 120."),
    ] = None,
    as_json: console.AsJson = False,
    url: console.Url = console.DEFAULT_URL,
    model: console.Model = None,
    token: console.Token = None,
    management_url: console.ManagementUrl = None,
    insecure_token: console.InsecureToken = False,
) -> None:
    """Set the number of worker processes; returns when all are READY."""
    client = ActionClient(
        url, model=model, token=token, management_url=management_url, insecure_token=insecure_token
    )
    client.scale(workers, timeout=timeout)
    if as_json:
        console.print_json({"model": client.model, "workers": workers})
    else:
        out.print(f"{escape(client.model)}: {workers} worker{'s' * (workers != 1)} READY")


def _facts(described: Description) -> list[tuple[str, str]]:
    """What a person wants to know first; --json has all."""
    spec = described.spec
    facts = [
        ("labels", str(described.labels)),
        ("input", f"{spec.num_frames} frames of {spec.window_seconds:.4f} s, {spec.crop} x {spec.crop} pixels"),
        ("weights", described.weights),
        ("runs as", f"{described.runtime} {described.precision} {described.device}"),
    ]
    if described.score_difference is not None:
        facts.append(("parity", f"scores within {described.score_difference:.1e} of the eager model's"))
    facts += [("passed over", reason) for reason in described.rejected]
    facts.append(
        ("built with", ", ".join(f"{name} {version}" for name, version in described.built_with.items()))
    )
    return facts
