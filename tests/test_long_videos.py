"""Promise: the timeline of a long video, sent in parts, is the one that a single request would give."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from actionrec.limits import Limits
from actionrec.sampling import Selection

from actionrec_client import ActionClient, Refused, Timeline
from actionrec_client.timeline.long_video import LongVideo
from testing.media import broken, copied, encode, textured_frames
from tests.conftest import RunningServer
from tests.helpers_cli import actionrec
from tests.helpers_video import spliced

LABELS = ("moving left", "growing", "moving up", "rotating clockwise")
SECONDS_EACH = 4.0


@pytest.fixture(scope="module")
def client(motion_server: RunningServer) -> ActionClient:
    return ActionClient(motion_server.inference_url)


@pytest.fixture(scope="module")
def motions() -> bytes:
    """Four motions of four seconds each, with sound."""
    return spliced(LABELS, SECONDS_EACH)


def in_parts(
    client: ActionClient, source: bytes | Path, selection: Selection, limits: Limits
) -> tuple[Timeline, list[tuple[int, int]]]:
    """The timeline as a client with smaller limits has it sent, and the progress that it told of."""
    steps: list[tuple[int, int]] = []
    video = LongVideo(client, selection, None, 120, 2, lambda *step: steps.append(step), limits=limits)
    return video.timeline(source), steps


def assert_same(got: Timeline, want: Timeline) -> None:
    """All fields are the same; times to 2 ms, scores to a thousandth, and how long it took is not compared."""
    one, other = got.to_dict(), want.to_dict()
    assert set(one.pop("timings_ms")) == set(other.pop("timings_ms"))
    compare(one, other, "reply")


def compare(got: object, want: object, where: str) -> None:
    if isinstance(want, dict):
        assert isinstance(got, dict), where
        assert list(got) == list(want), where
        for name, value in want.items():
            compare(got[name], value, f"{where}.{name}")
    elif isinstance(want, list):
        assert isinstance(got, list), where
        assert len(got) == len(want), where
        for number, pair in enumerate(zip(got, want, strict=True)):
            compare(*pair, f"{where}[{number}]")
    elif isinstance(want, float):
        # The rate of a whole video is the mean of all windows, that of its parts a mean of rounded means.
        tolerance = 0.02 if where.endswith("source_fps") else 2e-3
        assert got == pytest.approx(want, abs=tolerance), where
    else:
        assert got == want, where


@pytest.mark.parametrize(
    "selection",
    [
        Selection(stride_seconds=0.5),
        Selection(1.3, 12.9, stride_seconds=0.7),
        Selection(2.0, crops=3, stride_seconds=2.0),
    ],
    ids=["all of it", "a range", "three crops"],
)
@pytest.mark.parametrize("windows", [3, 7])
def test_parts_make_the_same_timeline(
    client: ActionClient, motions: bytes, selection: Selection, windows: int, tmp_path: Path
) -> None:
    """Windows, labels, scores, segments and means are those of one request, however many windows a part has."""
    path = tmp_path / "motions.mp4"
    path.write_bytes(motions)
    whole = client.timeline(
        motions,
        stride_seconds=selection.stride_seconds or 1,
        start_seconds=selection.start_seconds,
        end_seconds=selection.end_seconds,
        crops=3 if selection.crops == 3 else 1,
    )
    parts, steps = in_parts(client, path, selection, Limits(windows=windows * selection.crops))
    assert_same(parts, whole)
    assert len(steps) == 1 + -(-len(whole.windows) // windows)
    assert steps[-1] == (len(whole.windows), len(whole.windows))


@pytest.fixture(scope="module")
def still_motions(motions: bytes) -> bytes:
    """The same with a key frame a second and no B-frames, so that a damaged second costs no other one."""
    with av.open(io.BytesIO(motions), "r") as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return encode(np.stack(frames).astype(np.uint8), 30, options={"g": "30", "bf": "0", "preset": "veryfast"})


@pytest.mark.parametrize("windows", [3, 7])
@pytest.mark.parametrize("container", ["mp4", "matroska"])
@pytest.mark.parametrize(
    ("first", "last", "missing"),
    [(4.134, 11.0, range(4, 10)), (0.0, 6.0, range(5))],
    ids=["in the middle", "from the start"],
)
def test_a_part_that_cannot_be_decoded(
    client: ActionClient,
    still_motions: bytes,
    container: str,
    first: float,
    last: float,
    missing: range,
    windows: int,
) -> None:
    """Where nothing of a whole part can be decoded, its windows are told as missing, at their times in the
    whole and in the reply's own warnings, as one request tells it.
    """
    damaged = broken(copied(still_motions, container), first, last)
    whole = client.timeline(damaged, stride_seconds=1.0)
    parts, _ = in_parts(client, damaged, Selection(stride_seconds=1.0), Limits(windows=windows))
    assert_same(parts, whole)
    assert [round(window.start_seconds) for window in parts.windows if not window.predictions] == [*missing]
    for number in missing:
        assert [warning.code for warning in parts.windows[number].warnings] == ["WINDOW_MISSING"]
    (told,) = [warning for warning in parts.warnings if warning.code == "WINDOW_MISSING"]
    assert told.message.endswith(f"({len(missing) - 1} windows more.)")


def test_a_file_larger_than_a_request(client: ActionClient, motions: bytes) -> None:
    """A limit of bytes makes smaller parts, and a window that is too large on its own is refused."""
    wanted = client.timeline(motions)
    parts, steps = in_parts(
        client, motions, Selection(stride_seconds=1.0), Limits(body_bytes=len(motions) // 2)
    )
    assert_same(parts, wanted)
    with pytest.raises(Refused) as caught:
        in_parts(client, motions, Selection(stride_seconds=1.0), Limits(windows=2, body_bytes=10_000))
    assert caught.value.code == "TOO_LARGE"
    assert len(steps) >= 2


def test_bytes_of_more_than_a_request(client: ActionClient, motions: bytes) -> None:
    """A long video in memory is cut as one in a file is, and not refused for its size."""
    padding = Limits().body_bytes
    padded = motions + padding.to_bytes(4, "big") + b"free" + bytes(padding - 8)
    assert_same(client.timeline(padded), client.timeline(motions))


def test_what_cannot_be_cut_is_sent_whole(client: ActionClient) -> None:
    """An AVI of more windows than a request may have is sent whole for each part."""
    avi = encode(textured_frames(160, 120, 300), 30, codec="mpeg4", container="avi")
    found = client.timeline(avi, stride_seconds=0.1)
    assert [window.start_seconds for window in found.windows] == pytest.approx(np.arange(79) * 0.1, abs=2e-3)
    some = client.timeline(avi, stride_seconds=0.5)
    assert [w.predictions for w in found.windows[::5]] == [w.predictions for w in some.windows]


class Slow(ActionClient):
    """As a server with large pictures or a slow model: more than six seconds of video take it too long."""

    def post(self, data: bytes, options: Mapping[str, Any], timeout: float | None = None) -> dict[str, Any]:
        start, end = float(options.get("start_seconds") or 0), float(options.get("end_seconds") or 1e9)
        if end - start > 6 and (end < 1e9 or start < 8):
            raise Refused("DECODE_TIMEOUT", 422, "too slow")
        return super().post(data, options, timeout)


def test_a_server_that_is_too_slow_is_asked_for_less(motion_server: RunningServer, motions: bytes) -> None:
    """Where a part takes the server too long, its halves are asked for; the result is the same."""
    slow = Slow(motion_server.inference_url).timeline(motions)
    assert_same(slow, ActionClient(motion_server.inference_url).timeline(motions))


def test_more_than_64_windows(client: ActionClient, motions: bytes) -> None:
    """The server's own limit is met without the user's knowing: motions come back in order."""
    found = client.timeline(motions, stride_seconds=0.2)
    assert len(found.windows) == 70
    assert [segment.label for segment in found.segments] == list(LABELS)
    for number, segment in enumerate(found.segments):
        assert segment.start_seconds == pytest.approx(number * SECONDS_EACH, abs=1.0)


def test_the_command(motion_server: RunningServer, motions: bytes, tmp_path: Path) -> None:
    """Spans as a table, CSV, subtitles, a picture and a labelled video, its sound bit for bit."""
    (tmp_path / "m.mp4").write_bytes(motions)
    outputs = {name: tmp_path / f"out.{name}" for name in ("csv", "srt", "png", "mp4")}
    done = actionrec(
        *("timeline", "m.mp4", "--csv", outputs["csv"], "--srt", outputs["srt"]),
        *("--plot", outputs["png"], "--annotate", outputs["mp4"]),
        server=motion_server,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert [label for line in done.stdout.splitlines() for label in LABELS if label in line] == list(LABELS)
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert [line.split(",")[2] for line in outputs["csv"].read_text().splitlines()[1:]] == list(LABELS)
    blocks = outputs["srt"].read_text().split("\n\n")
    assert blocks[0].startswith("1\n00:00:00,000 --> 00:00:0")
    assert len(blocks) == len(LABELS)
    picture = cv2.imread(str(outputs["png"]))
    assert picture is not None
    assert picture.shape[1] == 1500
    as_json = actionrec("timeline", "m.mp4", "--json", server=motion_server, cwd=tmp_path)
    assert [segment["label"] for segment in json.loads(as_json.stdout)["segments"]] == list(LABELS)

    before, after = _streams(motions), _streams(outputs["mp4"].read_bytes())
    assert after["sound"] == before["sound"]
    assert after["times"] == pytest.approx(before["times"], abs=1e-3)
    # Drawn in the lower left corner, and nowhere else.
    for old, new in ((before["first"], after["first"]), (before["last"], after["last"])):
        difference = np.abs(old.astype(int) - new.astype(int))
        assert difference[-20:, :60].mean() > 10
        assert difference[: 240 // 2].mean() < 3


def _streams(data: bytes) -> dict[str, Any]:
    with av.open(io.BytesIO(data), "r") as container:
        sound = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    with av.open(io.BytesIO(data), "r") as container:
        frames = list(container.decode(video=0))
    pictures = [frames[number].to_ndarray(format="rgb24") for number in (30, -30)]
    times = [frame.time for frame in frames]
    return {"sound": sound, "times": times, "first": pictures[0], "last": pictures[1]}
