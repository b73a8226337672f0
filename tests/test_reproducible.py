"""Promise: two builds of one model with the same SOURCE_DATE_EPOCH are the same bytes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from export import archive, reproducible
from export.errors import ExportError
from tests.conftest import BUILD_SECONDS, PROJECT

EPOCH = "1700000000"


def built(checkout: Path, store: Path, **variables: str) -> Path:
    """The archive of `motion` from a copy of this project, built in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "export", "--model", "motion", "--runtime", "torchscript"]
    path = f"{checkout}{os.pathsep}{checkout / 'handler'}"
    done = subprocess.run(
        [*command, "--store", str(store)],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": path, "SOURCE_DATE_EPOCH": EPOCH, **variables},
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return store / "motion.mar"


@pytest.mark.server
def test_two_builds_are_the_same_bytes(tmp_path: Path) -> None:
    """In other folders, at other times, in other time zones, with other seeds of hashes: not a bit differs."""
    here, there = tmp_path / "here", tmp_path / "somewhere" / "else"
    for folder in ("handler", "export", "deploy", "motion"):
        shutil.copytree(PROJECT / folder, here / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(here, there)
    first = built(here, tmp_path / "a", TZ="UTC", PYTHONHASHSEED="1")
    second = built(there, tmp_path / "b", TZ="Asia/Tokyo", PYTHONHASHSEED="2")
    with zipfile.ZipFile(first) as one, zipfile.ZipFile(second) as other:
        assert one.namelist() == other.namelist()
        assert [name for name in one.namelist() if one.read(name) != other.read(name)] == []
        assert {entry.date_time for entry in one.infolist()} == {(2023, 11, 14, 22, 13, 20)}
        assert {entry.compress_type for entry in one.infolist()} == {zipfile.ZIP_STORED}
        assert json.loads(one.read("MAR-INF/MANIFEST.json"))["createdOn"] == "14/11/2023 22:13:20"
        one.extract("model.pt", tmp_path)
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(tmp_path / "model.pt") as model:
        assert not [name for name in model.namelist() if str(tmp_path).encode() in model.read(name)]
        assert not [name for name in model.namelist() if b"site-packages" in model.read(name)]


def test_order_times_and_modes_are_those_of_no_machine(tmp_path: Path) -> None:
    """Archives of the same files in another order, with other times and modes, become the same bytes."""
    packed = []
    for number, names in enumerate(
        (("b", "a/c", "MAR-INF/MANIFEST.json"), ("MAR-INF/MANIFEST.json", "b", "a/c"))
    ):
        path = tmp_path / f"{number}.mar"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if number else zipfile.ZIP_STORED) as file:
            for name in names:
                entry = zipfile.ZipInfo(name, (2001 + number, 2, 3, 4, 5, 6))
                entry.external_attr = (0o600 + number) << 16
                made = json.dumps({"createdOn": f"0{number}/01/2001 00:00:00", "runtime": "python"}, indent=2)
                file.writestr(entry, made if name.startswith("MAR") else name * 1000)
        reproducible.repack(path, datetime(1970, 1, 1, tzinfo=UTC))
        packed.append(path.read_bytes())
        with zipfile.ZipFile(path) as file:
            assert file.testzip() is None
            assert file.read("a/c") == b"a/c" * 1000
    assert packed[0] == packed[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.mar", "1.mar"]


@pytest.mark.parametrize(
    "epoch", ["٣", "５", "1_0", "-1", "+1", " 1", "1.5", "1e3", "4354819200", "9" * 5000, "now"]
)
def test_what_is_no_time(epoch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Digits of other scripts, and what else is no number of seconds that a zip file can hold, are refused."""
    monkeypatch.setenv(reproducible.EPOCH_VARIABLE, epoch)
    with pytest.raises(ExportError, match="SOURCE_DATE_EPOCH="):
        archive.built_with()


@pytest.mark.parametrize(
    ("epoch", "created"),
    [("0", "1970-01-01T00:00:00Z"), (EPOCH, "2023-11-14T22:13:20Z"), ("4354819199", "2107-12-31T23:59:59Z")],
)
def test_what_is_a_time(epoch: str, created: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From 1970 to the last second that a zip file knows, in UTC."""
    monkeypatch.setenv(reproducible.EPOCH_VARIABLE, epoch)
    assert archive.built_with()["created"] == created
