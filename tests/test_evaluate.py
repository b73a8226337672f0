"""Promise: an evaluation counts exactly what the model says, for the lists that data sets bring."""

import csv
import json
import zipfile
from pathlib import Path

import cv2
import pytest
from actionrec.pipeline import Classifier
from actionrec.reply import Prediction
from actionrec.request import ClipRequest
from actionrec.sampling import Selection

from actionrec_client.commands.accuracy import Accuracy
from actionrec_client.files.lists import ListError, read_list
from motion.clips import random_clip
from motion.scene import LABELS
from tests.conftest import RunningServer
from tests.helpers_cli import actionrec

CLIPS = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips as a Kinetics downloader names them; every sixth is listed wrong, one is missing, one broken."""
    root = tmp_path_factory.mktemp("kinetics")
    (root / "val").mkdir()
    rows = []
    for number in range(CLIPS):
        label = LABELS[number % 8]
        clip = random_clip(4000 + number, label, "libx264", size=(160, 120), seconds=4, difficulty=0.6)
        name = f"-id_{number:08d}"
        (root / "val" / f"{name}_{number:06d}_{number + 10:06d}.mp4").write_bytes(clip.data)
        listed = label if number % 6 else LABELS[(number + 3) % 8]
        rows.append([listed, name, number, number + 10, "validate"])
    rows.append([LABELS[0], "missing", 7, 17, "validate"])
    rows.append([LABELS[0], "broken", 7, 17, "validate"])
    (root / "val" / "broken_000007_000017.mp4").write_bytes(b"broken")
    with (root / "val.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["label", "youtube_id", "time_start", "time_end", "split"], *rows])
    return root


@pytest.fixture(scope="module")
def classifier(motion_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """The archive's own library, with no server and no client around it."""
    unpacked = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(motion_archive) as archive:
        archive.extractall(unpacked)
    return Classifier.load(unpacked)


