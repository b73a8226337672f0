"""Promise: a checkpoint, built and loaded as it is served, gives the scores of the published pipeline."""

import zipfile
from pathlib import Path

import pytest
import torch
from actionrec.pipeline import Classifier
from actionrec.reply import Prediction
from actionrec.request import ClipRequest
from actionrec.sampling import Selection
from rich.console import Console

from export import build, calibrate, zoo
from export.build import Order
from export.samples import calibration_clips
from motion.clips import random_clip
from testing.reference import reference_pathways
from tests.conftest import SHARED_DATA

SEED = 41
STARTS_SECONDS = (0.0, 0.5)


def clips() -> dict[str, bytes]:
    """Generated clips and, where they are at hand, real ones."""
    files = sorted((SHARED_DATA / "real").glob("*.m*"))[:4]
    found = {path.name: path.read_bytes() for path in files}
    sizes = ((320, 240), (640, 360), (360, 640))
    return found | {f"generated {w}x{h}": random_clip(w, size=(w, h), codec="libx264").data for w, h in sizes}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path]:
    """A full-size SlowFast R50 that tells clips apart, and its file in the form of the published weights."""
    model = zoo.get("slowfast_r50")
    net = model.build(model.spec, 400)
    calibrate.randomise(net, SEED)
    calibrate.calibrate(net, model, calibration_clips(model.spec, calibrate.CLIPS, SEED))
    path = tmp_path_factory.mktemp("weights") / "checkpoint.pth"
    torch.save({"model_state": net.state_dict()}, path)
    return net, path


def test_scores_are_those_of_the_published_pipeline(
    checkpoint: tuple[torch.nn.Module, Path], tmp_path: Path
) -> None:
    """Top-1 is equal on every clip, and no score differs by more than a thousandth."""
    net, weights = checkpoint
    order = Order(
        runtime="torchscript", model="slowfast_r50", weights=str(weights), name="mine", store=tmp_path
    )
    built = build.build(order, Console(quiet=True))
    zipfile.ZipFile(built.path).extractall(tmp_path / "unpacked")
    classifier = Classifier.load(tmp_path / "unpacked")
    labels = set()
    for name, video in clips().items():
        for start in STARTS_SECONDS[: 1 if name.startswith("generated") else 2]:
            (answer,) = classifier.classify([ClipRequest(video, selection=Selection(start))])
            assert isinstance(answer, Prediction)
            pathways = [pathway[None] for pathway in reference_pathways(video, built.manifest.spec, start)]
            with torch.no_grad():
                expected = net(pathways).softmax(dim=1)[0].numpy()
            assert answer.scores.argmax() == expected.argmax(), name
            assert abs(answer.scores - expected).max() <= 1e-3, name
            labels.add(int(expected.argmax()))
    assert len(labels) >= 3, "a model that gives all clips one label shows nothing"
