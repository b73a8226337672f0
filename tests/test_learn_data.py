"""Promise: lists of labelled videos are read as their makers meant them, and what is wrong with one is said."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from export.errors import DataError
from export.learn.data import LEAST_VIDEOS, Example, Listing, read
from export.learn.label_studio import frame_seconds
from testing.media import encode, numbered_frames

RATE, FRAMES = 10, 40
"""Of the videos here: 4 s."""
JUST_ENOUGH = range(LEAST_VIDEOS)


def put(path: Path, number: int = 0, rate: float = RATE, times: Sequence[float] | None = None) -> Path:
    """Write a small video; each number gives another content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(numbered_frames(FRAMES + number), rate, times=times))
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each of two labels, with just enough videos, and what is there beside them."""
    root = tmp_path_factory.mktemp("folders")
    for number in JUST_ENOUGH:
        put(root / "waving" / f"{number}.mp4", number)
        put(root / "nodding" / "more" / f"{number}.mp4", 10 + number)
    (root / "waving" / "notes.txt").write_text("no video", encoding="utf-8")
    (root / ".trash" / "old").mkdir(parents=True)
    return root


def write_csv(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def spans(listing: Listing) -> set[tuple[str, str, float, float | None]]:
    """File, label and seconds of each example."""
    return {
        (one.path.name, one.label, round(one.start_seconds, 6), one.end_seconds and round(one.end_seconds, 6))
        for one in listing.examples
    }


def test_folders(folders: Path) -> None:
    """A folder's name is the label of all videos in it, however deep; what is no video is passed over."""
    found = read(folders)
    found.check()
    assert found.labels == ("nodding", "waving")
    assert found.videos() == {"nodding": LEAST_VIDEOS, "waving": LEAST_VIDEOS}
    assert all(example.whole for example in found.examples)
    assert not found.left_out


def test_names_play_no_part(folders: Path, tmp_path: Path) -> None:
    """Equal videos with equal labels are one list, wherever they lie and whatever they are called."""
    for path in folders.rglob("*.mp4"):
        label = path.relative_to(folders).parts[0]
        target = tmp_path / label / f"{hash(path) % 1000}-{path.name}"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    first, second = read(folders), read(tmp_path)
    assert first.sha256 == second.sha256
    assert [one.sha256 for one in first.examples] == [one.sha256 for one in second.examples]


def test_table(folders: Path, tmp_path: Path) -> None:
    """A CSV has whole videos and spans, in any order of columns, with paths from its own folder or another."""
    table = write_csv(
        folders / "list.csv",
        "label,path,start_seconds,end_seconds",
        *(f"waving,waving/{number}.mp4,,2.5" for number in JUST_ENOUGH),
        *(f"nodding,waving/{number}.mp4,2.5," for number in JUST_ENOUGH),
    )
    found = read(table)
    found.check()
    assert spans(found) == {
        *((f"{number}.mp4", "waving", 0.0, 2.5) for number in JUST_ENOUGH),
        *((f"{number}.mp4", "nodding", 2.5, None) for number in JUST_ENOUGH),
    }
    elsewhere = write_csv(tmp_path / "list.csv", "\ufeffpath,label", "waving/0.mp4,one", "waving/1.mp4,other")
    assert read(elsewhere, folders).labels == ("one", "other")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["path,class", "a.mp4,x"], "has no column label"),
        (["path,label", "a.mp4,"], "line 2 has no label"),
        (["path,label,start_seconds", "a.mp4,x,soon"], "line 2 has 'soon' in the place of seconds"),
        (["path,label,start_seconds", "a.mp4,x,nan"], "line 2 has 'nan' in the place of seconds"),
        (["path,label,start_seconds,end_seconds", "a.mp4,x,3,2"], "line 2 ends at 2 s, which is not after 3 s"),
    ],
)
def test_bad_table(tmp_path: Path, lines: list[str], message: str) -> None:
    """What is wrong with a table is said, with the line."""
    with pytest.raises(DataError) as error:
        read(write_csv(tmp_path / "list.csv", *lines))
    assert message in error.value.message
    assert error.value.hint


def test_unreadable(folders: Path, tmp_path: Path) -> None:
    """Files that are missing or empty are named and left out; the others are learned from."""
    (tmp_path / "empty.mp4").touch()
    table = write_csv(
        tmp_path / "list.csv",
        "path,label",
        f"{folders}/waving/0.mp4,waving",
        "gone.mp4,waving",
        "empty.mp4,waving",
    )
    found = read(table)
    assert [one.path.name for one in found.examples] == ["0.mp4"]
    assert {one.path.name: one.reason for one in found.left_out} == {
        "gone.mp4": "No such file or directory",
        "empty.mp4": "it is empty",
    }