@pytest.mark.parametrize(("views", "crops"), [(1, 1), pytest.param(3, 3, marks=pytest.mark.slow)])
def test_the_count_is_exact(
    motion_server: RunningServer, classifier: Classifier, folder: Path, tmp_path: Path, views: int, crops: int
) -> None:
    """Top-1 and top-5, in all and by class, are those that the archive's library gives file by file."""
    right, right5 = dict.fromkeys(LABELS, 0), dict.fromkeys(LABELS, 0)
    with (folder / "val.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows[:CLIPS]:
        stem = f"{row['youtube_id']}_{int(row['time_start']):06d}_{int(row['time_end']):06d}"
        data = (folder / "val" / f"{stem}.mp4").read_bytes()
        (answer,) = classifier.classify([ClipRequest(data, selection=Selection(0.0, 1e4, views, crops))])
        assert isinstance(answer, Prediction)
        best = [LABELS[index] for index in answer.scores.argsort()[::-1][:5]]
        right[row["label"]] += best[0] == row["label"]
        right5[row["label"]] += row["label"] in best
    done = actionrec(
        *("evaluate", folder / "val.csv", "--videos", folder / "val", "-o", tmp_path / "j.jsonl", "--json"),
        *("--views", str(views), "--crops", str(crops), "--confusion", tmp_path / "c.png"),
        server=motion_server,
    )
    assert done.returncode == 1, done.stderr  # one is missing, one broken
    said = json.loads(done.stdout)
    assert (said["answered"], said["failed"]) == (CLIPS, 2)
    assert said["top1_count"] == sum(right.values())
    assert said["top5_count"] == sum(right5.values())
    assert said["top1"] == pytest.approx(sum(right.values()) / CLIPS, abs=1e-6)
    assert {name: entry["top1"] for name, entry in said["classes"].items()} == right
    assert {name: entry["top5"] for name, entry in said["classes"].items()} == right5
    assert sum(entry["videos"] for entry in said["confused"]) == CLIPS - sum(right.values())
    # The wrong labels of the list alone make some answers wrong, and the model is right about most others.
    assert CLIPS // 2 < sum(right.values()) < CLIPS
    picture = cv2.imread(str(tmp_path / "c.png"))
    assert picture is not None
    assert picture.shape[0] > 300


def test_resume(motion_server: RunningServer, folder: Path, tmp_path: Path) -> None:
    """What is in the journal is not asked again, and counts as if it were."""
    journal = tmp_path / "j.jsonl"
    command = ("evaluate", folder / "val.csv", "--videos", folder / "val", "-o", journal, "--json")
    whole = actionrec(*command, server=motion_server)
    lines = journal.read_text(encoding="utf-8").splitlines(keepends=True)
    journal.write_text("".join(lines[:10]), encoding="utf-8")
    again = actionrec(*command, "--resume", server=motion_server)
    assert json.loads(again.stdout) == json.loads(whole.stdout)
    assert journal.read_text(encoding="utf-8").splitlines(keepends=True)[:10] == lines[:10]
    assert len(journal.read_bytes().splitlines()) == CLIPS + 2
    other = actionrec(*command, "--resume", "--views", "3", server=motion_server)
    assert other.returncode == 2
    assert "was made with the options" in other.stderr


def test_plain_lists(tmp_path: Path) -> None:
    """`path label` with a tab, a comma or a space; labels are names or numbers, blank lines nothing."""
    path = tmp_path / "list.txt"
    path.write_text("a b.mp4\tmoving left\n\nc.mp4,3\nd.mp4 riding a bike\n", encoding="utf-8")
    entries = [(str(entry.path.relative_to(tmp_path)), entry.label) for entry in read_list(path)]
    assert entries == [("a b.mp4", "moving left"), ("c.mp4", "3"), ("d.mp4", "riding a bike")]
    assert next(read_list(path, tmp_path / "v")).path == tmp_path / "v" / "a b.mp4"
    path.write_text("a.mp4\n", encoding="utf-8")
    with pytest.raises(ListError, match="line 1"):
        list(read_list(path))
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(ListError, match="no video"):
        list(read_list(path))


def test_kinetics_names(tmp_path: Path) -> None:
    """A video is found in the folder or in its label's by id, start and end; quotes and more columns too."""
    path = tmp_path / "k.csv"
    path.write_text(
        "label,youtube_id,time_start,time_end,split,is_cc\n"
        '"tasting, beer",--a,3,13,val,0\nabseiling,b,100,110,val,1\nabseiling,c,0,10,val,0\n',
        encoding="utf-8",
    )
    (tmp_path / "tasting, beer").mkdir()
    for name in ("tasting, beer/--a_000003_000013.mkv", "b_000100_000110.mp4"):
        (tmp_path / name).touch()
    names = [(str(entry.path.relative_to(tmp_path)), entry.label) for entry in read_list(path)]
    assert names == [
        ("tasting, beer/--a_000003_000013.mkv", "tasting, beer"),
        ("b_000100_000110.mp4", "abseiling"),
        ("c_000000_000010.mp4", "abseiling"),
    ]


def test_counting() -> None:
    """Names or class numbers, the fifth counts and the sixth does not, an error counts apart."""

    def said(*names: str) -> list[dict[str, object]]:
        return [{"label": name, "class_index": ord(name) - ord("a"), "score": 0.1} for name in names]

    counted = Accuracy.of(
        [
            {"file": "1", "label": "a", "predictions": said("a", "b")},
            {"file": "2", "label": "a", "predictions": said("b", "c", "d", "e", "a")},
            {"file": "3", "label": "b", "predictions": said("c", "d", "e", "f", "g", "b")},
            {"file": "4", "label": "b", "error": {"code": "X"}},
        ]
    )
    assert (counted.answered, counted.failed, counted.top1, counted.top5) == (3, 1, 1, 2)
    assert counted.labels == ["a", "b", "c"]
    assert counted.confusion().tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0]]
    numbers = Accuracy.of([{"file": "1", "label": "2", "predictions": said("c", "a")}])
    assert (numbers.top1, numbers.labels) == (1, ["2"])
