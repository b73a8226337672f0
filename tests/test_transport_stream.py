"""Promise: a transport stream that names more programs than a clip has is refused before FFmpeg looks at it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from unittest.mock import patch

import numpy as np
import pytest
from actionrec.errors import ClipError
from actionrec.limits import DEFAULT_LIMITS, Limits
from actionrec.spec import ClipSpec
from actionrec.video.container import Source
from actionrec.video.decode import decode
from actionrec.video.transport_stream import MOST_TABLES, is_transport_stream, programs

from testing.media import encode, program_tables, textured_frames
from tests.hostile_files import good

SPEC = ClipSpec(short_side=64, crop=64)
CLIP = encode(textured_frames(96, 64, 70), container="mpegts", options={"g": "10"})


def spaced(stream: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    """A transport stream with other bytes around each packet: M2TS has 4 before, error correction 16 after."""
    return b"".join(before + stream[k : k + 188] + after for k in range(0, len(stream), 188))


def refused(video: bytes) -> None:
    with pytest.raises(ClipError) as caught:
        Source(video)
    assert (caught.value.code, caught.value.status) == ("TOO_MANY_STREAMS", 422)


@pytest.mark.parametrize("sizes", [[40] * 205, [65], [1] * 65, [253], [40, 25]], ids=str)
def test_too_many_programs(sizes: Sequence[int]) -> None:
    """In few large tables or many small ones, more than 64 are refused; FFmpeg is not asked."""
    video = program_tables(sizes) + CLIP
    with patch("actionrec.video.container.open_container", side_effect=AssertionError("opened")):
        refused(video)
        refused(spaced(video, before=bytes(4)))
        refused(spaced(video, after=bytes(16)))
        refused(CLIP + video)


def test_tables_off_the_grid() -> None:
    """FFmpeg finds a packet behind any number of other bytes, and so does the count."""
    tables = program_tables([40] * 3)
    hidden = b"".join(b"\x00" * 77 + tables[k : k + 188] for k in range(0, len(tables), 188))
    refused(CLIP[: 188 * 10] + hidden + CLIP[188 * 10 :])


def test_tables_that_are_split() -> None:
    """A section that begins at the very end of a packet, or behind an adaptation field, is not overlooked."""
    sync, rest = b"\x47\x40\x00", bytes(4)
    late = sync + b"\x10" + bytes([181]) + b"\xff" * 181 + b"\x00\xb1"
    field = (
        sync + b"\x30" + bytes([20]) + b"\x00" * 20 + b"\x00" + struct.pack(">BHHBBB", 0, 0xB3FD, 1, 0xC1, 0, 0)
    )
    for packet in (late, field):
        refused(packet.ljust(188, b"\xff") + CLIP)
    assert programs(sync + b"\x20" + rest, 64) == 0, "a packet without a payload, cut short"


def test_what_is_plausible_is_opened() -> None:
    """64 programs, the same tables ten times a second for hours, or other versions of them, are no reason."""
    several = program_tables([40, 23])
    assert programs(several + CLIP, 64) == 64
    assert decode(several + CLIP, SPEC).source_frames == 64
    assert programs(program_tables([3]) * 5_000 + CLIP, 64) == 4
    assert programs(CLIP, 64) == 1
    refused_here = Limits(streams=3)
    with pytest.raises(ClipError, match="TOO_MANY_STREAMS"):
        Source(several + CLIP, refused_here)


def test_more_tables_than_a_clip_has() -> None:
    """They are not looked through to the end."""
    assert programs(program_tables([1]) * (MOST_TABLES + 1), 64) == 65
    assert programs(b"\x47\x40\x00" * (MOST_TABLES * 2), 64) == 65


def test_what_is_a_transport_stream() -> None:
    """Packets in a row, near the beginning. Other files are not, and FFmpeg is not to think so."""
    for video in (
        CLIP,
        CLIP[100:],
        bytes(1_000) + CLIP,
        spaced(CLIP, b"\0" * 4),
        spaced(CLIP, after=b"\0" * 16),
    ):
        assert is_transport_stream(video)
        assert decode(video, SPEC).source_frames > 50
    for other in (b"", b"\x47", b"\x47" * 100, good(), np.random.default_rng(0).bytes(200_000)):
        assert not is_transport_stream(other)
    with pytest.raises(ClipError) as caught:
        decode(bytes(200_000) + program_tables([40] * 100), SPEC)
    assert caught.value.status == 415


@pytest.mark.parametrize("seed", range(20))
def test_any_bytes(seed: int) -> None:
    """Random bytes full of sync bytes raise nothing."""
    rng = np.random.default_rng(seed)
    data = rng.choice([0x47, 0x40, 0x00, 0x10, 0x30, 0xFF, 0xB0], 5_000).astype(np.uint8).tobytes()
    for cut in (0, 1, 5, 187, 188, 4_999):
        assert 0 <= programs(data[: 5_000 - cut], DEFAULT_LIMITS.streams) <= DEFAULT_LIMITS.streams + 1
        is_transport_stream(data[cut:])
