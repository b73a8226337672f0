"""Promise: a batch on a cluster gives every video the result of `actionrec batch`, whatever is killed."""

from __future__ import annotations

import json
import random
import subprocess
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actionrec_client.errors import Refused
from actionrec_engines.archive import sha256_of
from actionrec_engines.batch import compute, listing, steps
from actionrec_engines.batch.files import read_all
from actionrec_engines.batch.plan import Asked, Plan
from motion.clips import random_clip
from tests.conftest import RunningServer
from tests.helpers_cli import actionrec, command, environment
from tests.helpers_cluster import DEADLINE_SECONDS, Run, Videos, cluster, kill_an_actor, make

CLIP = random_clip(11, "moving left").data
_MORE = ("hint", "sha256", "key", "segments", "embedding")
"""Columns that `actionrec batch` does not have."""


def plan_of(folder: Path, names: int, shards: int = 1) -> Plan:
    return Plan.of(folder, folder / "x.mar", Asked("a" * 64, {}), ("videos",), names, shards)


def proven(
    root: Path, archive: Path, server: RunningServer, *, count: int, bad: int, copies: int, seed: int
) -> None:
    """Run a batch in the course of which an actor, a node and the driver are killed, and look at all of it."""
    videos = make(root, count, bad=bad, copies=copies)
    dice = random.Random(seed)
    with cluster() as nodes:
        run = Run(nodes.address, videos, archive, root / "out")
        first = run.start()
        run.wait_for(1, first)
        kill_an_actor(dice.choice)
        run.wait_for(2, first)
        nodes.remove_node(dice.choice(sorted(nodes.worker_nodes, key=str)), allow_graceful=False)
        run.wait_for(4, first)
        first.kill()
        first.communicate()
        before = {part: part.stat().st_mtime_ns for part in run.parts()}
        found = run.finish(run.start("--resume"), code=1)  # some videos are bad
        check_sums(found, videos)
        assert found["parts_before"] >= len(before)
        assert {part: part.stat().st_mtime_ns for part in before} == before, "what was there is not done again"
        check_rows(run, videos, root, server)
        again = run.finish(run.start("--resume"), code=1)
        assert again["parts_before"] == again["parts"]
        assert not list((root / "out").rglob(".*partial")), "what was left half is nowhere"


def check_sums(found: dict[str, Any], videos: Videos) -> None:
    """The summary adds up, to what there is."""
    assert found["listed"] == found["repeated"] + found["files"]
    assert found["files"] == found["answered"] + found["failed"]
    assert (found["repeated"], found["files"]) == (videos.repeated, len(videos.names))


