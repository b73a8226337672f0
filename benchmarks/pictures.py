"""The pictures of the documents, drawn from ``benchmarks/results/*.json`` and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.measure import RESULTS

OUT = Path(__file__).parent.parent / "docs"
OURS, OURS_BF16, THEIRS, LIMIT = "#c2410c", "#f59e0b", "#94a3b8", "#0f766e"
_WIDTH_INCHES = 7.6


def main() -> None:
    mpl.use("Agg")
    plt.rcParams.update(
        {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "0"}
    )
    for name, draw in (("model", _model), ("job", _job), ("serve_slowfast_r50", _serve)):
        path = RESULTS / f"{name}.json"
        if path.exists():
            draw(json.loads(path.read_text(encoding="utf-8")))


def _model(result: dict[str, Any]) -> None:
    rows = sorted(result["rows"], key=lambda row: row["ms a clip"], reverse=True)
    figure, axes = plt.subplots(figsize=(_WIDTH_INCHES, 0.32 * len(rows) + 0.9))
    names = [row["form"] for row in rows]
    colours = [OURS if "as served" in name else THEIRS for name in names]
    bars = axes.barh(names, [row["ms a clip"] for row in rows], color=colours)
    axes.bar_label(bars, [f"{row['ms a clip']:.0f} ms, {row['x eager']:.2f}x" for row in rows], padding=3)
    product = next(row["ms a clip"] * row["of the matrix product's rate"] for row in rows)
    axes.axvline(product, color=LIMIT, linestyle=":", label="at the rate of a matrix product in fp32")
    axes.legend(loc="center right", bbox_to_anchor=(1.02, 0.7), frameon=False)
    axes.margins(x=0.18)
    _finish(axes, "One clip through SlowFast R50 (lower is better)", "ms a clip", result, "model")
    plt.close(figure)


def _job(result: dict[str, Any]) -> None:
    rows = result["rows"]
    kinds = [
        ("tutorial", THEIRS, "EncodedVideo + eager model"),
        ("served", OURS, "this project, served"),
        ("served, bf16", OURS_BF16, "the same with PRECISION=bf16"),
    ]
    kinds = [kind for kind in kinds if f"{kind[0]} ms" in rows[0]]
    height = 0.8 / len(kinds)
    figure, axes = plt.subplots(figsize=(_WIDTH_INCHES, 0.3 * len(kinds) * len(rows) + 0.7))
    for number, (name, colour, label) in enumerate(kinds):
        places = [place + ((len(kinds) - 1) / 2 - number) * height for place in range(len(rows))]
        bars = axes.barh(places, [row[f"{name} ms"] for row in rows], height * 0.95, color=colour, label=label)
        gains = [row.get(f"{name}, x tutorial") for row in rows]
        text = [
            f"{row[f'{name} ms']:.0f} ms" + (f", {gain:.2f}x" if gain else "")
            for row, gain in zip(rows, gains, strict=True)
        ]
        axes.bar_label(bars, text, padding=3)
    axes.set_yticks(range(len(rows)), [row["clip"] for row in rows])
    axes.legend(loc="lower right", frameon=False)
    axes.margins(x=0.14)
    _finish(axes, "A file in, labels out (lower is better)", "ms a clip", result, "job")
    plt.close(figure)


def _serve(result: dict[str, Any]) -> None:
    figure, axes = plt.subplots(figsize=(_WIDTH_INCHES, 2.8))
    names = list(dict.fromkeys(row["what"] for row in result["rows"]))
    for name in names:
        rows = [row for row in result["rows"] if row["what"] == name]
        ours, limit = "ours" in name, name in ("in-process", "model alone")
        axes.plot(
            [row["clients"] for row in rows],
            [row["clips/s"] for row in rows],
            label=name,
            color=OURS if ours else LIMIT if limit else None,
            linestyle=":" if limit else "-",
            linewidth=2.4 if ours else 1.2,
            marker="o",
            markersize=3,
        )
    axes.set_xscale("log", base=2)
    clients = sorted({row["clients"] for row in result["rows"]})
    axes.set_xticks(clients, [str(number) for number in clients])
    axes.set_ylim(bottom=0)
    axes.set_ylabel("clips a second")
    axes.legend(frameon=False, ncol=3, loc="lower center")
    _finish(axes, "The same classifier behind servers (higher is better)", "clients at once", result, "serve")
    plt.close(figure)


def _finish(axes: Axes, title: str, label: str, result: dict[str, Any], name: str) -> None:
    machine = result["machine"]
    axes.set_title(title, loc="left", fontsize=10)
    where = machine["gpu"] or f"{machine['cores']} cores, {machine['cpu']}, {machine['vectors']}"
    axes.set_xlabel(f"{label}    ({where}; torch {machine['versions']['torch']})", color="#475569")
    cast(Figure, axes.figure).savefig(OUT / f"bench-{name}.svg", bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    main()
