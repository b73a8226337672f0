"""Promise: the rows that are nearest are found, in Parquet and in .npy, without a Python object for each."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from actionrec.explanation import to_base64

from actionrec_client.files import vectors
from actionrec_client.files.journal import Journal, JournalError
from actionrec_client.files.nearest import VectorsError, nearest
from actionrec_client.floats import Floats

WEIGHTS = "sha256:01"
KINDS = [".parquet", ".npy"]


def journal_of(path: Path, rows: Floats, files: Sequence[str], weights: str = WEIGHTS) -> Path:
    """A journal in which each row is a window of the file that it has."""
    with Journal(path, {}, resume=False) as journal:
        for file in dict.fromkeys(files):
            windows = [
                {
                    "start_seconds": float(number),
                    "end_seconds": number + 2.0,
                    "label": "growing",
                    "score": 0.5,
                    "embedding": to_base64(rows[number]),
                }
                for number in range(len(rows))
                if files[number] == file
            ]
            journal.add(file, {"weights": weights, "windows": windows})
    return path


def table(tmp_path: Path, kind: str, rows: Floats, files: Sequence[str]) -> Path:
    """A table as ``actionrec embed`` writes it."""
    output = tmp_path / f"vectors{kind}"
    vectors.WRITERS[kind](journal_of(tmp_path / "j.jsonl", rows, files), output)
    return output


@pytest.mark.parametrize("kind", KINDS)
def test_the_nearest(tmp_path: Path, kind: str) -> None:
    """They are those of a plain computation, best first, each with its file and span."""
    rows = np.random.default_rng(0).standard_normal((300, 16)).astype(np.float32)
    rows[5] = 0  # a black clip may give a vector of zeros
    names = [f"clip {number}.mp4" for number in range(300)]
    path = table(tmp_path, kind, rows, names)
    wanted = np.random.default_rng(1).standard_normal(16).astype(np.float32)
    with np.errstate(invalid="ignore"):
        cosine = rows @ wanted / np.linalg.norm(rows, axis=1) / np.linalg.norm(wanted)
    best = np.argsort(-np.nan_to_num(cosine))[:7]
    found = nearest(path, wanted, WEIGHTS, 7)
    assert [one.file for one in found] == [names[number] for number in best]
    assert [one.similarity for one in found] == pytest.approx(cosine[best].tolist(), abs=1e-5)
    assert [one.start_seconds for one in found] == best.tolist()
    assert {(one.label, one.score) for one in found} == {("growing", 0.5)}
    assert len(nearest(path, wanted, WEIGHTS, 1000)) == 300


@pytest.mark.parametrize("kind", KINDS)
def test_several_windows_of_a_file(tmp_path: Path, kind: str) -> None:
    """A file is named once, with its nearest window."""
    rows = np.eye(4, dtype=np.float32)[[0, 1, 2, 3]] + 0.1
    path = table(tmp_path, kind, rows, ["a", "a", "b", "b"])
    found = nearest(path, rows[1], WEIGHTS, 5)
    assert [one.file for one in found] == ["a", "b"]
    assert found[0].start_seconds == 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_names_come_back_as_they_are(tmp_path: Path, kind: str) -> None:
    """Names that look like numbers, or have commas, quotes and line ends, are those of the files."""
    names = ["007", "NA", "", 'a, "b".mp4', "two\nlines.mp4", "ünïcode.mp4", "1e5", "true"]
    rows = np.eye(len(names), dtype=np.float32)
    path = table(tmp_path, kind, rows, names)
    assert [nearest(path, row, WEIGHTS, 1)[0].file for row in rows] == names


@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_thousand_rows(tmp_path: Path, kind: str) -> None:
    """Of a table of 100,000 rows no more is in memory at once than a block and a number a row."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    rows = np.random.default_rng(0).standard_normal((100_000, 64)).astype(np.float32)
    columns = {
        "file": pa.array([f"{number}.mp4" for number in range(len(rows))]),
        "start_seconds": pa.array(np.zeros(len(rows))),
        "end_seconds": pa.array(np.ones(len(rows))),
        "label": pa.array(["growing"] * len(rows)),
        "score": pa.array(np.ones(len(rows))),
        "weights": pa.array([WEIGHTS] * len(rows)),
    }
    path = tmp_path / f"large{kind}"
    if kind == ".npy":
        np.save(path, rows)
        pyarrow.csv.write_csv(pa.table(columns), vectors.list_of(path))
    else:
        numbers = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 64)
        pq.write_table(pa.table({**columns, "vector": numbers}), path)
    tracemalloc.start()
    found = nearest(path, rows[70_123], WEIGHTS, 3)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found[0].file == "70123.mp4"
    assert found[0].similarity == pytest.approx(1.0)
    assert most < rows.nbytes / 3


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_of_another_model(tmp_path: Path, kind: str) -> None:
    """They are not compared: the error names both weights. Nor are vectors of another length."""
    path = table(tmp_path, kind, np.eye(2, dtype=np.float32), ["a", "b"])
    with pytest.raises(VectorsError, match=r"sha256:01.*sha256:02"):
        nearest(path, np.ones(2, np.float32), "sha256:02", 1)
    with pytest.raises(VectorsError, match="vectors of 2 numbers"):
        nearest(path, np.ones(3, np.float32), WEIGHTS, 1)


def test_what_is_no_table(tmp_path: Path) -> None:
    """Another file, a table of something else, and a .npy whose list is missing or shorter are refused."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    one = np.ones(2, np.float32)
    (tmp_path / "text.parquet").write_text("not a table", encoding="utf-8")
    pq.write_table(pa.table({"file": ["a"]}), tmp_path / "other.parquet")
    np.save(tmp_path / "alone.npy", np.eye(2, dtype=np.float32))
    short = table(tmp_path, ".npy", np.eye(2, dtype=np.float32), ["a", "b"])
    np.save(short, np.eye(3, 2, dtype=np.float32))
    for name in ("text.parquet", "other.parquet", "alone.npy", short.name):
        with pytest.raises(VectorsError, match=name):
            nearest(tmp_path / name, one, WEIGHTS, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_journal_of_two_models(tmp_path: Path, kind: str) -> None:
    """Where another model was served meanwhile, or nothing could be embedded, no table is written."""
    path = journal_of(tmp_path / "j.jsonl", np.eye(2, dtype=np.float32), ["a", "b"])
    with Journal(path, {}, resume=True) as journal:
        (other,) = journal_of(tmp_path / "k.jsonl", np.eye(1, dtype=np.float32), ["c"]).read_text().splitlines()
        journal.add("c", {"weights": "sha256:02", "windows": json.loads(other)["windows"]})
    empty = tmp_path / "empty.jsonl"
    with Journal(empty, {}, resume=False) as journal:
        journal.add("broken.mp4", {"error": {"code": "NOT_A_VIDEO", "message": "no"}})
    for source, said in ((path, "different models"), (empty, "no vector")):
        with pytest.raises(JournalError, match=said):
            vectors.WRITERS[kind](source, tmp_path / f"out{kind}")
    assert not list(tmp_path.glob("*out*"))