def test_too_few(folders: Path) -> None:
    """Fewer than five different videos of a label are too few, however many spans and copies they have."""
    video = folders / "waving" / "0.mp4"
    copies = [video.with_name(f"copy{number}.mp4") for number in JUST_ENOUGH]
    for copy in copies:
        copy.write_bytes(video.read_bytes())
    try:
        table = write_csv(
            folders / "few.csv",
            "path,label,start_seconds,end_seconds",
            *(f"waving/{copy.name},waving,0,1" for copy in copies),
            *(f"waving/0.mp4,waving,{start},{start + 0.5}" for start in (1, 2, 3)),
            *(f"nodding/more/{number}.mp4,nodding,," for number in JUST_ENOUGH),
        )
        found = read(table)
    finally:
        for copy in copies:
            copy.unlink()
    assert found.notes == ("4 copies of videos that have the same label already are left out",)
    with pytest.raises(DataError, match="a label needs 5 different videos: waving has 1"):
        found.check()


def test_two_labels(folders: Path, tmp_path: Path) -> None:
    """The same content in two labels is an error that names both files, unless the spans are apart."""
    video = folders / "waving" / "0.mp4"
    for name in ("a/here.mp4", "b/there.mp4"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(video.read_bytes())
    with pytest.raises(DataError) as error:
        read(tmp_path)
    assert "two labels, 'a' and 'b'" in error.value.message
    assert "here.mp4" in error.value.message
    assert "there.mp4" in error.value.message
    head = "path,label,start_seconds,end_seconds"
    apart = write_csv(tmp_path / "apart.csv", head, "a/here.mp4,a,0,2.1", "b/there.mp4,b,2,4")
    assert len(read(apart).examples) == 2
    overlapping = write_csv(tmp_path / "overlapping.csv", head, "a/here.mp4,a,0,2", "b/there.mp4,b,1.5,4")
    with pytest.raises(DataError, match="two labels"):
        read(overlapping)


def test_nothing(tmp_path: Path) -> None:
    """Nothing there, nothing in it and one label only are errors with a hint."""
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path / "gone")
    with pytest.raises(DataError, match="has no folders"):
        read(tmp_path)
    (tmp_path / "only").mkdir()
    with pytest.raises(DataError, match="no video that can be read"):
        read(tmp_path).check()
    put(tmp_path / "only" / "a.mp4")
    with pytest.raises(DataError, match="one label only: only"):
        read(tmp_path).check()


# --- Label Studio -------------------------------------------------------------------------------------------


def region(label: str, start: int | None, end: int | None, **more: object) -> dict[str, Any]:
    """A result as Label Studio writes it."""
    return {
        "id": f"{label}{start}",
        "type": "timelinelabels",
        "value": {"ranges": [{"start": start, "end": end}], "timelinelabels": [label], **more},
        "to_name": "video",
        "from_name": "videoLabels",
        "origin": "manual",
    }


def export(folder: Path, *tasks: dict[str, Any]) -> Path:
    path = folder / "project-1.json"
    path.write_text(json.dumps(tasks), encoding="utf-8")
    return path


def task(video: str, *results: dict[str, Any], **data: object) -> dict[str, Any]:
    return {"id": 1, "data": {"video": video, **data}, "annotations": [{"id": 7, "result": list(results)}]}


def test_label_studio(tmp_path: Path) -> None:
    """Frames are counted from 1, the last one included; uploads and local files are found by their names."""
    put(tmp_path / "videos" / "one.mp4", 0)
    put(tmp_path / "videos" / "deep" / "two.mp4", 1)
    found = read(
        export(
            tmp_path,
            task("/data/upload/3/0a1b2c3d-one.mp4", region("wave", 1, 10), region("nod", 11, 30)),
            task("/data/local-files/?d=deep/two.mp4", region("wave", 21, None)),
            {"id": 3, "data": {"video": "/data/upload/3/0a1b2c3d-one.mp4"}, "annotations": []},
        )
    )
    assert spans(found) == {
        ("one.mp4", "wave", 0.0, 1.0),
        ("one.mp4", "nod", 1.0, 3.0),
        ("two.mp4", "wave", 2.0, None),
    }
    assert any("frames of 2 videos are taken for those of the file" in note for note in found.notes)
    assert any("1 tasks of project-1.json have no timeline labels" in note for note in found.notes)


