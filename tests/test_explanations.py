"""Promise: embeddings and explanations are those of the scores that come with them, through every way in."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import requests
from actionrec.head import Head
from actionrec.pipeline import Classifier
from actionrec.service import Row, Service
from actionrec.video.decode import decode

from motion.clips import random_clip
from tests.conftest import DEADLINE_SECONDS, RunningServer

CLIP = random_clip(31, "growing", "libx264", size=(320, 240), seconds=4.0)


@pytest.fixture(scope="module")
def service(motion_unpacked: Path) -> Iterator[Service]:
    """The motion model in this process."""
    service = Service(Classifier.load(motion_unpacked))
    yield service
    service.close()


def ask(service: Service, **fields: object) -> dict[str, Any]:
    """The reply to a request for a clip."""
    (reply,) = service.answer([Row({"video": CLIP.data, **fields})])
    assert reply.status == 200, reply.body
    body: dict[str, Any] = json.loads(reply.body)
    return body


def floats(text: str) -> npt.NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(text), "<f4")


def shares_of(view: dict[str, Any]) -> list[npt.NDArray[np.float32]]:
    return [floats(pathway["shares"]).reshape(pathway["shape"]) for pathway in view["pathways"]]


def test_embedding_gives_the_scores(service: Service) -> None:
    """The scores of a reply follow from its embedding and the archive's head, which numpy reads."""
    reply = ask(service, embedding="json", top_k=8)
    head: Head = service.classifier.runtime.head
    logits = head.weight @ np.array(reply["embedding"], np.float32) + head.bias
    scores = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    for prediction in reply["predictions"]:
        assert scores[prediction["class_index"]] == pytest.approx(prediction["score"], abs=1e-5)


def test_embedding_as_numbers_and_as_bytes(service: Service) -> None:
    """Both ways to write an embedding have the same numbers."""
    numbers, text = (ask(service, embedding=way)["embedding"] for way in ("json", "base64"))
    assert np.array_equal(np.array(numbers, np.float32), floats(text))


def test_embeddings_of_a_timeline(service: Service) -> None:
    """Each window has its embedding, and the whole their mean; without the option there is none."""
    reply = ask(service, embedding="json", stride_seconds=0.5, crops=3)
    rows = np.array([entry["embedding"] for entry in reply["timeline"]])
    assert len(rows) > 1
    assert np.allclose(rows.mean(0), reply["embedding"], atol=1e-6)
    without = ask(service, stride_seconds=0.5)
    assert "embedding" not in without
    assert all("embedding" not in entry for entry in without["timeline"])


@pytest.mark.parametrize("label", [True, "moving left"])
def test_shares_add_up(label: object, service: Service) -> None:
    """The bias and all shares of a view are its logit, and the logits of the views give the score."""
    reply = ask(service, explain=label, views=2, crops=3, top_k=8)
    explanation = reply["explanation"]
    assert explanation["label"] == (reply["predictions"][0]["label"] if label is True else label)
    assert [(view["window"], view["crop"]) for view in explanation["views"]] == [
        (window, crop) for window in range(2) for crop in range(3)
    ]
    for view in explanation["views"]:
        shares = shares_of(view)
        total = explanation["bias"] + sum(float(each.sum(dtype=np.float64)) for each in shares)
        assert total == pytest.approx(view["logit"], abs=1e-4)


def test_logit_is_the_models(service: Service) -> None:
    """Logits of all labels, each explained on its own, give the scores."""
    labels = service.classifier.manifest.labels
    logits = np.array([ask(service, explain=label)["explanation"]["views"][0]["logit"] for label in labels])
    scores = np.exp(logits) / np.exp(logits).sum()
    for prediction in ask(service, top_k=8)["predictions"]:
        assert scores[prediction["class_index"]] == pytest.approx(prediction["score"], abs=1e-5)


