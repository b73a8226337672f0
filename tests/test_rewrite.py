"""Promise: layers that are rewritten for compiled forms compute what the model's own layers do."""

import copy
from collections import Counter

import pytest
import torch
from actionrec.spec import ClipSpec
from torch import nn

from export import calibrate, zoo
from export.rewrite import PairedFrames, TimeFirstPool, rewrite


def rewritten(model: nn.Module, device: str) -> tuple[nn.Module, Counter[type]]:
    """A rewritten copy, and how many layers of each kind it has."""
    copied = copy.deepcopy(model)
    rewrite(copied, device)
    return copied, Counter(type(module) for module in copied.modules())


def random_pathways(spec: ClipSpec) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, 3, frames, spec.crop, spec.crop) for frames in spec.pathways]


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "crop", "pools", "stems"),
    [
        pytest.param("slowfast_r50", 256, 2, 1, marks=pytest.mark.long),
        ("slowfast_r50", 64, 2, 1),
        ("motion", 128, 2, 0),
        ("slow_r50", 64, 1, 0),
        ("x3d_s", 182, 1, 0),
        ("x3d_s", 64, 1, 0),
    ],
)
def test_logits_stay_the_same(name: str, crop: int, pools: int, stems: int) -> None:
    """On a CPU each pathway's head is rewritten, and a fast stem of eight channels; the logits are the same."""
    chosen = zoo.get(name).with_crop(crop)
    model = chosen.build(chosen.spec, len(chosen.labels()))
    calibrate.randomise(model, 0)
    other, layers = rewritten(model, "cpu")
    assert (layers[TimeFirstPool], layers[PairedFrames]) == (pools, stems)
    pathways = random_pathways(chosen.spec)
    expected = model(list(pathways))
    assert float(expected.std()) > 0.1
    torch.testing.assert_close(other(list(pathways)), expected, rtol=1e-4, atol=1e-4)


def test_stem_stays_as_it_is_for_a_gpu() -> None:
    """A GPU has no vector registers to fill."""
    chosen = zoo.get("slowfast_r50")
    _, layers = rewritten(chosen.build(chosen.spec, 400), "cuda")
    assert (layers[TimeFirstPool], layers[PairedFrames]) == (2, 0)


def test_head_for_other_frames_is_an_error() -> None:
    """A head that pools over eight frames does not average sixteen."""
    pool = TimeFirstPool(nn.AvgPool3d((8, 2, 2), stride=(1, 1, 1)))
    with pytest.raises(ValueError, match="8 frames and was given 16"):
        pool(torch.zeros(1, 4, 16, 4, 4))
