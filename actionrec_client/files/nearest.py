"""Which rows of a table of vectors are most like a vector. Only their names become Python objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..floats import Floats
from .vectors import COLUMNS, VECTOR, list_of

_BLOCK_ROWS = 4096
_TINY = float(np.finfo(np.float32).tiny)


class VectorsError(Exception):
    """A table of vectors that cannot be read, or is of another model."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A row that is like the vector that was given."""

    file: str
    start_seconds: float
    """From the video's first frame."""
    end_seconds: float
    """From the video's first frame."""
    label: str
    """The best label there."""
    score: float
    """Of that label, 0 to 1."""
    similarity: float
    """Cosine, -1 to 1."""

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def nearest(path: Path, vector: Floats, weights: str, count: int) -> list[Neighbour]:
    """The rows that are nearest by cosine, the best first; of several windows of a file only the nearest.

    Args:
        path: ``.parquet`` or ``.npy``, as ``actionrec embed`` writes them.
        vector: float32 [features].
        weights: checksum of the model that made it.
        count: how many, at most.

    Raises:
        VectorsError: the table cannot be read, or its vectors are of another model.
    """
    import pyarrow as pa

    try:
        rows = _rows(path)
        _check_model(path, rows, weights)
        similarities = _similarities(path, vector, rows.num_rows)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise VectorsError(f"{path} is no table of vectors: {error}") from error
    order = np.argsort(-similarities, kind="stable")
    files = rows["file"].combine_chunks().dictionary_encode().indices.to_numpy()
    first_of_each = np.sort(np.unique(files[order], return_index=True)[1])
    best = order[first_of_each[:count]]
    fields = rows.select([name for name in COLUMNS if name != "weights"]).take(pa.array(best)).to_pylist()
    return [
        Neighbour(**row, similarity=round(float(similarities[index]), 6))
        for row, index in zip(fields, best, strict=True)
    ]


def _rows(path: Path) -> Any:  # noqa: ANN401  # pyarrow has no types
    """The table without its vectors, as a `pyarrow.Table`."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    if path.suffix.lower() != ".npy":
        return pq.read_table(path, columns=list(COLUMNS))
    kinds = {str: pa.string(), float: pa.float64()}
    return pyarrow.csv.read_csv(
        list_of(path),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        # As they are written: a file may be called 007, or NA.
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={name: kinds[kind] for name, kind in COLUMNS.items()}, include_columns=list(COLUMNS)
        ),
    )


def _check_model(path: Path, rows: Any, weights: str) -> None:  # noqa: ANN401
    theirs = rows["weights"].unique().to_pylist()
    if theirs != [weights]:
        raise VectorsError(
            f"The vectors of {path} were made with the weights {', '.join(theirs)[:200] or 'of no model'}; the "
            f"server has {weights}. Vectors of different models cannot be compared."
        )


def _similarities(path: Path, vector: Floats, rows: int) -> Floats:
    """The cosine of each row and the vector, float32 [rows]; 0 for a vector of zeros."""
    found = np.empty(rows, np.float32)
    unit = vector / max(float(np.linalg.norm(vector)), _TINY)
    done = 0
    for block in _blocks(path):
        if block.shape[1] != len(unit):
            raise ValueError(f"it has vectors of {block.shape[1]} numbers, and the clip's has {len(unit)}")
        lengths = np.linalg.norm(block, axis=1)
        found[done : done + len(block)] = block @ unit / np.maximum(lengths, _TINY)
        done += len(block)
    if done != rows:
        raise ValueError(f"it has {done} vectors and {rows} names")
    return found


def _blocks(path: Path) -> Iterator[Floats]:
    """The vectors, float32 [some rows, features] at a time."""
    import pyarrow.parquet as pq

    if path.suffix.lower() == ".npy":
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
        if vectors.ndim != 2 or vectors.dtype != np.float32:
            raise ValueError(f"it is {vectors.dtype} {list(vectors.shape)}, not float32 [rows, features]")
        for start in range(0, len(vectors), _BLOCK_ROWS):
            yield np.asarray(vectors[start : start + _BLOCK_ROWS])
        return
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_BLOCK_ROWS, columns=[VECTOR]):
            numbers = batch.column(0).flatten().to_numpy(zero_copy_only=False)
            yield numbers.reshape(batch.num_rows, -1)
