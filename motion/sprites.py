"""Sprites: painted cut-out shapes and letters, drawn from a seeded generator."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin

import cv2
import numpy as np
from numpy.typing import NDArray

from motion.textures import Image, clouds, contrasting_colour, dead_leaves, pattern, polygon, ring, u8

SPRITE_SIDE = 128
"""Edge of a sprite, in pixels; `SHAPE_DIAMETER` is the shape's share of it."""
SHAPE_DIAMETER = 0.9
ROUND = 0
"""`Sprite.symmetry` of a shape that looks the same at every angle."""

_FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
)
_LETTERS = "ABCDEFGJKLMPQRTUVWYabdefghkmpqrty2345679?&"


@dataclass(frozen=True, slots=True)
class Sprite:
    """A cut-out picture."""

    rgba: Image
    """uint8 [SPRITE_SIDE, SPRITE_SIDE, 4]; alpha is not premultiplied."""
    symmetry: int
    """Number of turns within 360 degrees that look the same; 1: none, `ROUND`: a plain disc."""


def sprite(
    rng: np.random.Generator,
    against: NDArray[np.floating],
    *,
    plain: bool = False,
    picture: Image | None = None,
) -> Sprite:
    """A random sprite that stands out from the mean background colour `against` (float [3], 0..255).

    Args:
        plain: a filled shape without texture, outline or transparency.
        picture: uint8 [H, W, 3], at least `SPRITE_SIDE` each way; pieces of it are sometimes used as paint.
    """
    mask, symmetry = _text(rng) if rng.random() < 0.15 else _shape(rng)
    if plain:
        fill: Image = np.full((SPRITE_SIDE, SPRITE_SIDE, 3), contrasting_colour(rng, against, 120), np.uint8)
    else:
        fill, fill_symmetry = _fill(rng, against, picture)
        if fill_symmetry != ROUND:
            # A two-fold fill on a three-fold shape repeats only after a full turn.
            symmetry = fill_symmetry if symmetry == ROUND else int(np.gcd(symmetry, fill_symmetry))
        if rng.random() < 0.3:
            width = int(rng.integers(3, 9))
            inner = cv2.erode(mask, np.ones((width, width), np.uint8))[..., None].astype(np.float32) / 255
            fill = u8(fill * inner + np.asarray(contrasting_colour(rng, fill.mean((0, 1)), 80)) * (1 - inner))
        if rng.random() < 0.1:
            mask = u8(cv2.GaussianBlur(mask, (0, 0), rng.uniform(1, 4)))
    opacity = 1.0 if plain or rng.random() < 0.85 else rng.uniform(0.65, 1)
    return Sprite(np.dstack([fill, u8(mask * opacity)]), symmetry)


def blurred(rgba: Image, sigma: float) -> Image:
    """A sprite's picture out of focus, uint8 [side, side, 4]; `sigma` is in its pixels."""
    return u8(cv2.GaussianBlur(rgba, (0, 0), sigma))


def _fill(rng: np.random.Generator, against: NDArray[np.floating], picture: Image | None) -> tuple[Image, int]:
    """Paint for a sprite, uint8 [SPRITE_SIDE, SPRITE_SIDE, 3], and its rotational symmetry."""
    side = SPRITE_SIDE
    first = contrasting_colour(rng, against, 60)
    kind = rng.random()
    if kind < 0.4:
        return np.full((side, side, 3), first, np.uint8), ROUND
    second = contrasting_colour(rng, np.asarray(first), 60)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j].astype(np.float32)
    angle = rng.uniform(0, 2 * pi)
    u, v = x * cos(angle) + y * sin(angle), y * cos(angle) - x * sin(angle)
    symmetry = 1
    if kind < 0.5:  # two halves
        weight = u > rng.uniform(-0.3, 0.3)
    elif kind < 0.57:  # four quarters
        weight, symmetry = (u > 0) ^ (v > 0), 2
    elif kind < 0.65:  # stripes
        weight, symmetry = np.sin(u * rng.uniform(4, 16)) > 0, 1
    elif kind < 0.72:  # shaded
        weight = np.clip(u * 0.6 + 0.5, 0, 1)
    elif kind < 0.8:  # spots
        weight = np.zeros((side, side), bool)
        for _ in range(rng.integers(1, 6)):
            weight |= (x - rng.uniform(-0.7, 0.7)) ** 2 + (y - rng.uniform(-0.7, 0.7)) ** 2 < rng.uniform(
                0.1, 0.35
            ) ** 2
    else:  # a piece of a picture
        whole = (
            (dead_leaves, clouds, pattern, dead_leaves)[rng.integers(4)](rng) if picture is None else picture
        )
        y0, x0 = (int(rng.integers(0, length - side + 1)) for length in whole.shape[:2])
        return np.ascontiguousarray(whole[y0 : y0 + side, x0 : x0 + side]), 1
    mix = np.asarray(weight, np.float32)[..., None]
    return u8(mix * first + (1 - mix) * second), symmetry


