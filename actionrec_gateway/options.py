"""The gateway's settings from the command line, else the environment.

Secrets come from the environment alone: every user of a host sees command lines.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from .settings import Settings

PREFIX = "GATEWAY_"
"""``GATEWAY_PORT`` is ``--port``, and so on."""

_OWN_NAMES = {
    "fetch": "FETCH",
    "database_url": "DATABASE_URL",
    "health_route": "AIP_HEALTH_ROUTE",
    "predict_route": "AIP_PREDICT_ROUTE",
}
_SECRET = ("database_url", "webhook_secret")


@dataclass(frozen=True, slots=True)
class Run:
    """What concerns the process and not the application."""

    log_file: Path | None = None
    """None: standard error."""
    drain_seconds: int = 60
    """Seconds that requests in flight have to finish after SIGTERM."""


def parse(arguments: Sequence[str] | None, environment: Mapping[str, str] = os.environ) -> tuple[Settings, Run]:
    """Read the settings; what is not given keeps its default.

    Args:
        arguments: of the command line; None: those of this process.
        environment: names and values.

    Raises:
        SystemExit: a value is none, or `--help` was asked for.
    """
    own, run = Settings(), Run()
    parser = argparse.ArgumentParser(
        prog="python -m actionrec_gateway",
        description="The gateway before an engine.",
        epilog=f"Each option may also stand in the environment: {PREFIX}PORT is --port, FETCH is --fetch. "
        f"DATABASE_URL and {PREFIX}WEBHOOK_SECRET stand there only.",
    )

    def add(name: str, text: str, kind: Callable[[str], Any] = str, default: object = None) -> None:
        given = environment.get(_OWN_NAMES.get(name, PREFIX + name.upper()), "")
        default = getattr(own, name, default)
        # argparse converts a default that is text, and reports it as it does an argument.
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=kind, default=given or default, help=text, metavar="VALUE"
        )

    add("engine", "address of the engine's predictions")
    add("management", "address of its management")
    add("body_bytes", "largest body that the engine takes", int)
    add("answer_seconds", "longest time for an answer of the engine", float)
    add("host", "address to listen on")
    add("port", "0: a free one", int)
    add("grpc_port", "port of the Open Inference Protocol over gRPC; 0: a free one; default: none", int)
    add("model", "model of contracts that name none; default: the only one")
    add("health_route", "route that Vertex AI asks whether the models predict")
    add("predict_route", "route that Vertex AI sends predictions to")
    add("run_dir", "folder of jobs, uploads and the SQLite database", Path)
    add("tokens", "file that `python -m deploy token` writes; default: no token is asked for", Path)
    add("admins", "names in it that may change the server: ada,grace", _names)
    add("fetch", "what may be fetched: https://clips.example.org/,s3://bucket/prefix/", _names)
    add("fetch_private", "1: private addresses may be fetched from and called back", _truth)
    add("streams_at_once", "streams by address that are watched at the same time", int)
    add("upload_bytes", "largest video of a job", int)
    add("jobs_per_client", "jobs of one client that may wait or run", int)
    add("jobs_at_once", "jobs that this gateway works on at the same time", int)
    add("keep_days", "days that a finished job is kept", float)
    add("keep_bytes", "bytes that finished jobs may take", int)
    add("model_store", "folder of the engine's archives; default: nothing is learned from the page", Path)
    add("wishes", "file in which the engine's supervisor is asked to serve an archive", Path)
    add("teach_bytes", "bytes that the videos of one client's labels may take", int)
    add("teach_video_bytes", "largest of these videos", int)
    add("canary", "file that `python -m deploy canary` writes", Path)
    add("log_file", "default: standard error", Path, default=run.log_file)
    add("drain_seconds", "seconds that requests in flight have after SIGTERM", int, default=run.drain_seconds)
    chosen = vars(parser.parse_args(arguments))
    for name in _SECRET:
        chosen[name] = environment.get(_OWN_NAMES.get(name, PREFIX + name.upper())) or None
    names = {field.name for field in fields(Settings)}
    settings = Settings(**{name: value for name, value in chosen.items() if name in names})
    return settings, Run(chosen["log_file"], chosen["drain_seconds"])


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.replace(",", " ").split() if name)


def _truth(text: str) -> bool:
    if text.lower() not in ("1", "true", "yes", "0", "false", "no"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither 1 nor 0")
    return text.lower() in ("1", "true", "yes")
