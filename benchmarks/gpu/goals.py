"""The goals for one H100 with 16 cores, checked against the rows of the stages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.gpu.plan import EAGER
from benchmarks.gpu.record import DONE, Row

MODEL_CLIPS_A_SECOND = 1000.0
ROOFLINE_SHARE = 0.45
FP16_OVER_TF32 = 1.8
BATCH_OF_8_GB = 4.0
SERVED_CLIPS_A_SECOND = 500.0
DECODING_SHARE = 0.9
"""Of the rate at which this machine's cores decode, where that is what holds it back."""


def of_correct(rows: Mapping[str, Row]) -> list[Row]:
    """The best label in fp16 is that of fp32 on all clips of the gate."""
    agreed = {
        name: row["top-1"]
        for name, row in rows.items()
        if name.startswith("parity ") and " fp16" in name and row["state"] == DONE
    }
    least = min(agreed.values(), default=None)
    return [_goal("top-1 in fp16 is that of fp32 on all clips", least, least == 1.0, "of the clips, least")]


def of_figures(rows: Mapping[str, Row]) -> list[Row]:
    """The model's rate, its share of the roofline, fp16 against tf32, and memory."""
    fp16, tf32 = _best(rows, "fp16"), _best(rows, "tf32")
    rate, share = fp16.get("clips/s"), fp16.get("of the roofline")
    ratio = rate / tf32["clips/s"] if rate and tf32 else None
    form = fp16.get("form")
    memory = rows.get(f"load {form}", {}).get("GB, batch of 8")
    at = f"clips/s ({form}, batch of {fp16['batch']})" if form else "clips/s"
    return [
        _goal(f"model in fp16: {MODEL_CLIPS_A_SECOND:g} clips/s", rate, _least(rate, MODEL_CLIPS_A_SECOND), at),
        _goal(f"that is {ROOFLINE_SHARE:.0%} of the roofline", share, _least(share, ROOFLINE_SHARE), "of it"),
        _goal(f"fp16 is {FP16_OVER_TF32:g} x tf32", ratio, _least(ratio, FP16_OVER_TF32), "x"),
        _goal(
            f"a batch of 8 in fp16 takes less than {BATCH_OF_8_GB:g} GB",
            memory,
            memory is not None and memory < BATCH_OF_8_GB,
            "GB reserved by a loaded worker",
        ),
    ]


def _best(rows: Mapping[str, Row], precision: str) -> Row:
    """The fastest row of a precision, eager apart; empty where there is none."""
    timed = [row for row in rows.values() if row.get("precision") == precision and "batch" in row]
    ours = [row for row in timed if row["runtime"] != EAGER]
    return max(ours, key=lambda row: float(row["clips/s"]), default={})


def of_served(rows: Mapping[str, Row], clip: str) -> list[Row]:
    """The served rate of small clips.

    Args:
        rows: of the stage.
        clip: ``340x256``.
    """
    served = max(_figures(rows, f"served {clip} "), default=None)
    most = max([*_figures(rows, f"decoding {clip}"), *_figures(rows, f"sandbox {clip}")], default=None)
    share = served / most if served and most else None
    return [
        _goal(
            f"served {clip}: {SERVED_CLIPS_A_SECOND:g} clips/s, or {DECODING_SHARE:g} of what decoding allows",
            served,
            _least(served, SERVED_CLIPS_A_SECOND) or _least(share, DECODING_SHARE),
            f"clips/s, {share:.2f} of decoding" if share else "clips/s",
        )
    ]


def _figures(rows: Mapping[str, Row], start: str) -> Iterable[float]:
    return [row["clips/s"] for name, row in rows.items() if name.startswith(start) and "clips/s" in row]


def _least(figure: Any, least: float) -> bool:  # noqa: ANN401 - a number, or None where there is none
    return figure is not None and figure >= least


def _goal(goal: str, figure: float | None, met: bool, unit: str) -> Row:
    said = "was not measured" if figure is None else f"{figure:.4g} {unit}"
    return {"goal": goal, "figure": said, "value": figure, "met": bool(met)}
