"""The clip generator: what demos, tests and calibration rely on."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from actionrec.video.decode import decode
from numpy.typing import NDArray

from motion.__main__ import main
from motion.clips import encode, random_clip
from motion.model import MOTION_SPEC
from motion.recipe import WINDOW_SECONDS, random_scene
from motion.samples import Sample, batch
from motion.scene import LABELS, OPPOSITE, Scene
from motion.sprites import SPRITE_SIDE, Sprite
from tests.conftest import PROJECT

TIMES = np.linspace(0, WINDOW_SECONDS, 8, endpoint=False)


def easy_scene(label: str, seed: int = 1) -> Scene:
    """A bright shape before a dark plain background: the object is what is bright."""
    return random_scene(np.random.default_rng(seed), label, 0.0)


def object_mask(frames: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Bool [T, H, W]: where an easy scene's frames are not background."""
    return np.asarray(frames.max(3) > 90)


def decoded(data: bytes) -> NDArray[np.uint8]:
    """Every frame of a file: uint8 [T, H, W, 3]."""
    with av.open(io.BytesIO(data), "r") as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        return np.stack(frames).astype(np.uint8)


def test_same_seed_same_file() -> None:
    """A clip is the same, byte for byte, for the same arguments, and another for another seed."""
    first, again, other = (random_clip(seed, size=(160, 120), seconds=2.2) for seed in (5, 5, 6))
    assert first == again
    assert first.data != other.data


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9", "mpeg4", "mjpeg"])
def test_a_file_depends_on_no_memory_and_no_process(codec: str) -> None:
    """The same bytes whatever fresh memory holds: an encoder that reads what it has not written shows here."""
    program = (
        "import hashlib, sys; from motion.clips import random_clip\n"
        "for seed in (101, 103): print(hashlib.sha256("
        "random_clip(seed, codec=sys.argv[1], size=(340, 256), seconds=2).data).hexdigest())"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", program, codec],
            cwd=PROJECT,
            env={**os.environ, "MALLOC_PERTURB_": fill},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for fill in ("0", "1", "85")
    ]
    assert len(said[0].split()) == 2
    assert said[1:] == said[:1] * 2


@pytest.mark.parametrize(("width", "height"), [(64, 48), (48, 64), (640, 360)])
def test_render_has_the_size_asked_for(width: int, height: int) -> None:
    """A scene renders at any size as uint8 RGB, one frame an instant."""
    frames = random_scene(np.random.default_rng(0)).render(width, height, TIMES)
    assert frames.shape == (len(TIMES), height, width, 3)
    assert frames.dtype == np.uint8


def test_a_frame_depends_on_its_instant_alone() -> None:
    """Rendering some instants, in any order, gives the same frames as rendering them all."""
    for seed in range(12):
        scene = random_scene(np.random.default_rng(seed))
        np.testing.assert_array_equal(scene.render(48, 32, TIMES)[::-3], scene.render(48, 32, TIMES[::-3]))


def test_unknown_label_is_refused() -> None:
    """A label that the model does not have is an error that names those that it has."""
    with pytest.raises(ValueError, match="moving left"):
        random_scene(np.random.default_rng(0), "jumping")


@pytest.mark.parametrize(
    ("codec", "container"),
    [("libx264", "mp4"), ("libx265", "mp4"), ("libvpx-vp9", "webm"), ("mpeg4", "mp4"), ("mjpeg", "matroska")],
)
def test_encoded_clip_holds_every_frame(codec: str, container: str) -> None:
    """Each encoder gives a file that decodes to as many frames as went in, looking much the same."""
    frames = easy_scene("growing").render(96, 64, np.arange(20) / 10)
    back = decoded(encode(frames, 10, codec=codec, crf=20, container=container))
    assert back.shape == frames.shape
    assert np.abs(back.astype(int) - frames).mean() < 8


def test_odd_sizes_are_refused() -> None:
    """An odd width cannot be subsampled for video and is an error at once."""
    with pytest.raises(ValueError, match="even"):
        encode(np.zeros((4, 32, 33, 3), np.uint8), 10)