def check_rows(run: Run, videos: Videos, root: Path, server: RunningServer) -> None:
    """Every file has one row, equal files have equal ones, and all are those of `actionrec batch`."""
    rows = run.rows()
    assert sorted(row["file"] for row in rows) == sorted(videos.names)
    keys = [row["key"] for row in rows if row["key"]]
    assert len({row["sha256"] for row in rows if row["key"]}) == len(set(keys))
    for row in rows:
        assert (row["error"] is None) != (row["predictions"] is None)
    other = root / "served.parquet"
    done = subprocess.run(
        command("batch", videos.folder, videos.listed, "-o", other),
        env=environment(server),
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    served = {row["file"]: row for row in pq.read_table(other).to_pylist()}
    assert served.keys() == videos.names
    for row in rows:
        assert without_scores({k: v for k, v in row.items() if k not in _MORE}) == without_scores(
            served[row["file"]]
        )
        assert scores(row) == pytest.approx(scores(served[row["file"]]), abs=1e-4)


def without_scores(row: dict[str, Any]) -> dict[str, Any]:
    predictions = row["predictions"]
    return {**row, "predictions": predictions and [p["label"] for p in predictions]}


def scores(row: dict[str, Any]) -> list[float]:
    return [prediction["score"] for prediction in row["predictions"] or ()]


@pytest.mark.long
def test_on_a_cluster_where_much_is_killed(
    tmp_path: Path, motion_archive: Path, motion_server: RunningServer
) -> None:
    """Sixty videos on three nodes: each has one result, though an actor, a node and the driver are killed."""
    proven(tmp_path, motion_archive, motion_server, count=60, bad=6, copies=8, seed=1)


@pytest.mark.slow
def test_two_thousand_videos(tmp_path: Path, motion_archive: Path, motion_server: RunningServer) -> None:
    """The same of 2,000 videos, of which 3 % are bad and ten are copies."""
    proven(tmp_path, motion_archive, motion_server, count=2000, bad=60, copies=10, seed=2)


@given(st.integers(1, 10_000_000), st.binary(min_size=32, max_size=32))
def test_each_content_has_one_place(names: int, digest: bytes) -> None:
    """A digest belongs to one part, and a part to one group, in which its number is found."""
    plan = plan_of(Path("/out"), names)
    part = plan.part_of(digest.hex())
    assert 0 <= part < plan.parts
    group = plan.group_of(part)
    assert part in plan.parts_in(group)
    assert plan.parts_in(0).start == 0
    assert plan.parts_in(plan.groups - 1).stop == plan.parts
    assert plan.parts_in(group).stop == plan.parts or plan.group_of(plan.parts_in(group).stop) == group + 1


def test_a_key_is_of_the_video_the_archive_and_the_options() -> None:
    """Another video, another archive and another option are another key; the order of options is not."""
    key = Asked("a", {"views": 3, "top_k": 2}).key("v")
    assert key == Asked("a", {"top_k": 2, "views": 3}).key("v")
    others = [Asked("b", {"views": 3, "top_k": 2}).key("v"), Asked("a", {"views": 3, "top_k": 2}).key("w")]
    assert len({key, Asked("a", {"views": 3}).key("v"), *others}) == 4


@pytest.mark.long
def test_a_long_list_is_not_kept_in_memory(tmp_path: Path) -> None:
    """Of a list of 45 MB no more is held than a shard of it."""
    count, name = 150_000, "/videos/" + "x" * 290
    listed = tmp_path / "names.txt"
    with listed.open("w") as file:
        file.writelines(f"{name}/{number:07d}.mp4\n" for number in range(count))
    assert listed.stat().st_size > 45_000_000
    listing.shards(tmp_path / "small", [__file__])  # what is imported at first use is no names
    tracemalloc.start()
    try:
        assert listing.shards(tmp_path / "out", [str(listed)])[0] == count
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 30_000_000


def test_equal_files_are_one_content_and_one_file_is_one_name(tmp_path: Path) -> None:
    """Copies come together under one digest; a file that is named twice, or through a link, has one name."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for name, data in (("a.mp4", CLIP), ("b.mp4", CLIP), ("c.mp4", CLIP + b"x")):
        (videos / name).write_bytes(data)
    (tmp_path / "link").symlink_to(videos)
    listed = tmp_path / "more.txt"
    listed.write_text("link/a.mp4\nvideos/b.mp4\nvideos/gone.mp4\nvideos/empty.mp4\n")
    (videos / "empty.mp4").write_bytes(b"")
    names, shards = listing.shards(tmp_path / "out", [str(videos), str(listed)])
    plan = plan_of(tmp_path / "out", names, shards)
    assert names == 8
    for number in range(shards):
        steps.hash_shard(plan, number)
    steps.group(plan, 0)
    found = {tuple(sorted(path.decode() for path in row["paths"])): row for row in read_all(plan.grouped(0))}
    places = [str(videos / name) for name in ("a.mp4", "b.mp4", "c.mp4", "empty.mp4", "gone.mp4")]
    assert set(found) == {(places[0], places[1]), (places[2],), (places[3],), (places[4],)}
    codes = {key[0]: json.loads(row["error"])["code"] for key, row in found.items() if row["error"]}
    assert codes == {places[3]: "EMPTY_BODY", places[4]: "UNREADABLE_FILE"}


def test_a_video_that_changes_meanwhile_is_an_error(tmp_path: Path) -> None:
    """No result stands under the digest of bytes that it is not of; a copy that is left is used."""
    first, second = tmp_path / "a.mp4", tmp_path / "b.mp4"
    for path in (first, second):
        path.write_bytes(CLIP)
    content = {"sha256": sha256_of(first), "error": None, "paths": [bytes(first), bytes(second)]}
    first.write_bytes(CLIP + b"x")
    assert compute._video(content) == CLIP
    second.write_bytes(b"other")
    with pytest.raises(Refused, match="VIDEO_CHANGED"):
        compute._video(content)


@pytest.mark.parametrize(
    ("arguments", "hint"), [(("--ray", "local"), "--archive motion.mar"), ((), "is a folder")]
)
def test_what_a_cluster_needs_is_said(arguments: tuple[str, ...], hint: str, tmp_path: Path) -> None:
    """A cluster without an archive, and a folder without a cluster, are refused before anything is done."""
    done = actionrec("batch", tmp_path, "-o", tmp_path, *arguments)
    assert done.returncode == 2
    assert hint in " ".join(done.stderr.split())
    assert not list(tmp_path.iterdir())


def test_a_folder_has_one_run(tmp_path: Path, motion_archive: Path) -> None:
    """Another run's folder is refused, and so are other options in a run that goes on."""
    folder = tmp_path / "out"
    plan = Plan.of(folder, motion_archive, Asked("a" * 64, {}), ("videos",), 3, 1)
    plan.save()
    assert Plan.load(folder) == plan
    for resume in ([], ["--resume"]):
        done = Run("local", Videos(tmp_path, tmp_path / "x", frozenset(), 0, 0), motion_archive, folder)
        out, err = (process := done.start(*resume)).communicate(timeout=120)
        assert process.returncode == 2, out + err
        assert "run" in err
