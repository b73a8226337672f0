"""Promise: the Classifier answers many requests at once, each by its own clip, with no server around it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from actionrec.errors import ClipError
from actionrec.pipeline import Classifier
from actionrec.reply import Prediction
from actionrec.request import ClipRequest
from actionrec.sampling import Selection

from motion.clips import random_clip
from motion.scene import LABELS
from testing.media import encode, textured_frames


@pytest.fixture(scope="module")
def classifier(motion_unpacked: Path) -> Classifier:
    """The bundled model, as a library."""
    return Classifier.load(motion_unpacked)


def test_each_request_gets_its_own_answer(classifier: Classifier) -> None:
    """Eight motions in one call come back in order, each with the scores it gets alone."""
    requests = [ClipRequest(random_clip(50 + i, label).data) for i, label in enumerate(LABELS)]
    together = classifier.classify(requests)
    for request, answer in zip(requests, together, strict=True):
        (alone,) = classifier.classify([request])
        assert isinstance(answer, Prediction)
        assert isinstance(alone, Prediction)
        assert np.allclose(answer.scores, alone.scores, atol=1e-5)
        assert answer.scores.sum() == pytest.approx(1.0, abs=1e-5)


def test_a_bad_clip_costs_no_neighbour(classifier: Classifier) -> None:
    """Among good clips a broken one gets its own error, and the others what they get without it."""
    good = ClipRequest(random_clip(7).data)
    bad = ClipRequest(b"no video at all")
    late = ClipRequest(good.video, selection=Selection(1000))
    first, second, third, fourth = classifier.classify([good, bad, late, good])
    assert isinstance(first, Prediction)
    assert isinstance(fourth, Prediction)
    assert np.array_equal(first.scores, fourth.scores)
    assert isinstance(second, ClipError)
    assert second.code == "NOT_A_VIDEO"
    assert isinstance(third, ClipError)
    assert third.code == "START_BEYOND_END"


def test_no_requests(classifier: Classifier) -> None:
    """No requests, no answers."""
    assert classifier.classify([]) == []


def test_a_failing_model_is_an_error_and_not_a_crash(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the model itself fails, each clip of the batch gets a 500 and the next batch is served."""
    request = ClipRequest(encode(textured_frames(160, 120, 70)))

    def fail(_: list[torch.Tensor]) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(classifier.runtime, "compute", fail)
        (answer,) = classifier.classify([request])
        assert isinstance(answer, ClipError)
        assert (answer.code, answer.status) == ("INTERNAL", 500)
        assert "out of memory" not in answer.message
    (answer,) = classifier.classify([request])
    assert isinstance(answer, Prediction)


def test_reply(classifier: Classifier) -> None:
    """A reply has the documented shape, best label first, and as many labels as were asked for."""
    (answer,) = classifier.classify([ClipRequest(random_clip(3, "growing").data)])
    assert isinstance(answer, Prediction)
    reply = classifier.reply(answer, 3)
    assert list(reply) == ["predictions", "clip", "model", "timings_ms", "warnings"]
    scores = [p["score"] for p in reply["predictions"]]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert all(LABELS[p["class_index"]] == p["label"] for p in reply["predictions"])
    assert reply["model"]["name"] == "motion"
    assert reply["model"]["weights"].startswith("sha256:")
    assert set(reply["timings_ms"]) == {"decode", "transform", "inference"}


def test_the_sandbox_changes_no_score(classifier: Classifier, motion_unpacked: Path) -> None:
    """Decoding in children gives the scores and the errors that decoding in the process gives."""
    requests = [ClipRequest(random_clip(80 + i).data) for i in range(3)] + [ClipRequest(b"no video")]
    confined = Classifier.load(motion_unpacked, open_clips=2, sandbox=True)
    try:
        for here, there in zip(classifier.classify(requests), confined.classify(requests), strict=True):
            if isinstance(here, Prediction):
                assert isinstance(there, Prediction)
                assert np.allclose(here.scores, there.scores, atol=1e-5)
            else:
                assert isinstance(there, ClipError)
                assert here.to_dict() == there.to_dict()
        assert confined.describe()["sandbox"]["replaced"] == 0
    finally:
        confined.close()
    assert classifier.describe()["sandbox"] == "off"


@pytest.mark.parametrize(
    ("config", "children"),
    [
        ({"batchSize": 4, "handler": {"sandbox": False}}, None),
        ({"batchSize": 1, "handler": {"sandbox": True}}, 1),
        ({}, 1),
    ],
)
def test_the_archive_says_whether(
    motion_unpacked: Path, config: dict[str, object], children: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`handler.sandbox` in the archive's configuration decides; an archive that is silent is served with it."""
    monkeypatch.syspath_prepend(str(motion_unpacked))
    from slowfast_handler import SlowFastHandler
    from ts.context import Context

    handler = SlowFastHandler()
    handler.initialize(Context("motion", str(motion_unpacked), {}, 1, None, "0.12.0", model_yaml_config=config))
    try:
        sandbox = handler.service.classifier.sandbox
        assert (sandbox.describe()["children"] if sandbox else None) == children
    finally:
        handler.service.close()
