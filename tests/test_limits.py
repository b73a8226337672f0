"""Promise: every limit has one home, travels in the archive, and holds."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from actionrec.errors import ClipError
from actionrec.limits import Limits
from actionrec.manifest import Manifest
from actionrec.request import parse_request
from actionrec.spec import ClipSpec
from actionrec.video.container import MAX_REORDER, Source
from actionrec.video.decode import decode

from export.build import Order, build
from export.errors import ExportError
from testing.media import encode, textured_frames
from tests.conftest import PROJECT
from tests.hostile_files import good, many_streams

SPEC = ClipSpec(short_side=64, crop=64)


def test_they_travel_in_the_archive(tmp_path: Path) -> None:
    """What a manifest is written with is what is read; an archive that says nothing has the defaults."""
    limits = replace(Limits(), pixels=1000, decode_seconds=2.5)
    Manifest("m", "1.0", SPEC, "random", (), ("a", "b"), limits=limits).write(tmp_path, {})
    assert Manifest.load(tmp_path).limits == limits
    path = tmp_path / "model-config.yaml"
    document = yaml.safe_load(path.read_text())
    document["actionrec"]["limits"] = {"streams": 3}
    path.write_text(yaml.safe_dump(document))
    assert Manifest.load(tmp_path).limits == replace(Limits(), streams=3)
    del document["actionrec"]["limits"]
    path.write_text(yaml.safe_dump(document))
    assert Manifest.load(tmp_path).limits == Limits()


@pytest.mark.parametrize("values", [{"pixels": 0}, {"pixels": "9"}, {"pixels": 1.5}, {"top_k": True}, {"x": 1}])
def test_a_wrong_limit_is_refused(values: dict[str, object]) -> None:
    """A limit that is unknown, not a number or not above 0 is an error that names it."""
    with pytest.raises(ValueError, match=next(iter(values))):
        Limits.from_dict(values)


@pytest.mark.parametrize("text", ["pixels", "pixels=many", "nothing=3", "pixels=-1", "pixels=["])
def test_a_wrong_limit_stops_the_build(text: str, tmp_path: Path) -> None:
    """LIMITS is checked before anything is built."""
    from rich.console import Console

    with pytest.raises(ExportError, match="LIMITS="):
        build(Order(model="motion", limits=text, store=tmp_path / "store"), Console(quiet=True))
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"pixels": 160 * 120 - 1}, "TOO_MANY_PIXELS"),
        ({"aspect": 1}, "UNUSUAL_SHAPE"),
        ({"frames": 63}, "TOO_MANY_FRAMES"),
    ],
)
def test_each_holds(change: dict[str, int], code: str) -> None:
    """A clip is refused below what it needs, and decoded at what it needs."""
    with pytest.raises(ClipError, match=code):
        decode(good(), SPEC, limits=Limits.from_dict(change))
    # Of frames some more are looked at than are decoded: they come out of order.
    enough = {name: value + 2 + MAX_REORDER for name, value in change.items()}
    assert decode(good(), SPEC, limits=Limits.from_dict(enough)).source_frames == 64


def test_streams() -> None:
    """As many streams as are allowed are allowed."""
    with Source(many_streams(5), Limits(streams=5)):
        pass
    with pytest.raises(ClipError, match="TOO_MANY_STREAMS"):
        Source(many_streams(5), Limits(streams=4))


def test_the_largest_frame_is_let_in() -> None:
    """3840 x 2160, which the limit is named after, is decoded, with the padding that coders add."""
    video = encode(textured_frames(3840, 2160, 2), options={"preset": "ultrafast"})
    assert decode(video, SPEC).width == 3840


def test_requests() -> None:
    """Bytes, labels and times have their limits where the request is read."""
    limits, labels = Limits(body_bytes=10, top_k=3, seconds=60), [f"label {number}" for number in range(400)]
    assert parse_request({"body": bytes(10), "top_k": "3"}, labels, limits).top_k == 3
    for row, status in (
        ({"body": bytes(11)}, 413),
        ({"body": b"x", "top_k": "4"}, 400),
        ({"body": b"x", "start_seconds": "61"}, 400),
        ({"body": b"x", "end_seconds": "61"}, 400),
    ):
        with pytest.raises(ClipError) as caught:
            parse_request(row, labels, limits)
        assert caught.value.status == status


def test_the_server_takes_what_the_limits_allow() -> None:
    """TorchServe's own limit of a body is that of the archives, so that each of them can be reached."""
    config = (PROJECT / "config.properties").read_text(encoding="utf-8")
    assert f"max_request_size={Limits().body_bytes}" in config
