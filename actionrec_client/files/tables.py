"""A journal of predictions -> CSV or Parquet, a block at a time."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from .journal import records

_BLOCK_ROWS = 4096


Writer = Callable[[Path, Path], None]
"""Takes a journal and the path of a table, which it writes whole or not at all."""


@contextmanager
def whole(output: Path) -> Iterator[Path]:
    """A path to write to, which becomes `output` at the end of the block where nothing went wrong."""
    temporary = output.with_name(f".{output.name}.part")
    yield temporary
    temporary.replace(output)


def _most_predictions(journal: Path) -> int:
    """The largest number of labels that a record has."""
    return max((len(record.get("predictions", ())) for record in records(journal)), default=0)


def _csv(journal: Path, output: Path) -> None:
    top_k = _most_predictions(journal)
    with whole(output) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        pairs = [f"{name}_{rank}" for rank in range(1, top_k + 1) for name in ("label", "score")]
        writer.writerow(["file", "start_seconds", "end_seconds", *pairs, "warnings", "error", "message"])
        for record in records(journal):
            row = row_of(record)
            best = [value for p in row["predictions"] or () for value in (p["label"], p["score"])]
            best += [""] * (2 * top_k - len(best))
            span = [row["start_seconds"], row["end_seconds"]]
            writer.writerow(
                [row["file"], *span, *best, " ".join(row["warnings"]), row["error"], row["message"]]
            )


def _parquet(journal: Path, output: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(columns())
    with whole(output) as part, pq.ParquetWriter(part, schema) as writer:
        for block in blocks(map(row_of, records(journal))):
            writer.write_table(pa.Table.from_pylist(block, schema=schema))


WRITERS: dict[str, Writer] = {".csv": _csv, ".parquet": _parquet}
"""By what the file's name ends in."""


def columns() -> list[tuple[str, Any]]:
    """Names and types of a Parquet file's columns."""
    import pyarrow as pa

    prediction = pa.struct([("label", pa.string()), ("class_index", pa.int32()), ("score", pa.float64())])
    return [
        ("file", pa.string()),
        ("start_seconds", pa.float64()),
        ("end_seconds", pa.float64()),
        ("predictions", pa.list_(prediction)),
        ("warnings", pa.list_(pa.string())),
        ("error", pa.string()),
        ("message", pa.string()),
    ]


def row_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of a journal as a row of a table, by the names of `columns`."""
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


def blocks(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Some thousand rows at a time."""
    while block := list(islice(rows, _BLOCK_ROWS)):
        yield block
