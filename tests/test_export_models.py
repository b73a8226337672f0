"""Promise: each network is the published one, and takes the user's own checkpoint, labels and crop."""

from __future__ import annotations

import hashlib
import importlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from export import build, cli, zoo
from export.build import Order
from export.errors import ExportError, WeightsError
from tests.fixtures_export import QUIET

pytest_plugins = ("tests.fixtures_export",)
pytestmark = pytest.mark.server


def test_sizes_are_plain_ints() -> None:
    """No stride, padding or kernel is a numpy integer, which would break torch.compile's graph."""
    model = zoo.get("slowfast_r50")
    with torch.device("meta"):
        net = model.build(model.spec, 5)
    for module in net.modules():
        for name in ("stride", "padding", "dilation", "kernel_size"):
            sizes = getattr(module, name, 0)
            assert {type(size) for size in (sizes if isinstance(sizes, tuple) else (sizes,))} <= {int}


@pytest.mark.parametrize(
    ("hub", "name", "parameters"),
    [
        ("slowfast", "slowfast_r50", 34_566_488),
        ("slowfast", "slowfast_r101", 62_826_968),
        ("slowfast", "slowfast_16x8_r101_50_50", 53_774_808),
        ("resnet", "slow_r50", 32_454_096),
        ("x3d", "x3d_s", 3_794_274),
        ("x3d", "x3d_m", 3_794_274),
    ],
)
def test_published_models(hub: str, name: str, parameters: int) -> None:
    """Each model has the names, shapes and pools of pytorchvideo's own, its size and its weights' address."""
    published = importlib.import_module(f"pytorchvideo.models.hub.{hub}")
    model = zoo.get(name)
    with torch.device("meta"):
        ours, theirs = model.build(model.spec, 400), getattr(published, name)()
    shapes = {key: value.shape for key, value in ours.state_dict().items()}
    assert shapes == {key: value.shape for key, value in theirs.state_dict().items()}
    assert pools(ours) == pools(theirs)
    assert f"{model.head}.weight" in shapes
    assert sum(value.numel() for value in ours.parameters()) == parameters
    assert published.checkpoint_paths[name] == zoo.ZOO_URL + model.published_file


def pools(model: nn.Module) -> list[tuple[int, ...]]:
    """Kernels of the average pools."""
    found = [module.kernel_size for module in model.modules() if isinstance(module, nn.AvgPool3d)]
    return [size if isinstance(size, tuple) else (size,) * 3 for size in found]


def test_kinetics_labels() -> None:
    """400 labels in the published weights' order."""
    labels = zoo.kinetics_labels()
    assert len(labels) == len(set(labels)) == 400
    assert (labels[0], labels[5], labels[-1]) == ("abseiling", "archery", "zumba")


def three_classes(name: str, path: Path) -> Path:
    """A user's checkpoint of a model that tells three classes apart."""
    model = zoo.get(name)
    torch.save({"model_state": model.build(model.spec, 3).state_dict(), "epoch": 7}, path)
    return path


@pytest.fixture(scope="module")
def user_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's R50."""
    return three_classes("slowfast_r50", tmp_path_factory.mktemp("user") / "my.pth")


@pytest.mark.parametrize("name", ["slowfast_r50", "x3d_s"])
def test_users_checkpoint_gets_a_head_of_its_own_size(name: str, tmp_path: Path) -> None:
    """WEIGHTS, LABELS and NAME build a user's model, with its labels and its checksum."""
    user_file = three_classes(name, tmp_path / "my.pth")
    (tmp_path / "labels.txt").write_text("run\njump\nsit\n")
    order = Order(
        runtime="torchscript",
        model=name,
        weights=str(user_file),
        labels=tmp_path / "labels.txt",
        name="my_model",
        crop_pixels=32,
        store=tmp_path,
    )
    built = build.build(order, QUIET)
    assert built.path == tmp_path / "my_model.mar"
    assert built.manifest.labels == ("run", "jump", "sit")
    assert built.manifest.weights == f"sha256:{hashlib.sha256(user_file.read_bytes()).hexdigest()}"


@pytest.mark.parametrize(("labels", "numbers"), [("run\njump\n", ("3", "2")), (None, ("3", "400"))])
def test_labels_that_do_not_fit(
    user_file: Path, tmp_path: Path, labels: str | None, numbers: tuple[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Labels of another number than the checkpoint's classes are an error that says both numbers."""
    arguments = ["--weights", str(user_file), "--store", str(tmp_path)]
    if labels:
        (tmp_path / "labels.txt").write_text(labels)
        arguments += ["--labels", str(tmp_path / "labels.txt")]
    assert cli.main(arguments) == 1
    message = capsys.readouterr().err
    assert f"tells {numbers[0]} classes apart" in message
    assert f"has {numbers[1]} labels" in message


def test_weights_of_another_depth(user_file: Path, tmp_path: Path) -> None:
    """R50's weights in a R101 are an error that names what is missing and which models there are."""
    (tmp_path / "labels.txt").write_text("run\njump\nsit\n")
    order = Order(
        runtime="torchscript",
        model="slowfast_r101",
        weights=str(user_file),
        labels=tmp_path / "labels.txt",
        store=tmp_path,
    )
    with pytest.raises(WeightsError, match=r"missing blocks\.3\..* in all\)") as caught:
        build.build(order, QUIET)
    assert "slowfast_r50" in caught.value.hint


def test_weights_of_another_family(user_file: Path, tmp_path: Path) -> None:
    """A SlowFast's weights in an X3D are an error that names the layer that is missing."""
    order = Order(model="x3d_s", weights=str(user_file), store=tmp_path)
    with pytest.raises(WeightsError, match=r"has no blocks\.5\.proj\.weight; its"):
        build.build(order, QUIET)


@pytest.mark.parametrize("crop", [32, 75, 160, 224])
@pytest.mark.parametrize("name", ["slow_r50", "x3d_s", "x3d_m"])
def test_crop_of_models_with_one_pathway(name: str, crop: int) -> None:
    """CROP= makes the same network, with the same weights, for another size; there is a size too small."""
    model = zoo.get(name)
    sized = model.with_crop(crop)
    assert sized.spec == replace(model.spec, crop=crop, short_side=crop)
    with torch.device("meta"):
        frames = [torch.empty(1, 3, count, crop, crop) for count in sized.spec.pathways]
        net = sized.build(sized.spec, 400)
        assert net(frames).shape == (1, 400)
        shapes = {key: value.shape for key, value in model.build(model.spec, 400).state_dict().items()}
    assert {key: value.shape for key, value in net.state_dict().items()} == shapes
    with pytest.raises(ExportError, match="CROP=31 is too small"):
        model.with_crop(31)
