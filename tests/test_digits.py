"""Promise: a number that a user gives is one in ASCII digits, or an error; nothing is read into it."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from actionrec_client.commands.accuracy import Accuracy
from actionrec_client.files.lists import ListError, read_list
from actionrec_client.live.source import Source, SourceError
from export import cli
from export.build import Order, build
from export.errors import ExportError

ODD = ["٣", "５", "1_0", "0x10", "+1", "1e2", "²"]


@pytest.mark.parametrize("number", ODD)
@pytest.mark.parametrize("option", ["--crop", "--seed"])
def test_options_of_a_build(number: str, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """CROP and SEED are wrong usage, with the value, before anything is begun."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["--model", "motion", option, number])
    assert caught.value.code == 2
    assert f"{option} must be a whole number" in capsys.readouterr().err


@pytest.mark.parametrize("number", [*ODD, "1:30", ".5", "1.", "nan", ".inf", "true", ""])
def test_limits(number: str, tmp_path: Path) -> None:
    """LIMITS takes 20 and 2.5 and no other form of a number."""
    with pytest.raises(ExportError, match=r"LIMITS=.*is not a number"):
        build(Order(model="motion", limits=f"decode_seconds={number}", store=tmp_path), Console(quiet=True))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("time", ["٣", "５", "1_0", "-1", "", "1.5"])
def test_lists(time: str, tmp_path: Path) -> None:
    """A time of a Kinetics list is one in digits, or the row is none."""
    path = tmp_path / "val.csv"
    path.write_text(f"label,youtube_id,time_start,time_end\narchery,abc,{time},11\n", encoding="utf-8")
    with pytest.raises(ListError, match="no row of a Kinetics list"):
        list(read_list(path))


def test_labels() -> None:
    """A label in digits is a class's number; in digits of another script it is a name."""
    said = {"predictions": [{"label": "٣", "class_index": 3, "score": 1.0}]}
    assert Accuracy.of([{"label": "٣", **said}, {"label": "3", **said}]).top1 == 2
    assert Accuracy.of([{"label": "٤", **said}]).top1 == 0


def test_cameras() -> None:
    """A camera's number is one in ASCII digits; anything else is the name of a file."""
    with pytest.raises(SourceError, match="There is no file ٣"):
        Source("٣")
    with pytest.raises(SourceError, match="There is no camera /dev/video987"):
        Source("987")