def _shape(rng: np.random.Generator) -> tuple[Image, int]:
    """A silhouette, uint8 [SPRITE_SIDE, SPRITE_SIDE], 255 inside, and its rotational symmetry."""
    r = SPRITE_SIDE * SHAPE_DIAMETER / 2
    mask = np.zeros((SPRITE_SIDE, SPRITE_SIDE), np.uint8)
    centre = (SPRITE_SIDE // 2, SPRITE_SIDE // 2)
    kind = rng.integers(14)
    if kind <= 1:
        cv2.circle(mask, centre, int(r), 255, -1, cv2.LINE_AA)
        return mask, ROUND
    if kind == 2:
        cv2.ellipse(mask, centre, (int(r), int(r * rng.uniform(0.35, 0.75))), 0, 0, 360, 255, -1, cv2.LINE_AA)
        return mask, 2
    if kind == 3:  # ring, or an arc of one
        sweep = 360.0 if rng.random() < 0.3 else rng.uniform(100, 300)
        thickness = int(r * rng.uniform(0.25, 0.5))
        radius = int(r - thickness / 2)
        cv2.ellipse(mask, centre, (radius, radius), 0, 0, sweep, 255, thickness, cv2.LINE_AA)
        return mask, ROUND if sweep == 360 else 1
    if kind == 4:  # pie, from a slice to a disc with a bite
        cv2.ellipse(mask, centre, (int(r), int(r)), 0, 0, rng.uniform(100, 320), 255, -1, cv2.LINE_AA)
        return mask, 1
    if kind == 5:  # crescent
        cv2.circle(mask, centre, int(r), 255, -1, cv2.LINE_AA)
        shift = int(r * rng.uniform(0.4, 0.8))
        cv2.circle(mask, (centre[0] + shift, centre[1]), int(r * rng.uniform(0.7, 0.9)), 0, -1, cv2.LINE_AA)
        return mask, 1
    if kind == 6:  # rectangle
        aspect = rng.uniform(0.25, 0.8)
        points, symmetry = np.array([[-1, -aspect], [1, -aspect], [1, aspect], [-1, aspect]]), 2
        points /= np.hypot(1, aspect)
    elif kind == 7:  # square
        points, symmetry = ring(pi / 4, [1.0] * 4), 4
    elif kind == 8:  # regular polygon
        symmetry = int(rng.integers(3, 7))
        points = ring(-pi / 2, [1.0] * symmetry)
    elif kind <= 10:  # star
        symmetry = int(rng.integers(3, 8))
        points = ring(-pi / 2, [1.0, rng.uniform(0.3, 0.65)] * symmetry)
    elif kind == 11:  # arrow
        neck, barb = rng.uniform(0.15, 0.3), rng.uniform(-0.2, 0.3)
        points = np.array(
            [[1, 0], [barb, 0.8], [barb, neck], [-0.9, neck], [-0.9, -neck], [barb, -neck], [barb, -0.8]]
        )
        symmetry = 1
    elif kind == 12:  # cross, or what is left of one: L, T
        w = rng.uniform(0.2, 0.4)
        arms = rng.choice([2, 3, 4])
        points, symmetry = _cross(w, int(arms)), 4 if arms == 4 else 1
    else:  # blob
        phase = rng.uniform(0, 2 * pi, 4)
        swing = rng.uniform(0.05, 0.3, 4)
        radii = [
            1 + sum(s * sin((k + 1) * a + p) for k, (s, p) in enumerate(zip(swing, phase, strict=True)))
            for a in np.linspace(0, 2 * pi, 40, endpoint=False)
        ]
        points, symmetry = ring(0, radii), 1
        points /= np.hypot(*points.T).max()
    polygon(mask, points * r + centre[0], 255)
    return mask, symmetry


def _text(rng: np.random.Generator) -> tuple[Image, int]:
    """One to four letters as a silhouette, uint8 [SPRITE_SIDE, SPRITE_SIDE], and its rotational symmetry."""
    word = "".join(rng.choice(list(_LETTERS), rng.integers(1, 5)))
    font = int(rng.choice(_FONTS))
    thickness = int(rng.integers(2, 7))
    (width, height), below = cv2.getTextSize(word, font, 2.0, thickness)
    canvas = np.zeros((height + below + 16, width + 16), np.uint8)
    cv2.putText(canvas, word, (8, height + 8), font, 2.0, 255, thickness, cv2.LINE_AA)
    if rng.random() < 0.3:  # a sign: letters cut out of a plate
        canvas = np.asarray(255 - canvas, np.uint8)
    scale = SPRITE_SIDE * SHAPE_DIAMETER / np.hypot(*canvas.shape)
    small = cv2.resize(canvas, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    mask = np.zeros((SPRITE_SIDE, SPRITE_SIDE), np.uint8)
    y, x = (SPRITE_SIDE - small.shape[0]) // 2, (SPRITE_SIDE - small.shape[1]) // 2
    mask[y : y + small.shape[0], x : x + small.shape[1]] = small
    return mask, 1


def _cross(w: float, arms: int) -> NDArray[np.float64]:
    """The outline [points, 2] of a plus sign of half-width `w`, or of its first two or three arms."""
    outline = [(w, -w), (1.0, -w), (1.0, w), (w, w), (w, 1.0), (-w, 1.0), (-w, w)]
    if arms >= 3:
        outline += [(-1.0, w), (-1.0, -w)]
    outline += [(-w, -w)]
    if arms >= 4:
        outline += [(-w, -1.0), (w, -1.0)]
    return np.array(outline) * 0.95
