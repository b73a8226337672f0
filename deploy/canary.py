"""``python -m deploy canary``: a candidate answers a share of a model's requests; promote it, or take it back.

    serve motion and motion-next -> compare -> start --share 0.1 -> look -> promote | back

The gateway reads the file that this writes, and needs no restart.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from .preflight import DeployError
from .state import State, running, write

Command = Callable[[argparse.Namespace], int]
FILE = "canary.json"
_VIDEOS = (".mp4", ".mkv", ".webm", ".avi", ".mov")
_ANSWER_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two models said of the same videos."""

    videos: int
    agreement: float
    """Share of the videos with the same best label."""
    score_difference: float
    """Mean of the differences of the best label's score, where both say the same one."""
    milliseconds: tuple[float, float]
    """Median of each."""


def add_commands(
    add: Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser],
) -> None:
    """Add the command to the parser of ``python -m deploy``."""
    command = add("canary", _run, "have another model answer a share of a model's requests")
    command.add_argument("what", choices=("show", "compare", "start", "promote", "back"))
    command.add_argument("model", nargs="?", help="the name that clients use")
    command.add_argument("--to", help="the candidate; both are served")
    command.add_argument("--share", type=float, default=0.1, help="of the requests, 0 to 1")
    command.add_argument("--videos", type=Path, help="folder of videos that compare and start ask both about")
    command.add_argument("--least", type=float, default=0.95, help="agreement below which they refuse")


def compare(state: State, model: str, candidate: str, videos: Sequence[Path]) -> Comparison:
    """Ask both models about the same videos, in turns.

    Args:
        state: the server's.
        model, candidate: names of models that it serves.
        videos: files.

    Raises:
        DeployError: there are none, or one of the models does not answer.
    """
    if not videos:
        raise DeployError("there is no video to compare them by", f"a folder of {', '.join(_VIDEOS)}: --videos")
    same, differences, seconds = 0, [], ([0.0] * len(videos), [0.0] * len(videos))
    for number, video in enumerate(videos):
        best: list[dict[str, Any]] = [{}, {}]
        for turn in (0, 1) if number % 2 else (1, 0):
            began = time.perf_counter()
            best[turn] = _best(state, (model, candidate)[turn], video)
            seconds[turn][number] = time.perf_counter() - began
        if best[0]["label"] == best[1]["label"]:
            same += 1
            differences.append(abs(best[0]["score"] - best[1]["score"]))
    return Comparison(
        len(videos),
        same / len(videos),
        statistics.mean(differences) if differences else 1.0,
        (statistics.median(seconds[0]) * 1e3, statistics.median(seconds[1]) * 1e3),
    )


def load(run_dir: Path) -> dict[str, dict[str, Any]]:
    """Model -> its candidate and share.

    Raises:
        DeployError: the file is damaged.
    """
    try:
        found: dict[str, dict[str, Any]] = json.loads((run_dir / FILE).read_text(encoding="utf-8"))
        return found
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise DeployError(f"{run_dir / FILE} is damaged ({error})", "remove it: all candidates go") from error


def _run(options: argparse.Namespace) -> int:
    state, candidates = running(options.run_dir), load(options.run_dir)
    if not (options.run_dir / "gateway.json").exists():
        raise DeployError(
            "the server has no gateway, which sends requests to a candidate", "make serve GATEWAY=1"
        )
    if options.what == "show":
        for model, its in sorted(candidates.items()):
            print(_shown(model, its))  # noqa: T201
        if not candidates:
            print("No model has a candidate.")  # noqa: T201
        return 0
    if options.model is None:
        raise DeployError("of which model?", f"python -m deploy canary {options.what} {state.models[0]}")
    if options.what in ("compare", "start"):
        return _introduce(options, state, candidates)
    if options.model not in candidates:
        raise DeployError(f"{options.model} has no candidate", "canary show says which have one")
    if options.what == "promote":
        candidates[options.model]["share"] = 1.0
        print(_shown(options.model, candidates[options.model]))  # noqa: T201
    else:
        del candidates[options.model]
        print(f"{options.model}: it answers all of its requests itself")  # noqa: T201
    write(options.run_dir / FILE, candidates)
    return 0


def _introduce(options: argparse.Namespace, state: State, candidates: dict[str, dict[str, Any]]) -> int:
    model, candidate = options.model, options.to or candidates.get(options.model, {}).get("to")
    if candidate is None or not 0.0 <= options.share <= 1.0:
        raise DeployError(f"which model may answer for {model}, and for what share?", "--to NAME --share 0.1")
    for name in (model, candidate):
        if name not in state.models:
            raise DeployError(f"{name} is not served", f"served are {', '.join(state.models)}")
    if options.videos or options.what == "compare":
        folder: Path | None = options.videos
        files = sorted(path for path in folder.glob("*") if path.suffix in _VIDEOS) if folder else []
        found = compare(state, model, candidate, files)
        print(  # noqa: T201
            f"{found.videos} videos: the same label for {found.agreement:.1%}, scores differ by "
            f"{found.score_difference:.3f}; {model} {found.milliseconds[0]:.0f} ms, "
            f"{candidate} {found.milliseconds[1]:.0f} ms"
        )
        if found.agreement < options.least:
            raise DeployError(
                f"{candidate} agrees with {model} in {found.agreement:.1%} only",
                f"nothing was changed; --least {options.least:g} is the limit",
            )
    if options.what == "start":
        candidates[model] = {"to": candidate, "share": options.share}
        write(options.run_dir / FILE, candidates)
        print(_shown(model, candidates[model]))  # noqa: T201
    return 0


def _shown(model: str, its: dict[str, Any]) -> str:
    return f"{model}: {its['share']:.0%} of its requests are answered by {its['to']}"


def _best(state: State, model: str, video: Path) -> dict[str, Any]:
    reply = requests.post(state.predict_url(model), data=video.read_bytes(), timeout=_ANSWER_SECONDS)
    if not reply.ok:
        raise DeployError(f"{model} does not answer for {video}: {reply.text[:200]}", "make status says more")
    best: dict[str, Any] = reply.json()["predictions"][0]
    return best
