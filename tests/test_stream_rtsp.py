"""Promise: a live stream that breaks off is taken up again, its gaps are told, and nothing grows meanwhile."""

import os
import signal
import statistics
from typing import Any

import pytest

from tests.conftest import RunningServer
from tests.streams import RtspServer, StreamCommand

MEMORY_MB = 40
"""By so much the allocator may hold more at the end than when all was warm."""


def test_a_camera_that_dies_three_times(motion_server: RunningServer) -> None:
    """Each death is one gap with its length and reason; predictions go on after it, and memory stays flat."""
    url = motion_server.state.predict_url("motion")
    with RtspServer() as camera, StreamCommand(camera.url, "--url", url, "--interval", "0.5") as command:
        command.wait_for("result", 4)
        before = command.megabytes
        for death in range(1, 4):
            camera.kill()
            assert "rtsp://127.0.0.1" in command.wait_for("lost", death)["reason"]
            camera.start()
            gap = command.wait_for("gap", death)
            assert gap["seconds"] > 0
            assert gap["attempts"] >= 1
            assert gap["reason"]
            command.wait_for("result", len(command.of("result")) + 3)
        assert command.megabytes < before + MEMORY_MB
        command.process.terminate()
        assert command.finish() == 0
        summary = command.of("summary")[0]
        assert (summary["gaps"], summary["errors"], summary["reason"]) == (3, 0, "SIGTERM")
        _check_windows(command.events)


def test_a_camera_that_falls_silent(motion_server: RunningServer) -> None:
    """A peer that holds the connection and sends nothing is noticed by the time-out, and taken up again."""
    url = motion_server.state.predict_url("motion")
    with RtspServer() as camera, StreamCommand(camera.url, "--url", url, "--timeout", "2") as command:
        command.wait_for("result")
        camera.freeze()
        command.wait_for("lost")
        camera.thaw()
        assert command.wait_for("gap")["seconds"] > 1
        command.wait_for("result", len(command.of("result")) + 1)
        camera.freeze()
        command.process.send_signal(signal.SIGINT)
        assert command.finish() == 0, "a read that hangs does not keep the program"


def test_a_camera_that_stays_away(motion_server: RunningServer) -> None:
    """With --give-up the command ends with exit code 4 and says for how long it has tried."""
    url = motion_server.state.predict_url("motion")
    with RtspServer() as camera, StreamCommand(camera.url, "--url", url, "--give-up", "2") as command:
        command.wait_for("result")
        camera.kill()
        assert command.finish() == 4
    assert "Given up after" in command.errors


def test_a_quarter_of_a_minute_of_a_stream(motion_server: RunningServer) -> None:
    """Memory and lag are flat: what `make stream-soak` shows for longer."""
    _soak(motion_server, minutes=0.25)


@pytest.mark.slow
def test_many_minutes_of_a_stream(motion_server: RunningServer) -> None:
    """Memory and lag are flat over MINUTES (10 by default)."""
    _soak(motion_server, minutes=float(os.environ.get("MINUTES", "10")))


def _soak(server: RunningServer, minutes: float) -> None:
    """Watch a stream; memory and lag after a fifth of the time and at the end must be about the same."""
    results = round(minutes * 60)  # one a second
    marks = (results // 5, results)
    url = server.state.predict_url("motion")
    memory, results_at = [], []
    with RtspServer() as camera, StreamCommand(camera.url, "--url", url, "--interval", "1") as command:
        for mark in marks:
            while len(command.of("result")) < mark:
                seen = command.of("result")
                skipped = seen[-1]["windows_skipped"] if seen else 0
                if len(seen) + skipped >= mark:
                    break
                command.wait_for("result", len(seen) + 1)
            memory.append(command.megabytes)
            results_at.append(command.of("result")[-10:])
        command.process.terminate()
        assert command.finish() == 0
    early, late = (
        [statistics.median(event[name] for event in part) for name in ("lag_seconds", "age_seconds")]
        for part in results_at
    )
    summary = command.of("summary")[0]
    # For whoever runs it with -s, as `make stream-soak` does.
    print(  # noqa: T201
        f"\n{minutes:g} minutes: RSS {memory[0]:.1f} -> {memory[1]:.1f} MB, "
        f"lag {early[0]:.3f} -> {late[0]:.3f} s, age {early[1]:.3f} -> {late[1]:.3f} s\n{summary}"
    )
    assert memory[1] < memory[0] + MEMORY_MB
    assert late[0] < 0.5  # the bound at which frames are dropped: --max-lag
    assert summary["errors"] == 0
    _check_windows(command.events)
    # The stream's time keeps step with the wall clock: nothing waits in a queue that grows.
    last = command.of("result")[-1]["window"]["end_seconds"]
    assert last == pytest.approx(summary["seconds"], abs=20)


def _check_windows(events: list[dict[str, Any]]) -> None:
    """Every window is whole, they come in order, and none spans a gap."""
    windows = [event["window"] for event in events if event["type"] == "result"]
    spans = [(window["start_seconds"], window["end_seconds"]) for window in windows]
    assert spans == sorted(spans)
    assert all(end - start == pytest.approx(64 / 30, abs=0.01) for start, end in spans)
    for gap in (event for event in events if event["type"] == "gap"):
        broken = [
            span for span in spans if span[0] < gap["end_seconds"] and span[1] > gap["start_seconds"] + 0.1
        ]
        assert not broken, (gap, broken)
