"""A journal of embeddings -> a table of vectors: Parquet, or numpy's ``.npy`` with a list of rows beside it.

A row is a window of a video, or the mean of several: `COLUMNS` and a vector, float32 [features]. Of each video
the journal has the model's ``weights`` and its ``windows``, whose ``embedding`` is base64 of the vector.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..floats import from_json
from .journal import JournalError, records
from .tables import Writer, blocks, whole

COLUMNS = {
    "file": str,
    "start_seconds": float,
    "end_seconds": float,
    "label": str,
    "score": float,
    "weights": str,
}
"""Of each row. ``weights`` is the checksum of the model's: vectors of different models cannot be compared."""
VECTOR = "vector"
"""The column of a Parquet file that has the vectors, ``fixed_size_list<float>``."""


def list_of(npy: Path) -> Path:
    """The list of rows of a ``.npy``, which lies beside it."""
    return npy.with_name(npy.name + ".csv")


def _parquet(journal: Path, output: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    _, features = _size(journal)
    # No number is missing, and such numbers do not compress: so the table is read in a quarter of the time.
    vector = pa.list_(pa.field("item", pa.float32(), nullable=False), features)
    coding = {name: "none" if name == VECTOR else "snappy" for name in (*COLUMNS, VECTOR)}
    kinds = {str: pa.string(), float: pa.float64()}
    schema = pa.schema([*((name, kinds[kind]) for name, kind in COLUMNS.items()), (VECTOR, vector)])
    with (
        whole(output) as part,
        pq.ParquetWriter(
            part, schema, compression=coding, use_dictionary=["file", "label", "weights"]
        ) as writer,
    ):
        for block in blocks(_rows(journal)):
            columns = [pa.array([row[name] for row in block], schema.field(name).type) for name in COLUMNS]
            numbers = np.concatenate([row[VECTOR] for row in block])
            columns.append(pa.FixedSizeListArray.from_arrays(pa.array(numbers), type=vector))
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def _npy(journal: Path, output: Path) -> None:
    shape = _size(journal)
    with whole(list_of(output)) as rows, whole(output) as part:
        # The file is written through memory that it is mapped to: it may be larger than memory.
        vectors = np.lib.format.open_memmap(part, mode="w+", dtype=np.float32, shape=shape)
        with rows.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for number, row in enumerate(_rows(journal)):
                vectors[number] = row[VECTOR]
                writer.writerow([row[name] for name in COLUMNS])
        vectors.flush()


WRITERS: dict[str, Writer] = {".parquet": _parquet, ".npy": _npy}
"""By what the file's name ends in."""


def _rows(journal: Path) -> Iterator[dict[str, Any]]:
    for entry in records(journal):
        for window in entry.get("windows", ()):
            row = {**window, "file": entry["file"], "weights": entry["weights"]}
            yield {**{name: row[name] for name in COLUMNS}, VECTOR: from_json(window["embedding"])}


def _size(journal: Path) -> tuple[int, int]:
    """(rows, features) of the table.

    Raises:
        JournalError: there is no row, or the vectors are not of one model.
    """
    count, made_by = 0, set()
    for row in _rows(journal):
        count += 1
        made_by.add((row["weights"], len(row[VECTOR])))
    if not count:
        raise JournalError(f"{journal} has no vector: no video could be embedded.")
    if len(made_by) > 1:
        raise JournalError(
            f"{journal} has vectors of different models: another one was served meanwhile. Start anew, under "
            "another name."
        )
    return count, next(iter(made_by))[1]
