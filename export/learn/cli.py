"""``python -m export learn``: learns labels from videos and shows how good they are."""

from __future__ import annotations

import argparse
import logging
import math
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ..errors import ExportError
from .finetune import options
from .learn import METHODS, Order, learn
from .progress import ForPeople, ForPrograms, Teller


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; None: those of the process.

    Returns:
        Exit code: 0; 1 where nothing was learned; 130 after Ctrl-C.
    """
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.", category=FutureWarning)
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    order, as_json = _parse(arguments)
    tell: Teller = ForPrograms(sys.stdout, Console(stderr=True)) if as_json else ForPeople(Console())
    before = signal.signal(signal.SIGINT, _interrupt_once)
    try:
        learn(order, tell)
    except ExportError as error:
        if as_json:
            tell.say("error", error.message, code=error.code, hint=error.hint)
            return 1
        errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
        errors.print(f"error: {error.message} ({error.code})", style="red")
        if error.hint:
            errors.print(f"hint:  {error.hint}")
        return 1
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted; run this again and it goes on from where it stopped")
        return 130
    finally:
        signal.signal(signal.SIGINT, before)
    return 0


def _interrupt_once(*_: object) -> None:
    """Interrupt, and let nothing interrupt what tidies up then: a parent's death may be told once a thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _parse(arguments: Sequence[str] | None) -> tuple[Order, bool]:
    """Parse the command line. An empty value counts as not given: the Makefile passes all of its variables."""
    own = Order(Path(), "")
    parser = argparse.ArgumentParser(
        prog="python -m export learn",
        description="Learn your own labels from videos, on top of a model that is there.",
    )
    add = parser.add_argument
    add("--data", required=True, help="a folder with a folder a label, a CSV, or Label Studio's JSON")
    add("--name", required=True, help="name of the archive and the endpoint")
    add("--model", default="", help=f"a model, or an archive (model_store/my.mar); default: {own.model}")
    add("--method", default="", help=f"{' or '.join(METHODS)}; default: {own.method}")
    add("--videos", default="", help="folder that the paths of a CSV or JSON file start from; default: its own")
    add("--frame-rate", default="", help="frames a second by which a Label Studio project counts")
    add("--runtime", default="", help="of the base archive, where it is built: see python -m export --help")
    add("--precision", default="", help="the same")
    add("--device", default="", help="the same")
    add("--version", default="", help=f"version of the archive; default: {own.version}")
    add("--store", default="", help=f"folder for the archive; default: {own.store}")
    add("--json", action="store_true", help="tell what happens as a JSON object a line")
    options.add_to(parser)
    given = parser.parse_args(arguments)
    rate = None
    if given.frame_rate:
        try:
            rate = float(given.frame_rate)
        except ValueError:
            rate = math.nan
        if not 0 < rate < math.inf:
            parser.error(f"--frame-rate must be a number above 0, got {given.frame_rate!r}")
    order = Order(
        data=Path(given.data),
        name=given.name,
        model=given.model or own.model,
        method=given.method or own.method,
        videos=Path(given.videos) if given.videos else None,
        frame_rate=rate,
        runtime=given.runtime or own.runtime,
        precision=given.precision or own.precision,
        device=given.device or own.device,
        version=given.version or own.version,
        store=Path(given.store or own.store),
        options=options.read(given, parser.error),
    )
    return order, given.json
