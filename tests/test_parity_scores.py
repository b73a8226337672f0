"""Promise: a checkpoint, built and loaded as it is served, gives the scores of the published pipeline."""

import importlib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from actionrec.pipeline import Classifier
from actionrec.reply import Prediction
from actionrec.request import ClipRequest
from actionrec.sampling import Selection
from rich.console import Console
from torch import nn

from export import build, calibrate, zoo
from export.build import Order
from export.samples import calibration_clips
from motion.clips import random_clip
from testing.reference import reference_pathways
from tests.conftest import SHARED_DATA

SEED = 41
STARTS_SECONDS = (0.0, 0.5)
MODELS = {
    "slowfast_r50": "torchscript",
    "slow_r50": "torchscript",
    "x3d_s": "auto",  # compiled, with the portable artifact beside it
    "x3d_m": "torchscript",
}
"""By name, the RUNTIME in which each is built."""
MINUTES = {"slow_r50", "x3d_m"}
"""Those that `make test-slow` tries; `x3d_s`, of one pathway too, is tried each time."""
HUBS = {"slowfast_r50": "slowfast", "slow_r50": "resnet", "x3d_s": "x3d", "x3d_m": "x3d"}
GIVE_PROBABILITIES = {"x3d_s", "x3d_m"}
"""Of pytorchvideo's models, those with a softmax of their own; the others give logits."""


def clips(most_real: int) -> dict[str, bytes]:
    """Generated clips and, where they are at hand, real ones."""
    files = sorted((SHARED_DATA / "real").glob("*.m*"))[:most_real]
    found = {path.name: path.read_bytes() for path in files}
    sizes = ((320, 240), (640, 360), (360, 640))
    return found | {f"generated {w}x{h}": random_clip(w, size=(w, h), codec="libx264").data for w, h in sizes}


def published(name: str) -> nn.Module:
    """Pytorchvideo's own model of that name, in evaluation mode, with fresh weights."""
    hub = importlib.import_module(f"pytorchvideo.models.hub.{HUBS[name]}")
    net: nn.Module = getattr(hub, name)()
    return net.eval()


@torch.no_grad()
def published_scores(name: str, net: nn.Module, pathways: list[torch.Tensor]) -> np.ndarray:
    """Probabilities [classes] of one clip by pytorchvideo's own model, called as its page calls it."""
    batch = [pathway[None] for pathway in pathways]
    output = net(batch if len(batch) > 1 else batch[0])
    probabilities = output if name in GIVE_PROBABILITIES else output.softmax(dim=1)
    scores: np.ndarray = probabilities[0].numpy()
    return scores


@pytest.mark.server
@pytest.mark.parametrize(
    ("name", "runtime"),
    [pytest.param(*each, marks=[pytest.mark.slow] * (each[0] in MINUTES)) for each in MODELS.items()],
)
def test_scores_are_those_of_the_published_pipeline(name: str, runtime: str, tmp_path: Path) -> None:
    """Top-1 is equal on every clip, and no score differs by more than a thousandth."""
    model = zoo.get(name)
    net = published(name)
    calibrated = model.build(model.spec, 400)
    calibrate.randomise(calibrated, SEED)
    calibrate.calibrate(calibrated, model, calibration_clips(model.spec, calibrate.CLIPS, SEED))
    net.load_state_dict(calibrated.state_dict())
    weights = tmp_path / "checkpoint.pth"
    torch.save({"model_state": net.state_dict()}, weights)
    order = Order(runtime=runtime, model=name, weights=str(weights), name="mine", store=tmp_path)
    built = build.build(order, Console(quiet=True))
    assert not built.notice
    zipfile.ZipFile(built.path).extractall(tmp_path / "unpacked")
    classifier = Classifier.load(tmp_path / "unpacked")
    assert classifier.runtime.artifact == built.manifest.artifacts[0]
    labels = set()
    first = name == "slowfast_r50"  # the others differ from it in the model alone
    for file, video in clips(4 if first else 2).items():
        for start in STARTS_SECONDS[: 2 if first and not file.startswith("generated") else 1]:
            (answer,) = classifier.classify([ClipRequest(video, selection=Selection(start))])
            assert isinstance(answer, Prediction)
            expected = published_scores(name, net, reference_pathways(video, built.manifest.spec, start))
            assert answer.scores.argmax() == expected.argmax(), file
            assert abs(answer.scores - expected).max() <= 1e-3, file
            labels.add(int(expected.argmax()))
    assert len(labels) >= 3, "a model that gives all clips one label shows nothing"
