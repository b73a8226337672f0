"""Promise: a recipe travels whole in archives and descriptions, of older versions too; nonsense is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from actionrec.manifest import Manifest
from actionrec.spec import ClipSpec

from export import zoo

X3D_S = ClipSpec(pathways=(13,), sampling_rate=6, short_side=182, crop=182)
SPECS = [ClipSpec(), X3D_S, ClipSpec(pathways=(2, 8, 32), fps=25.0, crop=224)]

BEFORE_PATHWAYS = {
    "num_frames": 64,
    "sampling_rate": 2,
    "fps": 30.0,
    "short_side": 256,
    "crop": 224,
    "mean": [0.45, 0.45, 0.45],
    "std": [0.225, 0.225, 0.225],
    "alpha": 4,
}
"""A recipe as archives had it when every model was a SlowFast."""


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_survives_the_archive(spec: ClipSpec) -> None:
    """A ClipSpec written to YAML comes back equal."""
    assert ClipSpec.from_dict(yaml.safe_load(yaml.safe_dump(spec.to_dict()))) == spec


def test_frames_and_seconds_follow_from_the_pathways() -> None:
    """Decoding gives the frames of the last pathway, spread over so many at the sampling rate."""
    assert (ClipSpec().num_frames, X3D_S.num_frames) == (32, 13)
    assert ClipSpec().window_seconds == pytest.approx(64 / 30)
    assert X3D_S.window_seconds == pytest.approx(2.6)


def test_archive_from_before_pathways(tmp_path: Path) -> None:
    """The configuration of an older archive loads, and its num_frames and alpha are two pathways."""
    config = {"actionrec": {"name": "m", "version": "1.0", "spec": BEFORE_PATHWAYS, "weights": "", "forms": []}}
    (tmp_path / "model-config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "labels.txt").write_text("one\ntwo\n")
    assert Manifest.load(tmp_path).spec == ClipSpec(pathways=(16, 64), crop=224)


@pytest.mark.parametrize(
    "change", [{"alpha": 0}, {"alpha": 3}, {"alpha": "4"}, {"num_frames": True}, {"num_frames": None}]
)
def test_nonsense_from_before_pathways(change: dict[str, Any]) -> None:
    """An older recipe whose pathways cannot be computed is refused with both numbers."""
    with pytest.raises(ValueError, match=r"num_frames=.* must be a multiple of alpha="):
        ClipSpec.from_dict({**BEFORE_PATHWAYS, **change})


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_description_is_read_by_clients_of_all_versions(spec: ClipSpec) -> None:
    """A description has the fields that older clients read, and a newer server's do not disturb this one."""
    described = spec.describe()
    assert described["num_frames"] * described["sampling_rate"] / described["fps"] == pytest.approx(
        spec.window_seconds
    )
    assert described["alpha"] * spec.pathways[0] == spec.num_frames - spec.num_frames % spec.pathways[0]
    assert described["window_seconds"] == pytest.approx(spec.window_seconds, abs=1e-4)
    assert described["pathways"] == list(spec.pathways)
    assert ClipSpec.from_description({**described, "of_a_later_version": 1}) == spec


def test_description_by_an_older_server() -> None:
    """What a server from before `pathways` says of its SlowFast is read as it was meant."""
    described = {**BEFORE_PATHWAYS, "window_seconds": 4.2667}
    assert ClipSpec.from_description(described) == ClipSpec(pathways=(16, 64), crop=224)


def test_description_that_lacks_something() -> None:
    """A description without a field is refused with that field's name."""
    described = ClipSpec().describe()
    del described["crop"]
    with pytest.raises(ValueError, match=r"missing \['crop'\]"):
        ClipSpec.from_description(described)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("crop", 300),
        ("fps", 0),
        ("mean", (0.4, 0.4)),
        ("std", (0, 1, 1)),
        ("pathways", ()),
        ("pathways", (32, 8)),
        ("pathways", (0, 8)),
        ("pathways", (8.0,)),
        ("pathways", 32),
        ("pathways", "32"),
    ],
)
def test_nonsense_is_refused(field: str, value: object) -> None:
    """A value that no model can eat is refused with the field's name and the value."""
    with pytest.raises(ValueError, match=field):
        ClipSpec(**{field: value})  # type: ignore[arg-type]


def test_other_fields_are_refused() -> None:
    """A configuration with a field too many or too few is refused by name."""
    values = ClipSpec().to_dict()
    with pytest.raises(ValueError, match="colour"):
        ClipSpec.from_dict({**values, "colour": 1})
    del values["pathways"]
    with pytest.raises(ValueError, match="pathways"):
        ClipSpec.from_dict(values)


@pytest.mark.parametrize(
    ("name", "pathways", "sampling_rate", "side", "window_seconds"),
    [
        ("slowfast_r50", (8, 32), 2, 256, 64 / 30),
        ("slowfast_r101", (8, 32), 2, 256, 64 / 30),
        ("slowfast_16x8_r101_50_50", (16, 64), 2, 256, 128 / 30),
        ("slow_r50", (8,), 8, 256, 64 / 30),
        ("x3d_s", (13,), 6, 182, 2.6),
        ("x3d_m", (16,), 5, 256, 80 / 30),
    ],
)
def test_published_recipes(
    name: str, pathways: tuple[int, ...], sampling_rate: int, side: int, window_seconds: float
) -> None:
    """Each published model has the recipe of its page at pytorch.org/hub."""
    spec = zoo.get(name).spec
    assert spec == ClipSpec(
        pathways=pathways,
        sampling_rate=sampling_rate,
        fps=30.0,
        short_side=side,
        crop=side,
        mean=(0.45, 0.45, 0.45),
        std=(0.225, 0.225, 0.225),
    )
    assert spec.window_seconds == pytest.approx(window_seconds)
