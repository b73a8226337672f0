"""Promise: a batch gives every file one result, however often it is killed, and says which files failed."""

import csv
import json
import time
from pathlib import Path

import pytest

from actionrec_client.files.find import find
from actionrec_client.files.journal import Journal, JournalError, records
from motion.clips import random_clip
from motion.scene import LABELS
from tests.conftest import RunningServer
from tests.helpers_cli import actionrec, start
from tests.helpers_misbehave import RESET, Answer, misbehaving

REQUEST = {"model": "motion"}


def make_folder(root: Path, files: int, broken: int) -> dict[str, str | None]:
    """A tree of clips under different names, some broken: path -> label, None for a broken one."""
    clips = [random_clip(300 + number, label, "libx264", difficulty=0.3) for number, label in enumerate(LABELS)]
    wanted: dict[str, str | None] = {}
    step = files // broken
    for number in range(files):
        path = root / f"{number % 5}" / f"clip {number:03d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % step == min(3, step - 1):
            path.write_bytes((b"", b"not a video", clips[0].data[:2000])[number % 3])
            wanted[str(path)] = None
        else:
            path.write_bytes(clips[number % len(clips)].data)
            wanted[str(path)] = clips[number % len(clips)].label
    (root / "notes.md").write_text("no video", encoding="utf-8")
    assert sum(label is None for label in wanted.values()) == broken
    return wanted


def kill_after(lines: int, folder: Path, output: Path, server: RunningServer) -> None:
    """Run a batch and kill -9 it when the journal has so many lines."""
    process = start("batch", folder, "-o", output, "--resume", server=server)
    deadline = time.monotonic() + 120
    while not (output.exists() and output.read_bytes().count(b"\n") >= lines):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()


