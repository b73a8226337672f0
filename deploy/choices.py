"""Options of ``python -m deploy`` that choose what is otherwise made from what the host has."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from .host import device_ids
from .server import Settings


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options to a command."""
    option = parser.add_argument
    option("--workers", type=_at_least(0), help="workers of each model; default: what suits archive and host")
    option("--batch", type=_at_least(1), help="requests in one batch, for archives built for a GPU")
    option("--decode-threads", type=_at_least(1), help="windows that each worker decodes at once")
    option("--device-ids", default="", help="GPUs to use, as nvidia-smi counts them: 0,2; default: all")


def chosen(options: argparse.Namespace) -> dict[str, Any]:
    """The same as fields of `Settings`.

    Raises:
        DeployError: the list of GPUs is none.
    """
    return {
        "workers": options.workers,
        "batch": options.batch,
        "decode_threads": options.decode_threads,
        "device_ids": device_ids(options.device_ids) if options.device_ids else None,
    }


def as_arguments(settings: Settings) -> list[str]:
    """The options that choose the same again, for a process that starts the server anew."""
    values = {
        "--workers": settings.workers,
        "--batch": settings.batch,
        "--decode-threads": settings.decode_threads,
        "--device-ids": settings.device_ids and ",".join(map(str, settings.device_ids)),
    }
    return [f"{name}={value}" for name, value in values.items() if value is not None]


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and int(text) >= least):
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least}")
        return int(text)

    return number