def test_the_window_fits_the_recipe() -> None:
    """A clip with no length asked for fills the model's window."""
    for seed in range(3):
        clip = random_clip(seed, codec="libx264", size=(160, 120))
        result = decode(clip.data, MOTION_SPEC)
        assert abs(result.source_frames - WINDOW_SECONDS * clip.fps) <= 1


def test_reversed_clip_has_the_opposite_label() -> None:
    """`reverse` plays the same frames backwards and says so in the label."""
    options = {"codec": "mjpeg", "size": (96, 64), "seconds": 2.2}
    for label, opposite in zip(LABELS, OPPOSITE, strict=True):
        forward = random_clip(3, label, **options)  # type: ignore[arg-type]
        backward = random_clip(3, label, reverse=True, **options)  # type: ignore[arg-type]
        assert backward.label == LABELS[opposite]
        difference = decoded(forward.data)[::-1].astype(int) - decoded(backward.data)
        assert np.abs(difference).max() <= 2


@pytest.mark.parametrize(
    ("label", "axis", "sign"),
    [("moving left", 2, -1), ("moving right", 2, 1), ("moving up", 1, -1), ("moving down", 1, 1)],
)
def test_moving_object_goes_where_its_label_says(label: str, axis: int, sign: int) -> None:
    """The centre of the object moves the labelled way from each instant to the next."""
    for seed in range(4):
        mask = object_mask(easy_scene(label, seed).render(160, 160, TIMES))
        others = tuple(a for a in (1, 2) if a != axis)
        profile = np.asarray(mask.any(others))  # [T, 160]: which columns, or rows, the object covers
        centres = [np.flatnonzero(row).mean() for row in profile]
        assert (np.diff(centres) * sign > 0).all()


@pytest.mark.parametrize(("label", "sign"), [("growing", 1), ("shrinking", -1)])
def test_object_changes_size_as_labelled(label: str, sign: int) -> None:
    """The object's area grows or shrinks from each instant to the next."""
    for seed in range(4):
        areas = object_mask(easy_scene(label, seed).render(160, 160, TIMES)).sum((1, 2))
        assert (np.diff(areas.astype(int)) * sign > 0).all()


@pytest.mark.parametrize(("label", "sign"), [("rotating clockwise", 1), ("rotating counterclockwise", -1)])
def test_object_turns_as_labelled(label: str, sign: int) -> None:
    """A mark on the object's rim goes round its centre the labelled way, as the viewer sees it."""
    mark = np.zeros((SPRITE_SIDE, SPRITE_SIDE, 4), np.uint8)
    mark[8:24, 56:72] = 255
    times = np.linspace(0, WINDOW_SECONDS, 65)
    for seed in range(4):
        scene = easy_scene(label, seed)
        scene = replace(scene, main=replace(scene.main, sprite=Sprite(mark, 1)))
        pose = scene.main.track(times)
        frames = object_mask(scene.render(160, 160, times))
        bearings = []
        for frame, x, y in zip(frames, pose.x, pose.y, strict=True):
            rows, columns = np.nonzero(frame)
            bearings.append(np.arctan2(rows.mean() - 79.5 - 160 * y, columns.mean() - 79.5 - 160 * x))
        # Rows count downwards, so a bearing that grows goes clockwise.
        assert (np.diff(np.unwrap(bearings)) * sign > 0).all()


def test_batch_pairs_each_clip_with_its_reverse() -> None:
    """A training batch's second half is the first backwards, with the opposite labels."""
    rng = np.random.default_rng(0)
    samples = [Sample(rng.integers(0, 256, (32, 8, 8, 3), np.uint8), label) for label in range(8)]
    frames, labels = batch(rng, samples)
    np.testing.assert_array_equal(frames[8:], frames[:8, ::-1])
    np.testing.assert_array_equal(labels[8:], np.array(OPPOSITE)[labels[:8]])


def test_clips_command_names_files_by_label(tmp_path: Path) -> None:
    """``clips`` writes one file a label in turn, with the label in its name."""
    assert main(["clips", "--count", "2", "--seed", "0", "--out", str(tmp_path)]) == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [name.rsplit("-", 1)[0] for name in names] == ["moving-left", "moving-right"]