def killed_twice(server: RunningServer, tmp_path: Path, files: int, broken: int) -> None:
    """Kill a batch twice in its course, let the third run end, and count."""
    wanted = make_folder(tmp_path / "videos", files, broken)
    output = tmp_path / "results.jsonl"
    for part in (files // 4, files // 2):
        kill_after(part, tmp_path / "videos", output, server)
        with output.open("ab") as torn:  # as a kill in the middle of a write leaves it
            torn.write(b'{"file": "vid')
    before = {record["file"]: record for record in records_of_whole_lines(output)}
    assert files // 2 <= len(before) < files
    done = actionrec("batch", tmp_path / "videos", "-o", output, "--resume", "--json", server=server)
    assert done.returncode == 1, done.stderr
    lines = list(records(output))
    assert sorted(line["file"] for line in lines) == sorted(wanted)
    for line in lines:
        if line["file"] in before:
            assert line == before[line["file"]]
        assert ("error" in line) == (wanted[line["file"]] is None), line
    counts = json.loads(done.stdout)
    assert (counts["files"], counts["failed_in_all"]) == (files, broken)
    assert counts["answered"] + counts["failed"] + counts["done_before"] == files
    assert done.stderr.count("failed:") == broken


def records_of_whole_lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def test_killed_twice(motion_server: RunningServer, tmp_path: Path) -> None:
    """A folder with broken files, killed twice with kill -9: each file exactly once, and done work stays."""
    killed_twice(motion_server, tmp_path, files=40, broken=4)


@pytest.mark.slow
def test_200_files_killed_twice(motion_server: RunningServer, tmp_path: Path) -> None:
    """The same with 200 files, ten of them broken."""
    killed_twice(motion_server, tmp_path, files=200, broken=10)


def test_tables(motion_server: RunningServer, tmp_path: Path) -> None:
    """A CSV and a Parquet file hold the labels and errors that the lines hold."""
    import pyarrow.parquet as pq

    wanted = make_folder(tmp_path / "videos", 12, 2)
    for name in ("r.csv", "r.parquet"):
        done = actionrec("batch", tmp_path / "videos", "-o", tmp_path / name, "-k", "2", server=motion_server)
        assert done.returncode == 1, done.stderr
        assert "12 files: 10 answered, 2 failed" in done.stdout
    with (tmp_path / "r.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    table = pq.read_table(tmp_path / "r.parquet").to_pylist()
    lines = {line["file"]: line for line in records(tmp_path / "r.csv.jsonl")}
    assert len(rows) == len(table) == len(lines) == len(wanted)
    for row in rows:
        line = lines[row["file"]]
        if "error" in line:
            assert row["error"] == line["error"]["code"]
            assert row["label_1"] == ""
        else:
            assert [row["label_1"], row["label_2"]] == [p["label"] for p in line["predictions"]]
            assert float(row["score_1"]) == line["predictions"][0]["score"]
    for entry in table:
        line = lines[entry["file"]]
        assert entry["predictions"] == line.get("predictions")
        assert entry["error"] == line.get("error", {}).get("code")


def test_the_server_goes_away(tmp_path: Path, motion_server: RunningServer) -> None:
    """With nothing at the address the batch ends at once, code 3 and no line; a resumed one does all."""
    make_folder(tmp_path / "videos", 4, 1)
    output = tmp_path / "r.jsonl"
    gone = actionrec("batch", tmp_path / "videos", "-o", output)
    assert gone.returncode == 3, gone.stderr
    assert "refused" in gone.stderr
    assert not output.exists()
    assert (
        actionrec("batch", tmp_path / "videos", "-o", output, "--resume", server=motion_server).returncode == 1
    )
    assert len(list(records(output))) == 4


def test_what_is_wrong_usage(tmp_path: Path, motion_server: RunningServer) -> None:
    """Results that are there, other options on resume, no file, an unknown format: code 2 and a hint."""
    make_folder(tmp_path / "videos", 2, 1)
    output = tmp_path / "r.jsonl"
    assert actionrec("batch", tmp_path / "videos", "-o", output, server=motion_server).returncode == 1
    before = output.read_bytes()
    for arguments, text in (
        (("videos", "-o", "r.jsonl"), "--resume"),
        (("videos", "-o", "r.jsonl", "--resume", "-k", "1"), "was made with the options"),
        (("videos", "-o", "r.xlsx"), ".parquet"),
        (("nowhere", "-o", "n.jsonl"), "is not there"),
        (("videos/*.mkv", "-o", "n.jsonl"), "no video"),
    ):
        done = actionrec("batch", *arguments, server=motion_server, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert text in " ".join(done.stderr.split())
    assert output.read_bytes() == before


def test_a_journal_has_one_writer(tmp_path: Path) -> None:
    """A second process that writes the same results is refused."""
    with (
        Journal(tmp_path / "j.jsonl", REQUEST, resume=False),
        pytest.raises(JournalError, match="another process"),
    ):
        Journal(tmp_path / "j.jsonl", REQUEST, resume=True)


@pytest.mark.parametrize(
    "torn", [b"", b"{", b'{"file": "x"', b"\x00" * 200_000], ids=["none", "brace", "half", "long"]
)
def test_a_torn_line(tmp_path: Path, torn: bytes) -> None:
    """What a kill leaves without an end of line is dropped; whole lines stay, names of any bytes too."""
    path = tmp_path / "j.jsonl"
    names = ["clip.mp4", "ünïcode.mp4", "not utf-8 \udcff.mp4"]
    with Journal(path, REQUEST, resume=False) as journal:
        for name in names:
            journal.add(name, {"predictions": []})
    with path.open("ab") as file:
        file.write(torn)
    with Journal(path, REQUEST, resume=True) as journal:
        assert journal.done == set(names)
        journal.add("next", {})
    assert [record["file"] for record in records(path)] == [*names, "next"]


def test_something_else_is_not_written_over(tmp_path: Path) -> None:
    """A file that is no journal is refused and stays as it is."""
    path = tmp_path / "j.jsonl"
    path.write_text("my notes\n", encoding="utf-8")
    with pytest.raises(JournalError, match="line 1"):
        Journal(path, REQUEST, resume=True)
    assert path.read_text(encoding="utf-8") == "my notes\n"


def test_what_is_found(tmp_path: Path) -> None:
    """Folders are searched through, patterns and lists expanded, and a file that is named twice comes once."""
    for name in ("b/2.MP4", "b/c/3.mkv", "1.mp4", "b/notes.txt", "b/picture.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "list.txt").write_text("1.mp4\n\nb/2.MP4\n1.mp4\n", encoding="utf-8")

    def names(*inputs: str) -> list[str]:
        return [str(path.relative_to(tmp_path)) for path in find([f"{tmp_path}/{name}" for name in inputs])]

    assert names("") == ["1.mp4", "b/2.MP4", "b/c/3.mkv"]
    assert names("**/*.m*") == ["1.mp4", "b/c/3.mkv"]
    assert names("list.txt") == ["1.mp4", "b/2.MP4"]
    assert names("1.mp4", "", "b/picture.png") == ["1.mp4", "b/2.MP4", "b/c/3.mkv", "b/picture.png"]
    with pytest.raises(FileNotFoundError):
        names("nothing")


def test_a_pattern_names_each_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`**` twice, a way back up, a folder that links to itself: each file comes once, by its shortest name."""
    monkeypatch.chdir(tmp_path)
    wanted = [Path(name) for name in ("v/1.mp4", "v/a/2.mp4", "v/a/b/3.mp4", "v/c/4.mp4", "v/c/5.mp4")]
    for path in wanted:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for pattern in ("v/**/**/*.mp4", "v/**/**/**/*.mp4", "v/**/../**/*.mp4"):
        assert sorted(path.resolve() for path in find([pattern])) == [path.resolve() for path in wanted]
    Path("v/c/loop").symlink_to("..")
    assert list(find(["v/**/**/*.mp4"])) == wanted
    assert list(find(["v", "v/c/loop/a/*.mp4", "v/c/../1.mp4"])) == wanted
    # A file by another name is another file.
    Path("v/archery.mp4").symlink_to("1.mp4")
    assert Path("v/archery.mp4") in list(find(["v/**/*.mp4"]))


@pytest.mark.long
def test_the_server_goes_away_in_the_middle(tmp_path: Path) -> None:
    """A server that is gone for the whole deadline ends the run with 3; files without an answer get no line."""
    for number in range(6):
        (tmp_path / f"{number}.mp4").write_bytes(b"file")
    output = tmp_path / "r.jsonl"
    command = (
        "batch",
        tmp_path,
        "-o",
        output,
        "--model",
        "m",
        "--timeout",
        "2",
        "--in-flight",
        "1",
        "--resume",
    )
    # The first is the question whether anything is there.
    with misbehaving([Answer(), Answer(), Answer(), RESET]) as server:
        stopped = actionrec(*command, "--url", server.url)
    assert stopped.returncode == 3, stopped.stderr
    assert "--resume goes on" in stopped.stderr
    assert len(list(records(output))) == 2
    with misbehaving([Answer()]) as server:
        done = actionrec(*command, "--url", server.url)
    assert done.returncode == 0, done.stderr
    lines = list(records(output))
    assert sorted(Path(line["file"]).name for line in lines) == [f"{number}.mp4" for number in range(6)]
    assert not any("error" in line for line in lines)


def test_a_server_that_sends_its_callers_elsewhere(tmp_path: Path) -> None:
    """A redirect is no file's fault: the run ends with 3 and no line, and says where it points."""
    for number in range(3):
        (tmp_path / f"{number}.mp4").write_bytes(b"file")
    output = tmp_path / "r.jsonl"
    moved = Answer(308, "", (("Location", "https://clips.example/predictions/m"),))
    with misbehaving([moved]) as server:
        done = actionrec("batch", tmp_path, "-o", output, "--model", "m", "--url", server.url)
    assert done.returncode == 3, done.stderr
    assert "https://clips.example/predictions/m" in done.stderr
    assert list(records(output)) == []