def test_label_studio_variable_rate(tmp_path: Path) -> None:
    """Where no rate is stated, a frame's second is its own timestamp: also where the rate changes."""
    times = [number * 0.1 for number in range(20)] + [2.0 + number * 0.05 for number in range(20)]
    path = put(tmp_path / "v.mp4", times=times)
    assert frame_seconds(path) == pytest.approx(times, abs=1e-4)
    (example,) = read(export(tmp_path, task("v.mp4", region("wave", 21, 30)))).examples
    assert (example.start_seconds, example.end_seconds) == pytest.approx((2.0, 2.5), abs=1e-4)


@pytest.mark.parametrize(
    ("data", "more", "frame_rate"),
    [
        ({"fps": 20}, {}, None),
        ({"frame_rate": "0.05"}, {}, None),
        ({}, {"framesCount": 80, "duration": 4.0}, None),
        ({"fps": 50}, {}, 20.0),
    ],
)
def test_label_studio_stated_rate(
    tmp_path: Path, data: dict[str, Any], more: dict[str, Any], frame_rate: float | None
) -> None:
    """A stated rate is that of Label Studio's player, whatever the file's is; the user's word is first."""
    put(tmp_path / "v.mp4")
    path = export(tmp_path, task("v.mp4", region("wave", 21, 60, **more), **data))
    found = read(path, frame_rate=frame_rate)
    assert spans(found) == {("v.mp4", "wave", 1.0, 3.0)}
    assert not found.notes


def test_label_studio_json_min(tmp_path: Path) -> None:
    """JSON-MIN has the same under the tag's name."""
    put(tmp_path / "v.mp4")
    values = [{"ranges": [{"start": 1, "end": 20}], "timelinelabels": ["wave"]}]
    path = export(tmp_path, {"video": "v.mp4", "id": 1, "tricks": values, "annotator": 1})
    assert spans(read(path)) == {("v.mp4", "wave", 0.0, 2.0)}


def test_label_studio_one_annotation(tmp_path: Path) -> None:
    """Of several annotations one counts: the one marked as true, else the newest that was not cancelled."""
    put(tmp_path / "v.mp4")
    one = task("v.mp4")
    one["annotations"] = [
        {"id": 1, "updated_at": "2026-01-02", "result": [region("old", 1, 10)]},
        {"id": 2, "updated_at": "2026-01-03", "result": [region("new", 1, 10)]},
        {"id": 3, "updated_at": "2026-01-04", "was_cancelled": True, "result": [region("cancelled", 1, 10)]},
    ]
    assert read(export(tmp_path, one)).labels == ("new",)
    one["annotations"][0]["ground_truth"] = True
    assert read(export(tmp_path, one)).labels == ("old",)


def test_label_studio_unreadable(tmp_path: Path) -> None:
    """Videos that are not there, are none, or end before a region are named and left out."""
    put(tmp_path / "short.mp4")
    (tmp_path / "text.mp4").write_text("no video" * 100, encoding="utf-8")
    found = read(
        export(
            tmp_path,
            task("gone.mp4", region("wave", 1, 10)),
            task("text.mp4", region("wave", 1, 10)),
            task("short.mp4", region("wave", 400, 410)),
        )
    )
    assert not found.examples
    reasons = {one.path.name: one.reason for one in found.left_out}
    assert reasons["gone.mp4"] == f"no such file in {tmp_path}"
    assert "bytes received are" in reasons["text.mp4"]
    assert "begins at frame 400 of 40: has FRAME_RATE another value?" in reasons["short.mp4"]


def test_other_json(tmp_path: Path) -> None:
    """JSON that is no export is refused."""
    path = tmp_path / "x.json"
    for text in (
        "{}",
        "[1]",
        "not JSON",
        '[{"annotations": [{"result": [' + json.dumps(region("a", 1, 2)) + "]}]}]",
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DataError) as error:
            read(path)
        assert "Label Studio" in error.value.hint


def test_without_keeps_the_other_spans(folders: Path) -> None:
    """A span that cannot be decoded costs its video no other span."""
    found = read(folders)
    bad: Example = found.examples[0]
    rest = found.without({bad: "No frame"})
    assert len(rest.examples) == len(found.examples) - 1
    assert [(one.path, one.reason) for one in rest.left_out] == [(bad.path, "No frame")]
