"""Promise: Hugging Face's own client and types ask for `video-classification` and read what they expect."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from huggingface_hub import (
    InferenceClient,
    VideoClassificationInput,
    VideoClassificationOutputElement,
    VideoClassificationParameters,
)
from huggingface_hub.errors import HfHubHTTPError

from tests.helpers_contracts import LABELS, NO_VIDEO, TEXT, VIDEO, Served, TellingEngine, post, serve


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serves all tests of this module."""
    with serve(TellingEngine(), tmp_path_factory.mktemp("run")) as served:
        yield served


@pytest.fixture(autouse=True)
def _nothing_asked_yet(gateway: Served) -> None:
    gateway.engine.asked.clear()


def test_hugging_faces_client(gateway: Served) -> None:
    """Their client sends a file as it is, and in base64 where there are parameters; it reads labels and errors.

    It has no method for videos; that for pictures sends and reads the same.
    """
    client = InferenceClient(model=gateway.url)
    found = client.image_classification(VIDEO)
    assert [(each.label, each.score) for each in found] == [
        (LABELS[0], 0.75),
        (LABELS[1], 0.125),
        (LABELS[2], 1024e-6),
    ]
    few = client.image_classification(VIDEO, top_k=1, function_to_apply="softmax")
    assert [each.label for each in few] == [LABELS[0]]
    assert len(client.image_classification(VIDEO, top_k=50)) == 3
    assert [each.options for each in gateway.engine.asked] == [{}, {"top_k": 1}, {"top_k": 3}]
    with pytest.raises(HfHubHTTPError, match=r"NOT_A_VIDEO: The bytes are no video. Send a video"):
        client.image_classification(NO_VIDEO)


def test_hugging_faces_types_of_videos(gateway: Served) -> None:
    """The task's own types go in and come out, with the frames that the model takes and by a model's name."""
    asked = VideoClassificationInput(
        inputs=TEXT, parameters=VideoClassificationParameters(top_k=2, num_frames=32, frame_sampling_rate=2)
    )
    reply = post(f"{gateway.url}/models/kicker", json.loads(json.dumps(asked)))
    found = VideoClassificationOutputElement.parse_obj_as_list(reply.content)
    assert [(each.label, each.score) for each in found] == [(LABELS[0], 0.75), (LABELS[1], 0.125)]
    more = post(f"{gateway.url}/", {"inputs": f"data:video/mp4;base64,{TEXT}", "parameters": {"views": 3}})
    assert more.status_code == 200
    assert gateway.engine.asked[1].options == {"views": 3}
    assert [each.video for each in gateway.engine.asked] == [VIDEO, VIDEO]


@pytest.mark.parametrize(
    "parameters",
    [
        {"function_to_apply": "sigmoid"},
        {"function_to_apply": "twice"},
        {"num_frames": 16},
        {"frame_sampling_rate": 4},
        {"top_k": 0},
        {"top_k": "many"},
        {"speed": 2},
        7,
    ],
)
def test_hugging_faces_parameters_that_would_be_lost_are_refused(gateway: Served, parameters: object) -> None:
    """What the model cannot do is refused in their form, and not left out in silence."""
    reply = post(f"{gateway.url}/", {"inputs": TEXT, "parameters": parameters})
    assert reply.status_code == 400
    assert reply.json().keys() == {"error"}
    assert reply.json()["error"].split(":")[0] in ("BAD_OPTION", "BAD_BODY", "UNKNOWN_OPTION")


@pytest.mark.parametrize(
    "body", [{"inputs": 7}, {"inputs": [TEXT]}, {}, {"inputs": "%"}, {"inputs": "file:///etc/x"}]
)
def test_hugging_faces_inputs_that_are_none(gateway: Served, body: object) -> None:
    """Inputs are base64 or an address, and nothing else."""
    reply = post(f"{gateway.url}/", body)
    assert reply.status_code in (400, 403)
    assert reply.json().keys() == {"error"}