def test_place_and_time_of_shares(service: Service) -> None:
    """Shares lie on the crop's box in the video, and their steps in the middle of the frames they stand for."""
    spec = service.classifier.manifest.spec
    (view,) = ask(service, explain=True, start_seconds=0.2, end_seconds=1.4)["explanation"]["views"]
    assert view["box"] == pytest.approx([40.0, 0.0, 240.0, 240.0], abs=1.0)
    times = decode(CLIP.data, spec, 0.2, 1.4).frame_seconds
    assert len(times) == spec.num_frames
    for pathway in view["pathways"]:
        seconds = np.array(pathway["seconds"])
        assert len(seconds) == pathway["shape"][0]
        expected = np.array(times).reshape(len(seconds), -1).mean(1)
        assert np.allclose(seconds, expected, atol=1e-3)


@pytest.mark.parametrize("size", [(240, 320), (322, 238), (128, 128)])
@pytest.mark.parametrize("crops", [1, 3])
def test_boxes_stay_inside(size: tuple[int, int], crops: int, service: Service) -> None:
    """Boxes lie inside the video whatever its size; three of them reach both ends of its longer side."""
    clip = random_clip(5, "growing", "mpeg4", size=size).data
    (reply,) = service.answer([Row({"video": clip, "explain": "true", "crops": str(crops)})])
    boxes = [view["box"] for view in json.loads(reply.body)["explanation"]["views"]]
    width, height = size
    for left, top, across, down in boxes:
        assert min(left, top) >= -0.01
        assert left + across <= width + 0.01
        assert top + down <= height + 0.01
        assert max(abs(across - min(size)), abs(down - min(size))) < 3
    if crops == 3:
        assert boxes[0][:2] == [0, 0]
        assert max(boxes[2][0] + boxes[2][2], boxes[2][1] + boxes[2][3]) == pytest.approx(max(size), abs=1)


def test_model_that_averages_probabilities(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where scores are no sums over places, as X3D's, an explanation is refused, and an embedding is not."""
    runtime = service.classifier.runtime
    monkeypatch.setattr(runtime, "head", replace(runtime.head, averages_probabilities=True))
    for row in (Row({"video": CLIP.data, "explain": "true"}), Row({"video": CLIP.data}, explain=True)):
        (reply,) = service.answer([row])
        assert (reply.status, json.loads(reply.body)["error"]["code"]) == (400, "NOT_EXPLAINABLE")
    assert len(ask(service, embedding="json")["embedding"]) == runtime.head.features


def test_maps_of_a_batch(service: Service) -> None:
    """Of requests that are answered together each gets the maps of its own views."""
    clips = [random_clip(seed, "growing").data for seed in (1, 2, 3)]
    alone = [json.loads(service.answer([Row({"video": clip, "embedding": "json"})])[0].body) for clip in clips]
    rows = [
        Row({"video": clip, **({"embedding": "json"} if index != 1 else {})})
        for index, clip in enumerate(clips)
    ]
    together = [json.loads(reply.body) for reply in service.answer(rows)]
    assert "embedding" not in together[1]
    for index in (0, 2):
        assert np.allclose(together[index]["embedding"], alone[index]["embedding"], atol=1e-5)


def test_explanations_over_http(motion_server: RunningServer) -> None:
    """TorchServe's /explanations answers as /predictions does with ``explain``; a label of one's own stays."""
    reply = motion_server.predict(CLIP.data, explain="true").json()
    url = motion_server.inference_url + "/explanations/motion"
    for fields, label in (({}, reply["predictions"][0]["label"]), ({"explain": "shrinking"}, "shrinking")):
        other = requests.post(url, data=fields, files={"video": CLIP.data}, timeout=DEADLINE_SECONDS).json()
        assert other["explanation"]["label"] == label
        assert other["predictions"] == reply["predictions"]
        if not fields:
            assert other["explanation"] == reply["explanation"]
    refused = requests.post(url, data={"views": 9}, files={"video": CLIP.data}, timeout=DEADLINE_SECONDS)
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "OPTION_OUT_OF_RANGE"
