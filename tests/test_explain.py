"""Promise: an explanation points at what moves, and what it points at is what the score needs."""

from __future__ import annotations

import io
import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from actionrec.sampling import Selection

from actionrec_client import ActionClient, BadReply, Refused
from actionrec_client.deletion import delete
from motion.clips import random_clip
from motion.scene import LABELS
from testing.media import turn
from testing.pointing import by_chance, pointing
from tests.conftest import RunningServer
from tests.helpers_cli import actionrec
from tests.helpers_misbehave import GOOD, Answer, misbehaving

POINTED_AT, DELETED = 40, 16
"""Clips; `benchmarks/explain.py` has more of them, and the figures."""
CLIP = random_clip(11, "moving left", "libx264", size=(320, 240), difficulty=0.2)


@pytest.fixture(scope="module")
def client(motion_server: RunningServer) -> ActionClient:
    return ActionClient(motion_server.inference_url)


def test_the_peak_lies_on_what_moves(client: ActionClient) -> None:
    """In nine of ten ordinary clips the moving object is where and when most speaks for the label; of places
    and times by chance it is in a third.
    """
    clips = [random_clip(5000 + number, LABELS[number % len(LABELS)]) for number in range(POINTED_AT)]
    found = [(client.explain(clip.data), clip) for clip in clips]
    hits = [pointing(explanation, clip) for explanation, clip in found]
    assert np.mean([hit.place for hit in hits]) >= 0.9
    assert np.mean([hit.point for hit in hits]) >= 0.9
    assert np.mean([by_chance(*pair) for pair in found]) < 0.45


def test_what_it_points_at_is_needed(client: ActionClient) -> None:
    """Without the strongest tenth of places and times the score falls twice as much, or more, as without a
    random tenth.
    """
    clips = [random_clip(5100 + number, LABELS[number % len(LABELS)]) for number in range(DELETED)]
    found = [
        delete(client, clip.data, client.explain(clip.data), Selection(), draws=3, seed=number)
        for number, clip in enumerate(clips)
    ]
    drop, random_drop = (np.mean([getattr(one, name) for one in found]) for name in ("drop", "random_drop"))
    assert drop > 0.1
    assert drop >= 2 * random_drop


def test_deletion_is_repeatable(client: ActionClient) -> None:
    """The same seed blanks the same places, and the frames as they are have the score of the clip itself."""
    explanation = client.explain(CLIP.data, views=2, crops=3)
    first, again = (
        delete(client, CLIP.data, explanation, Selection(views=2, crops=3), draws=1, seed=7) for _ in range(2)
    )
    assert first == again
    assert explanation.score is not None
    assert first.score == pytest.approx(explanation.score, abs=0.02)
    with pytest.raises(BadReply, match="Window 0, crop 1"):
        delete(client, CLIP.data, explanation, Selection())


def test_a_typed_explanation(client: ActionClient) -> None:
    """Shares come as arrays; with the bias they are the logit. The label that is asked for is explained."""
    best, other = client.explain(CLIP.data), client.explain(CLIP.data, "growing", crops=3)
    assert (best.label, other.label) == ("moving left", "growing")
    assert best.score == pytest.approx(client.classify(CLIP.data).score)
    assert [view.crop for view in other.views] == [0, 1, 2]
    assert best.pathway_names == ("slow", "fast")
    for explanation in (best, other):
        for view in explanation.views:
            assert [one.shares.dtype for one in view.pathways] == [np.float32, np.float32]
            total = sum(one.shares.sum(dtype=np.float64) for one in view.pathways)
            assert explanation.bias + total == pytest.approx(view.logit, abs=1e-4)
        assert explanation.bias + sum(explanation.pathway_sums()) == pytest.approx(explanation.logit, abs=1e-4)
    with pytest.raises(Refused, match="no label"):
        client.explain(CLIP.data, "archery")


def test_a_server_without_explanations() -> None:
    """A reply that lacks what was asked for is a bad reply that says so."""
    with misbehaving([Answer(body=GOOD)]) as server:
        client = ActionClient(server.url, model="m")
        with pytest.raises(BadReply, match="no explanation"):
            client.explain(CLIP.data)
        for ask in (client.embed, client.embed_windows):
            with pytest.raises(BadReply):
                ask(CLIP.data)


def test_the_command(motion_server: RunningServer, tmp_path: Path) -> None:
    """A video with every frame of the clip, a curve, the sums and the deletion test, in one go."""
    (tmp_path / "clip.mp4").write_bytes(CLIP.data)
    arguments = ("explain", "clip.mp4", "--output", "heat.mp4", "--plot", "when.png", "--check")
    done = actionrec(*arguments, server=motion_server, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    best, sums, peak, score, *wrote = done.stdout.splitlines()
    assert best.startswith("moving left 0.")
    assert "(bias)" in sums
    assert "(slow)" in sums
    assert "most of it from 0:0" in peak
    assert "without the strongest tenth of places" in score
    assert wrote == ["wrote heat.mp4", "wrote when.png"]
    before, after = (_frames((tmp_path / name).read_bytes()) for name in ("clip.mp4", "heat.mp4"))
    assert after[0] == pytest.approx(before[0], abs=1e-3)
    assert after[1] == (240, 320)
    picture = cv2.imread(str(tmp_path / "when.png"))
    assert picture is not None
    assert picture.std() > 5


def test_the_command_as_json(motion_server: RunningServer, tmp_path: Path) -> None:
    """With --json there is the server's reply, and what the check found."""
    (tmp_path / "clip.mp4").write_bytes(CLIP.data)
    options = ("--label", "growing", "--check", "--json")
    done = actionrec("explain", "clip.mp4", *options, server=motion_server, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    reply = json.loads(done.stdout)
    assert (reply["file"], reply["explanation"]["label"]) == ("clip.mp4", "growing")
    assert len(reply["predictions"]) == len(LABELS)
    check = reply["check"]
    assert (check["label"], check["share"], check["draws"]) == ("growing", 0.1, 5)
    assert check["drop"] == pytest.approx(check["score"] - check["without_strongest"], abs=1e-5)
    wrong = actionrec("explain", "clip.mp4", "--label", "gorwing", server=motion_server, cwd=tmp_path)
    assert wrong.returncode == 1
    assert "growing" in wrong.stderr


def test_a_phones_clip(client: ActionClient) -> None:
    """Of a clip that is turned to be shown, the box is in the upright picture, and the peak on the object."""
    clip = random_clip(21, "moving up", "libx264", size=(320, 240), difficulty=0.2)
    explanation = client.explain(turn(clip.data, 90))
    assert explanation.label == "moving right"
    (view,) = explanation.views
    assert list(view.box) == pytest.approx([0, 40, 240, 240], abs=2)
    peak = explanation.peak()
    discs = clip.discs(np.linspace(peak.start_seconds, peak.end_seconds, 5))
    # Turned clockwise, what was (x, y) of 320 x 240 is now (240 - y, x).
    away = np.hypot(240 - discs[:, 1] - peak.x, discs[:, 0] - peak.y)
    assert (away <= discs[:, 2] + 15).any()


def _frames(data: bytes) -> tuple[list[float], tuple[int, int]]:
    with av.open(io.BytesIO(data), "r") as container:
        frames = list(container.decode(video=0))
    return [float(frame.time or 0) for frame in frames], (frames[0].height, frames[0].width)
