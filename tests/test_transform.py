"""Promise: every pathway gets its frames, normalised, in one fresh list, whatever their number."""

import pytest
import torch
from actionrec.model.transform import pack
from actionrec.spec import STEPS_PER_LEVEL, ClipSpec

SIDE = 8


def numbered(count: int, clips: int = 2) -> torch.Tensor:
    """Frames int16 [clips, count, SIDE, SIDE, 3], each as bright as its number says, in whole levels."""
    levels = torch.arange(count, dtype=torch.int16) * STEPS_PER_LEVEL
    return levels.view(1, count, 1, 1, 1).expand(clips, -1, SIDE, SIDE, 3).contiguous()


@pytest.mark.parametrize(
    ("pathways", "picked"),
    [
        ((13,), [list(range(13))]),
        ((2, 8), [[0, 7], list(range(8))]),
        ((4, 8), [[0, 2, 4, 7], list(range(8))]),
        ((1, 3, 9), [[0], [0, 4, 8], list(range(9))]),
        ((4, 4), [list(range(4)), list(range(4))]),
    ],
)
def test_a_tensor_for_each_pathway(pathways: tuple[int, ...], picked: list[list[int]]) -> None:
    """The last pathway has all frames, each slower one its own number of them, evenly spread."""
    spec = ClipSpec(pathways=pathways, short_side=SIDE, crop=SIDE, mean=(0, 0, 0), std=(1 / 255,) * 3)
    packed = pack(numbered(spec.num_frames), spec)
    assert [tuple(pathway.shape) for pathway in packed] == [(2, 3, n, SIDE, SIDE) for n in pathways]
    numbers = [[round(float(frame)) for frame in pathway[1, 2, :, 3, 4]] for pathway in packed]
    assert numbers == picked


def test_channels_have_their_own_mean_and_deviation() -> None:
    """Each of R, G and B is shifted and scaled by its own numbers."""
    spec = ClipSpec(pathways=(1,), short_side=SIDE, crop=SIDE, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125))
    (frames,) = pack(torch.full((1, 1, SIDE, SIDE, 3), 51 * STEPS_PER_LEVEL, dtype=torch.int16), spec)
    for channel, expected in enumerate((0.2, 0.0, -0.8)):
        assert torch.allclose(frames[:, channel], torch.tensor(expected), atol=1e-6)


def test_one_list_serves_one_call() -> None:
    """Two calls share neither the list nor its tensors: models overwrite what they are given."""
    spec = ClipSpec(pathways=(2, 4), short_side=SIDE, crop=SIDE)
    first = pack(numbered(4), spec)
    kept = [pathway.clone() for pathway in first]
    second = pack(numbered(4), spec)
    for pathway in first:
        pathway.zero_()
    assert all(torch.equal(pathway, copy) for pathway, copy in zip(second, kept, strict=True))


@pytest.mark.parametrize(
    "frames", [numbered(4)[:, :3], numbered(4)[0], numbered(4).float(), numbered(4)[:, :, :4]]
)
def test_other_frames_are_refused(frames: torch.Tensor) -> None:
    """Frames of another number, shape or type are an error that says what is needed and what came."""
    spec = ClipSpec(pathways=(2, 4), short_side=SIDE, crop=SIDE)
    with pytest.raises(ValueError, match=r"int16 frames of shape \[B, 4, 8, 8, 3\], got"):
        pack(frames, spec)
