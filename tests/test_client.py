"""Promise: the client says of a real server what the server says, and sends it what it was given."""

from pathlib import Path

import numpy as np
import pytest

from actionrec_client import ActionClient, Frames, Refused, Unreachable
from motion.clips import random_clip
from testing.media import textured_frames
from tests.conftest import RunningServer

CLIP = random_clip(11, "moving left")


@pytest.fixture(scope="module")
def client(motion_server: RunningServer) -> ActionClient:
    return ActionClient(motion_server.inference_url)


def test_path_bytes_and_address_mean_the_same(
    client: ActionClient, motion_server: RunningServer, tmp_path: Path
) -> None:
    """A path, a string, bytes, and an address with the model get the reply that a plain request gets."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(CLIP.data)
    plain = motion_server.predict(CLIP.data, top_k=3).json()
    named = ActionClient(motion_server.state.predict_url())
    for answer in (
        client.classify(path, top_k=3),
        client.classify(str(path), top_k=3),
        named.classify(CLIP.data, top_k=3),
    ):
        assert [p.to_dict() for p in answer.predictions] == plain["predictions"]
        assert answer.clip.to_dict() == plain["clip"]
        assert answer.model.to_dict() == plain["model"]
        assert set(answer.to_dict()) == set(plain)
        assert answer.label == CLIP.label
    assert len(client.classify(CLIP.data).predictions) == 5


def test_frames_reach_the_model_as_they_are(client: ActionClient) -> None:
    """Pixels that were never in a file get the answer of a file that holds exactly them."""
    frames = textured_frames(161, 121, 64)
    answer = client.classify(Frames(frames, fps=30))
    assert (answer.clip.width, answer.clip.height, answer.clip.source_frames) == (161, 121, 64)
    assert answer.warnings == ()
    faster = client.classify(Frames(frames, fps=60))
    assert faster.clip.end_seconds == pytest.approx(64 / 60, abs=0.001)
    assert [w.code for w in faster.warnings] == ["SHORT_WINDOW"]


@pytest.mark.parametrize(
    ("pixels", "fps"),
    [
        (np.zeros((0, 8, 8, 3), np.uint8), 30),
        (np.zeros((4, 8, 8), np.uint8), 30),
        (np.zeros((4, 8, 8, 3), np.float32), 30),
        (np.zeros((4, 8, 8, 3), np.uint8), 0),
    ],
)
def test_frames_of_another_shape(pixels: np.ndarray, fps: float) -> None:
    """What are no frames is a ValueError that says what was given."""
    with pytest.raises(ValueError, match="got"):
        Frames(pixels, fps).encode()


def test_a_refused_file(client: ActionClient) -> None:
    """The server's code, status, message and hint come through."""
    with pytest.raises(Refused) as caught:
        client.classify(b"not a video")
    assert (caught.value.code, caught.value.status) == ("NOT_A_VIDEO", 415)
    assert "11 bytes" in caught.value.message
    assert caught.value.hint


def test_many(client: ActionClient) -> None:
    """Clips sent together each get their own answer, the broken one its error."""
    clips = [*(random_clip(70 + i, "moving left").data for i in range(4)), b"broken"]
    alone = {clip: client.classify(clip).label for clip in clips[:4]}
    together = dict(client.classify_many(clips, in_flight=5, top_k=1))
    broken = together.pop(b"broken")
    assert isinstance(broken, Refused)
    assert {clip: getattr(answer, "label", answer) for clip, answer in together.items()} == alone


def test_questions_to_the_server(client: ActionClient) -> None:
    """What is served, whether it is ready, what it is, and how many workers it has."""
    (model,) = client.models()
    assert (model.name, model.workers, model.ready) == ("motion", ("READY",), True)
    assert client.model == "motion"
    assert client.ready()
    assert client.describe()["labels"] == 8
    client.scale(1)
    assert client.models()[0].workers == ("READY",)


def test_a_model_that_is_not_there(motion_server: RunningServer) -> None:
    """Asking for another model is a 404 that says what to do."""
    other = ActionClient(motion_server.inference_url, model="other")
    for ask in (other.ready, other.describe, lambda: other.classify(CLIP.data)):
        with pytest.raises(Refused) as caught:
            ask()
        assert (caught.value.status, caught.value.code) == (404, "ModelNotFoundException")
        assert caught.value.hint


def test_no_management_address(motion_server: RunningServer) -> None:
    """Where the management port cannot be reached, a named model is all that classifying needs."""
    closed = "http://127.0.0.1:1"
    with pytest.raises(Unreachable, match="name the model"):
        _ = ActionClient(motion_server.inference_url, management_url=closed).model
    named = ActionClient(motion_server.inference_url, model="motion", management_url=closed)
    assert named.classify(CLIP.data).label == "moving left"
