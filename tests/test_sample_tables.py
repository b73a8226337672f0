"""Promise: an MP4 with too many tracks, or more samples than it can have, is refused before FFmpeg opens it."""

from __future__ import annotations

import struct
from unittest.mock import patch

import pytest
from actionrec.errors import ClipError
from actionrec.spec import ClipSpec
from actionrec.video.container import Source
from actionrec.video.decode import decode
from actionrec.video.sample_tables import MOST_TABLES, SPARE, too_many_samples, too_many_tracks

from tests.hostile_files import fragmented, good, many_streams, samples, with_run

SPEC = ClipSpec(short_side=64, crop=64)


def with_equal_sizes(count: int) -> bytes:
    """An MP4 that tells of `count` frames of a byte, of which ten are there."""
    return samples(10, 512).replace(struct.pack(">III", 0, 1, 10), struct.pack(">III", 0, 1, count))


@pytest.mark.parametrize(
    "video",
    [with_run(10_000_000), with_run(50_000, 30), with_run(2**32 - 1), with_equal_sizes(10_000_000)],
    ids=["one run", "many runs", "the largest run", "a table of sizes"],
)
def test_more_than_the_file_has_bytes(video: bytes) -> None:
    """In one table or in many; FFmpeg is not asked."""
    with (
        patch("actionrec.video.container.open_container", side_effect=AssertionError("opened")),
        pytest.raises(ClipError) as caught,
    ):
        Source(video)
    assert (caught.value.code, caught.value.status) == ("TOO_MANY_FRAMES", 413)


def test_more_tracks_than_are_allowed() -> None:
    """They are counted, so that it does not depend on the machine's speed which refusal it is."""
    with (
        patch("actionrec.video.container.open_container", side_effect=AssertionError("opened")),
        pytest.raises(ClipError, match="TOO_MANY_STREAMS"),
    ):
        Source(many_streams(1000))
    assert decode(many_streams(64), SPEC).source_frames == 64
    assert too_many_tracks(many_streams(65), 64)
    assert not too_many_tracks(good() + b"\0\0\0\0trak" * 100, 64), "a name alone is no track"
    assert not too_many_tracks(b"trak" * 100, 64)


def test_what_is_plausible_is_opened() -> None:
    """Good files whole or in fragments, and one whose samples of a byte are all there."""
    for video in (good(), fragmented()):
        assert not too_many_samples(video)
        assert decode(video, SPEC).source_frames == 64
    assert not too_many_samples(samples(2_000_000, 512))
    assert not too_many_samples(with_run(SPARE))


def test_coded_pictures_are_not_searched() -> None:
    """Unless an index may lead FFmpeg there, or the boxes are not in order."""
    run = struct.pack(">4sII", b"trun", 0, 10_000_000)
    mdat = struct.pack(">I4s", 1_016, b"mdat") + run.ljust(1_008, b"\0")
    large = struct.pack(">I4sQ", 1, b"mdat", 1_024) + run.ljust(1_008, b"\0")
    ftyp = struct.pack(">I4s", 16, b"ftyp") + bytes(8)
    for inside in (mdat, large):
        assert not too_many_samples(ftyp + inside)
        assert not too_many_samples(ftyp + inside + ftyp)
        assert too_many_samples(ftyp + inside + run + bytes(4))
        assert too_many_samples(ftyp + inside + struct.pack(">I4s", 16, b"sidx") + bytes(8))
        assert too_many_samples(ftyp + struct.pack(">I", 2) + inside)
        assert too_many_samples((ftyp + inside)[:-10])
        assert too_many_samples(ftyp * 100_000 + inside), "more boxes than are gone through"


def test_a_name_is_not_a_table() -> None:
    """The four letters may stand anywhere in coded pictures; so many that no file has them are not read on."""
    for word in (b"trun", b"stsz"):
        assert not too_many_samples(word + b"\x7f" * 100)
        assert not too_many_samples(word)
        assert not too_many_samples(b"")
        assert too_many_samples((word + b"\xff" * 4) * (MOST_TABLES + 2))
