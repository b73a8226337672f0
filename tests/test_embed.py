"""Promise: videos become vectors, one a video or one a window, each once however often the run is killed."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from actionrec.limits import Limits
from actionrec.sampling import Selection

from actionrec_client import ActionClient
from actionrec_client.files.journal import records
from actionrec_client.timeline.long_video import LongVideo
from motion.clips import random_clip
from motion.scene import LABELS
from tests.conftest import RunningServer
from tests.helpers_cli import actionrec, start
from tests.helpers_video import spliced

CLIP = random_clip(11, "moving left", "libx264", seconds=5.0, difficulty=0.2)
FEATURES = 1024
"""Of `motion`: 512 channels of each pathway."""


@pytest.fixture(scope="module")
def client(motion_server: RunningServer) -> ActionClient:
    return ActionClient(motion_server.inference_url)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips of each of four motions, and a broken one."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(12):
        clip = random_clip(600 + number, LABELS[number % 4], "libx264", seconds=3.2, difficulty=0.2)
        (folder / f"{clip.label.replace(' ', '-')}-{number:02d}.mp4").write_bytes(clip.data)
    (folder / "broken.mp4").write_bytes(b"not a video")
    return folder


def test_a_vector_of_a_clip(client: ActionClient) -> None:
    """It is the reply's embedding as float32, and that of several views their mean."""
    vector = client.embed(CLIP.data)
    assert vector.shape == (FEATURES,)
    assert vector.dtype == np.float32
    as_numbers = client.classify(CLIP.data, embedding="json").embedding
    assert as_numbers is not None
    assert np.array_equal(vector, as_numbers)
    assert client.classify(CLIP.data).embedding is None
    windows = [client.embed(CLIP.data, start_seconds=at, end_seconds=at + 64 / 30) for at in _starts(2)]
    assert np.allclose(client.embed(CLIP.data, views=2), np.mean(windows, 0), atol=1e-4)


def _starts(views: int) -> list[float]:
    return [(5.0 - 64 / 30) * number / views for number in range(views)]


def test_vectors_of_windows(client: ActionClient) -> None:
    """Each window has its span and its vector, which is that of a request for this span."""
    found = client.embed_windows(CLIP.data, stride_seconds=0.7)
    assert found.vectors.shape == (len(found.spans), FEATURES)
    assert found.spans[:, 0] == pytest.approx(np.arange(len(found.spans)) * 0.7, abs=1e-3)
    start, end = found.spans[2]
    alone = client.embed(CLIP.data, start_seconds=float(start), end_seconds=float(end))
    assert np.allclose(found.vectors[2], alone, atol=1e-4)


def test_a_long_video_in_parts(client: ActionClient) -> None:
    """Sent in parts, a video's windows have the vectors that one request gives, and the whole their mean."""
    motions = spliced(("moving left", "growing"), 4.0)
    whole = client.timeline(motions, stride_seconds=0.5, embedding="base64")
    selection, limits = Selection(stride_seconds=0.5), Limits(windows=4)
    parts = LongVideo(client, selection, None, 120, 2, None, "base64", limits).timeline(motions)
    assert len(whole.embeddings.vectors) == len(whole.windows) > 8
    assert np.allclose(parts.embeddings.spans, whole.embeddings.spans, atol=2e-3)
    assert np.allclose(parts.embeddings.vectors, whole.embeddings.vectors, atol=1e-4)
    assert parts.embedding is not None
    assert whole.embedding is not None
    assert np.allclose(parts.embedding, whole.embedding, atol=1e-4)
    assert np.allclose(whole.embedding, whole.embeddings.vectors.mean(0), atol=1e-4)
    assert len(client.timeline(motions, stride_seconds=0.5).embeddings.vectors) == 0


