"""A journal of predictions -> CSV or Parquet, a block at a time."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from .journal import records

_BLOCK_ROWS = 4096


def convert(journal: Path, output: Path, top_k: int) -> None:
    """Write a table in the format that the suffix of `output` names. Whole or not at all.

    Args:
        journal: JSON lines.
        output: ``.csv`` or ``.parquet``.
        top_k: how many pairs of columns ``label_1, score_1`` a CSV has.
    """
    temporary = output.with_name(f".{output.name}.part")
    WRITERS[output.suffix.lower()](journal, temporary, top_k)
    temporary.replace(output)


def most_predictions(journal: Path) -> int:
    """The largest number of labels that a record has."""
    return max((len(record.get("predictions", ())) for record in records(journal)), default=0)


def _csv(journal: Path, output: Path, top_k: int) -> None:
    with output.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        pairs = [f"{name}_{rank}" for rank in range(1, top_k + 1) for name in ("label", "score")]
        writer.writerow(["file", "start_seconds", "end_seconds", *pairs, "warnings", "error", "message"])
        for record in records(journal):
            row = _row(record)
            best = [value for p in row["predictions"] or () for value in (p["label"], p["score"])]
            best += [""] * (2 * top_k - len(best))
            span = [row["start_seconds"], row["end_seconds"]]
            writer.writerow(
                [row["file"], *span, *best, " ".join(row["warnings"]), row["error"], row["message"]]
            )


def _parquet(journal: Path, output: Path, top_k: int) -> None:  # noqa: ARG001  # a list has any length
    import pyarrow as pa
    import pyarrow.parquet as pq

    prediction = pa.struct([("label", pa.string()), ("class_index", pa.int32()), ("score", pa.float64())])
    schema = pa.schema(
        [
            ("file", pa.string()),
            ("start_seconds", pa.float64()),
            ("end_seconds", pa.float64()),
            ("predictions", pa.list_(prediction)),
            ("warnings", pa.list_(pa.string())),
            ("error", pa.string()),
            ("message", pa.string()),
        ]
    )
    with pq.ParquetWriter(output, schema) as writer:
        for block in _blocks(map(_row, records(journal))):
            writer.write_table(pa.Table.from_pylist(block, schema=schema))


WRITERS: dict[str, Callable[[Path, Path, int], None]] = {".csv": _csv, ".parquet": _parquet}
"""By what the file's name ends in."""


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    error = record.get("error") or {}
    clip = record.get("clip") or {}
    return {
        "file": record["file"],
        "start_seconds": clip.get("start_seconds"),
        "end_seconds": clip.get("end_seconds"),
        "predictions": record.get("predictions"),
        "warnings": [warning["code"] for warning in record.get("warnings", ())],
        "error": error.get("code"),
        "message": error.get("message"),
    }


def _blocks(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while block := list(islice(rows, _BLOCK_ROWS)):
        yield block
