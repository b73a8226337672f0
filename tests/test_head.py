"""Promise: scores, embedding and explanation come from the same maps, and add up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from actionrec.head import HEAD_FILE, Head
from actionrec.model.head import TorchHead
from actionrec.model.transform import pack
from torch import nn

from export import calibrate, zoo
from export.errors import ExportError
from export.split import split

MODELS = ["motion", "slow_r50", "slowfast_r50", "x3d_s"]
LINEAR = MODELS[:-1]


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.long if "r50" in name else ()) for name in MODELS],
)
def network(request: pytest.FixtureRequest) -> tuple[str, nn.Module, torch.Tensor, list[torch.Tensor], Head]:
    """A model by its name, with random weights: its logits on two clips of noise, its maps and its head."""
    model = zoo.get(request.param)
    net = model.build(model.spec, len(model.labels()))
    calibrate.randomise(net, 0)
    spec = model.spec
    shape = (2, spec.num_frames, spec.crop, spec.crop, 3)
    frames = torch.randint(0, 32640, shape, dtype=torch.int16, generator=torch.Generator().manual_seed(0))
    trunk, head = split(net, spec)
    with torch.inference_mode():
        logits, maps = net(pack(frames, spec)), trunk(pack(frames, spec))
    return request.param, net, logits, list(maps), head


Network = tuple[str, nn.Module, torch.Tensor, list[torch.Tensor], Head]


def test_head_gives_the_networks_logits(network: Network) -> None:
    """Maps and head give what the whole network gives, also where it averages probabilities."""
    _, _, logits, maps, head = network
    assert [list(one.shape[1:]) for one in maps] == head.maps.tolist()
    with torch.inference_mode():
        torch.testing.assert_close(TorchHead(head)(maps), logits, atol=1e-5, rtol=1e-5)


def test_embedding_gives_the_logits(network: Network) -> None:
    """A linear head's logits are one product of the embedding with its weights."""
    name, _, logits, maps, head = network
    for row, right in enumerate(logits.numpy()):
        embedding = head.embedding([one[row].numpy() for one in maps])
        assert embedding.dtype == np.float32
        assert embedding.shape == (head.features,)
        assert np.allclose(head.weight @ embedding + head.bias, right, atol=1e-5) is (name in LINEAR)


def test_shares_add_up_to_the_logit(network: Network) -> None:
    """The shares of all places, times and pathways, with the bias, are the logit of each class."""
    name, _, logits, maps, head = network
    clip = [one[1].numpy() for one in maps]
    if name not in LINEAR:
        with pytest.raises(ValueError, match="no sum over places"):
            head.shares(clip, 0)
        return
    for label in (0, len(head.bias) - 1):
        shares = head.shares(clip, label)
        assert [list(one.shape) for one in shares] == head.maps[:, 1:].tolist()
        total = sum(float(one.sum(dtype=np.float64)) for one in shares) + head.bias[label]
        assert total == pytest.approx(float(logits[1, label]), abs=1e-5)


def test_only_the_places_of_an_object_count() -> None:
    """A feature that is on at one place and time has its whole share there."""
    maps = [np.zeros((2, 4, 8, 8), np.float32), np.zeros((1, 8, 8, 8), np.float32)]
    maps[1][0, 5, 3, 2] = 4
    sizes = np.array([one.shape for one in maps])
    head = Head(np.array([[1, 2, 3]], np.float32), np.zeros(1, np.float32), sizes, np.array([7, 7]))
    slow, fast = head.shares(maps, 0)
    assert not slow.any()
    assert np.argwhere(fast).tolist() == [[5, 3, 2]]
    assert fast.max() == pytest.approx(3 * 4 / 8 * head.place_weights()[3, 2])


def test_weights_of_places() -> None:
    """Of an 8 x 8 map with windows of 7 x 7 the middle counts four times as much as a corner."""
    head = Head(
        np.zeros((1, 3), np.float32), np.zeros(1, np.float32), np.array([[3, 1, 8, 8]]), np.array([7, 7])
    )
    weights = head.place_weights()
    assert weights.sum() == pytest.approx(1)
    assert weights[4, 4] == pytest.approx(4 * weights[0, 0])
    assert weights[0, 4] == pytest.approx(2 * weights[0, 0])


def test_file_of_a_head(tmp_path: Path, network: Network) -> None:
    """Numpy reads it, equal heads are equal bytes, and a file without a part is refused by its name."""
    head = network[-1]
    first = head.save(tmp_path).read_bytes()
    again = Head.load(tmp_path)
    for name, right in vars(head).items():
        np.testing.assert_array_equal(getattr(again, name), right)
    assert again.save(tmp_path).read_bytes() == first
    with np.load(tmp_path / HEAD_FILE, allow_pickle=False) as file:
        assert file["weight"].shape == head.weight.shape
    np.savez(tmp_path / HEAD_FILE, weight=head.weight)
    with pytest.raises(ValueError, match=r"head\.npz lacks .*bias"):
        Head.load(tmp_path)
    (tmp_path / HEAD_FILE).unlink()
    with pytest.raises(FileNotFoundError, match="not in the archive"):
        Head.load(tmp_path)


def test_head_that_fits_no_map() -> None:
    """Shapes that do not fit each other are named."""
    maps, bias = np.array([[3, 1, 2, 2]]), np.zeros(2, np.float32)
    with pytest.raises(ValueError, match=r"windows \[7, 7\] do not fit maps"):
        Head(np.zeros((2, 3), np.float32), bias, maps, np.array([7, 7]))
    with pytest.raises(ValueError, match=r"weight \[2, 4\] and bias \[2\] do not fit"):
        Head(np.zeros((2, 4), np.float32), bias, maps, np.array([1, 1]))


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (nn.Sequential(nn.Linear(1024, 8), nn.ReLU()), "ends with"),
        (nn.MaxPool3d(2), "pools with MaxPool3d"),
        (nn.Sigmoid(), "averages Sigmoid"),
    ],
)
def test_network_without_a_linear_head(layer: nn.Module, said: str) -> None:
    """A network that does something else after its last maps is refused, by what it does."""
    model = zoo.get("motion")
    net = model.build(model.spec, 8)
    blocks = net.blocks
    assert isinstance(blocks, nn.ModuleList)
    if isinstance(layer, nn.Sequential):
        blocks[-1].proj = layer
    elif isinstance(layer, nn.MaxPool3d):
        pools = blocks[-2].pool
        assert isinstance(pools, nn.ModuleList)
        pools[0] = layer
    else:
        blocks[-1].activation = layer
    with pytest.raises(ExportError) as refused:
        split(net, model.spec)
    assert said in refused.value.message