def test_tables(motion_server: RunningServer, client: ActionClient, folder: Path, tmp_path: Path) -> None:
    """Parquet and .npy have the same rows, those that the client gives; a broken file is told of."""
    import pyarrow.parquet as pq

    for name in ("v.parquet", "v.npy"):
        done = actionrec("embed", folder, "-o", tmp_path / name, server=motion_server)
        assert done.returncode == 1, done.stderr
        assert "13 files: 12 answered, 1 failed" in done.stdout
        assert "broken.mp4" in done.stderr
    rows = pq.read_table(tmp_path / "v.parquet").to_pylist()
    vectors = np.load(tmp_path / "v.npy")
    with (tmp_path / "v.npy.csv").open(encoding="utf-8", newline="") as file:
        listed = list(csv.DictReader(file))
    assert (vectors.shape, vectors.dtype) == ((12, FEATURES), np.float32)
    theirs = {row["file"]: np.array(row["vector"], np.float32) for row in rows}
    ours = {row["file"]: vector for row, vector in zip(listed, vectors, strict=True)}
    assert theirs.keys() == ours.keys() == {str(path) for path in folder.glob("*-*.mp4")}
    for name, vector in ours.items():
        assert np.allclose(theirs[name], vector, atol=1e-5)
    name = next(iter(ours))
    assert np.allclose(ours[name], client.embed(name), atol=1e-5)
    for row in listed:
        assert row["label"] == Path(row["file"]).stem[:-3].replace("-", " ")
        assert row["weights"].startswith("sha256:")


def test_several_windows(motion_server: RunningServer, folder: Path, tmp_path: Path) -> None:
    """With --stride there is a row for each window, with its span."""
    arguments = ("embed", folder / "moving-left-00.mp4", "-o", "v.npy", "--stride", "0.5")
    done = actionrec(*arguments, server=motion_server, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "v.npy.csv").open(encoding="utf-8", newline="") as file:
        starts = [float(row["start_seconds"]) for row in csv.DictReader(file)]
    assert starts == pytest.approx([0, 0.5, 1.0], abs=1e-3)
    assert np.load(tmp_path / "v.npy").shape == (3, FEATURES)


def test_killed_on_the_way(motion_server: RunningServer, folder: Path, tmp_path: Path) -> None:
    """After kill -9 the same command with --resume does the rest, and no file twice."""
    output = tmp_path / "v.npy"
    journal = tmp_path / "v.npy.jsonl"
    process = start("embed", folder, "-o", output, "--in-flight", "1", server=motion_server)
    deadline = time.monotonic() + 120
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= 3):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert not output.exists()
    before = [json.loads(line) for line in journal.read_bytes().split(b"\n")[:-1]]
    refused = actionrec("embed", folder, "-o", output, server=motion_server)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    done = actionrec("embed", folder, "-o", output, "--resume", "--json", server=motion_server)
    counts = json.loads(done.stdout)
    assert (counts["files"], counts["done_before"], counts["failed_in_all"]) == (13, len(before), 1)
    names = [record["file"] for record in records(journal)]
    assert names[: len(before)] == [record["file"] for record in before]
    assert sorted(names) == sorted(map(str, folder.iterdir()))
    assert len(np.load(output)) == 12


def test_what_is_similar(motion_server: RunningServer, folder: Path, tmp_path: Path) -> None:
    """A clip is most like itself, and then like clips of its motion; as a table and as JSON."""
    actionrec("embed", folder, "-o", tmp_path / "v.parquet", server=motion_server)
    clip = folder / "moving-left-00.mp4"
    arguments = ("similar", clip, "--to", tmp_path / "v.parquet", "-n", "3")
    done = actionrec(*arguments, server=motion_server)
    assert done.returncode == 0, done.stderr
    head, *lines = done.stdout.splitlines()
    assert head.split() == ["file", "from", "to", "label", "similarity"]
    assert len(lines) == 3
    found: dict[str, Any] = json.loads(actionrec(*arguments, "--json", server=motion_server).stdout)
    first, *others = found["neighbours"]
    assert first["file"] == str(clip)
    assert first["similarity"] == pytest.approx(1.0, abs=1e-4)
    assert [one["label"] for one in others] == ["moving left"] * 2
    assert 1 > others[0]["similarity"] >= others[1]["similarity"]


def test_wrong_usage(motion_server: RunningServer, folder: Path, tmp_path: Path) -> None:
    """Another kind of file, one vector and many at once, a table that is none: code 2 and a hint."""
    (tmp_path / "text.parquet").write_text("no table", encoding="utf-8")
    for arguments, said in (
        (("embed", folder, "-o", "v.csv"), ".parquet"),
        (("embed", folder, "-o", "v.npy", "--stride", "1", "--views", "3"), "exclude each other"),
        (("similar", folder / "moving-left-00.mp4", "--to", "text.parquet"), "no table of vectors"),
        (("similar", folder / "moving-left-00.mp4", "--to", "missing.parquet"), "does not exist"),
    ):
        done = actionrec(*arguments, server=motion_server, cwd=tmp_path)
        assert done.returncode == 2, done.stdout
        assert said in " ".join(done.stderr.split())
