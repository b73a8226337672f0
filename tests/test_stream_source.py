"""Promise: the times of a stream's frames are right whatever its source does with them."""

from __future__ import annotations

import io
import threading
from contextlib import suppress
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from actionrec_client.live import source as source_module
from actionrec_client.live.source import Arrival, Source, SourceError
from testing import media
from tests.helpers_http import FileServer, serve
from tests.helpers_slow import jpeg_camera, live_http


def _arrivals(text: str, max_lag_seconds: float = 60.0) -> tuple[list[Arrival], float]:
    """All frames of a source until it ends or hangs up, and the seconds of one of their ticks."""
    arrivals: list[Arrival] = []
    with Source(text, max_lag_seconds=max_lag_seconds).open(threading.Event()) as connection:
        with suppress(SourceError):
            arrivals.extend(connection.frames())
        return arrivals, float(connection.time_base)


def test_a_camera_that_sends_jpegs() -> None:
    """It says nothing of times, so those of arrival count: ten a second are not taken for 25."""
    pictures = [cv2.imencode(".jpg", frame)[1].tobytes() for frame in media.textured_frames(160, 120, 20)]
    with jpeg_camera(pictures, 0.1) as url:
        arrivals, tick = _arrivals(url)
    assert len(arrivals) >= 15
    steps = np.diff([arrival.ticks for arrival in arrivals[-10:]]) * tick
    assert np.median(steps) > 0.08


@pytest.mark.long
def test_a_way_that_becomes_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames that are late for good are taken up again, after a gap: nothing is dropped for ever."""
    monkeypatch.setattr(source_module, "_CATCH_UP_SECONDS", 1.0)
    video = media.encode(
        media.textured_frames(160, 120, 150), 30, container="mpegts", options={"g": "15", "bf": "0"}
    )
    with live_http(video, 5, delay_seconds=1.5) as url:
        arrivals, _ = _arrivals(url, max_lag_seconds=0.7)
    gaps = [index for index, arrival in enumerate(arrivals) if arrival.gap]
    assert gaps
    assert len(arrivals) - gaps[0] >= 10, "frames go on coming after it"
    assert arrivals[-1].lag_seconds < 0.7


def test_a_file_plays_at_its_own_speed(tmp_path: Path) -> None:
    """No frame of a file comes before its time, all come, and a leap of an hour is not waited for."""
    times = [index / 30 + (3600.0 if index >= 30 else 0.0) for index in range(60)]
    path = tmp_path / "leap.mp4"
    path.write_bytes(media.encode(media.textured_frames(64, 64, 60), 30, times=times))
    arrivals, tick = _arrivals(str(path))
    assert len(arrivals) == 60
    assert [index for index, arrival in enumerate(arrivals) if arrival.gap] == [30]
    for part in (arrivals[:30], arrivals[30:]):
        played = part[-1].arrived - part[0].arrived
        assert played >= (part[-1].ticks - part[0].ticks) * tick - 0.01


def test_a_transfer_that_is_cut() -> None:
    """An MP4 whose transfer is cut in the middle goes on from there."""
    video = media.encode(media.textured_frames(160, 120, 60), 30)
    with serve(FileServer({"a.mp4": video}, cut_after_bytes=len(video) // 2, cuts=1)) as web:
        arrivals, _ = _arrivals(web.url + "a.mp4")
    assert len(arrivals) == 60
    assert len(web.requested_ranges) > 1


def test_hls(tmp_path: Path) -> None:
    """A playlist and its segments are one stream, played at its own speed."""
    video = media.encode(media.textured_frames(160, 120, 75), 30, options={"g": "15", "bf": "0"})
    playlist = str(tmp_path / "list.m3u8")
    options = {"hls_time": "1", "hls_playlist_type": "vod"}
    with (
        av.open(io.BytesIO(video), "r") as source,
        av.open(playlist, "w", format="hls", options=options) as out,
    ):
        copy = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = copy
                out.mux(packet)
    with serve(FileServer({path.name: path.read_bytes() for path in tmp_path.iterdir()})) as web:
        arrivals, tick = _arrivals(web.url + "list.m3u8")
    assert len(web.requested_ranges) >= 3
    assert len(arrivals) == 75
    assert arrivals[-1].arrived - arrivals[0].arrived >= (arrivals[-1].ticks - arrivals[0].ticks) * tick - 0.01


def test_reading_can_be_stopped(tmp_path: Path) -> None:
    """A file that waits for its next frame ends when it is told to."""
    path = tmp_path / "slow.mp4"
    path.write_bytes(media.encode(media.textured_frames(64, 64, 3), 30, times=[0.0, 0.1, 50.0]))
    stop = threading.Event()
    with Source(str(path)).open(stop) as connection:
        threading.Timer(0.5, stop.set).start()
        assert len(list(connection.frames())) == 2
