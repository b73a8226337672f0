"""Colours, and the background textures of scenes, drawn from a seeded generator.

Nothing here moves, and nothing is read from disk: every picture is computed, so the weights can be made again
on a machine without a data set.
"""

from __future__ import annotations

from math import cos, pi, sin

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

TEXTURE_SIDE = 256
"""Edge of a background texture, in pixels."""


def colour(rng: np.random.Generator) -> tuple[int, int, int]:
    """A random RGB colour, 0..255 each: a third are vivid, a third anything, a third near grey."""
    kind = rng.integers(3)
    if kind == 0:
        hue = np.array([[[rng.integers(180), rng.integers(160, 256), rng.integers(130, 256)]]], np.uint8)
        rgb = cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)[0, 0].astype(float)
    elif kind == 1:
        rgb = rng.uniform(0, 256, 3)
    else:
        rgb = rng.uniform(0, 256) + rng.uniform(-20, 20, 3)
    red, green, blue = np.clip(rgb, 0, 255).astype(int).tolist()
    return red, green, blue


def contrasting_colour(
    rng: np.random.Generator, against: NDArray[np.floating], least: float
) -> tuple[int, int, int]:
    """A colour that differs from `against` [3] by at least `least` (0..255) in its most different channel."""
    for _ in range(12):
        candidate = colour(rng)
        if np.abs(np.asarray(candidate) - against).max() >= least:
            return candidate
    return (255, 255, 255) if against.mean() < 128 else (0, 0, 0)


def flat(rng: np.random.Generator) -> Image:
    """One colour: uint8 [TEXTURE_SIDE, TEXTURE_SIDE, 3]."""
    return np.full((TEXTURE_SIDE, TEXTURE_SIDE, 3), colour(rng), np.uint8)


def gradient(rng: np.random.Generator) -> Image:
    """A blend of four corner colours: uint8 [TEXTURE_SIDE, TEXTURE_SIDE, 3]."""
    corners = np.array([[colour(rng), colour(rng)], [colour(rng), colour(rng)]], np.uint8)
    return u8(cv2.resize(corners, (TEXTURE_SIDE, TEXTURE_SIDE), interpolation=cv2.INTER_LINEAR))


def clouds(rng: np.random.Generator) -> Image:
    """1/f noise, the spectrum of natural pictures: uint8 [TEXTURE_SIDE, TEXTURE_SIDE, 3]."""
    slope = rng.uniform(0.45, 0.8)
    total = np.zeros((TEXTURE_SIDE, TEXTURE_SIDE, 3), np.float32)
    saturation = rng.uniform(0.1, 1.0)
    for octave in range(7):
        side = 3 * 2**octave
        noise = rng.standard_normal((side, side, 3)).astype(np.float32)
        grey = noise[..., :1]
        noise = grey + saturation * (noise - grey)
        total += slope**octave * cv2.resize(
            noise, (TEXTURE_SIDE, TEXTURE_SIDE), interpolation=cv2.INTER_CUBIC
        ).astype(np.float32)
    return u8(np.asarray(colour(rng)) + total * rng.uniform(20, 60))


def dead_leaves(rng: np.random.Generator) -> Image:
    """Shapes of power-law sizes that hide one another: uint8 [TEXTURE_SIDE, TEXTURE_SIDE, 3].

    The dead-leaves model has the edges and the scale invariance of photographs.
    """
    picture = clouds(rng) if rng.random() < 0.5 else gradient(rng)
    palette = [colour(rng) for _ in range(rng.integers(3, 9))]
    smallest = rng.uniform(3, 10)
    for _ in range(int(rng.integers(40, 220))):
        radius = min(smallest * (1 - rng.random()) ** -0.7, TEXTURE_SIDE / 3)
        x, y = rng.integers(0, TEXTURE_SIDE, 2).tolist()
        paint = np.asarray(palette[rng.integers(len(palette))]) + rng.uniform(-35, 35, 3)
        rgb = np.clip(paint, 0, 255).tolist()
        if rng.random() < 0.5:
            axes = (max(1, int(radius)), max(1, int(radius * rng.uniform(0.3, 1))))
            cv2.ellipse(picture, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, rgb, -1, cv2.LINE_AA)
        else:
            points = ring(rng.uniform(0, 2 * pi), [radius * rng.uniform(0.6, 1.2) for _ in range(4)])
            polygon(picture, points + np.array([x, y]), rgb)
    if rng.random() < 0.5:
        light = clouds(rng).astype(np.float32)
        picture = u8(picture * (0.6 + 0.4 * light / max(1.0, light.mean())))
    if rng.random() < 0.5:
        picture = u8(cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.5, 3.0)))
    return picture


def pattern(rng: np.random.Generator) -> Image:
    """Stripes, checks or plaid at some angle: uint8 [TEXTURE_SIDE, TEXTURE_SIDE, 3]."""
    period = float(np.exp(rng.uniform(np.log(10), np.log(90))))
    y, x = np.mgrid[:TEXTURE_SIDE, :TEXTURE_SIDE].astype(np.float32)
    angle = rng.uniform(0, pi)
    u = np.sin((x * cos(angle) + y * sin(angle)) * 2 * pi / period)
    v = np.sin((y * cos(angle) - x * sin(angle)) * 2 * pi / period)
    kind = rng.integers(4)
    weight = (np.sign(u), np.sign(u) * np.sign(v), u + v, u)[kind]
    weight = np.clip(weight * 0.5 + 0.5, 0, 1)[..., None]
    return u8(weight * colour(rng) + (1 - weight) * colour(rng))


def ring(start: float, radii: list[float]) -> NDArray[np.float64]:
    """Points, float64 [len(radii), 2], at even angles (radians, from `start`) and the given radii."""
    angles = start + np.arange(len(radii)) * 2 * pi / len(radii)
    return np.asarray(np.stack([np.cos(angles), np.sin(angles)], 1) * np.asarray(radii)[:, None])


def polygon(picture: Image, points: NDArray[np.float64], paint: float | list[float]) -> None:
    """Fill a polygon in place; `points` are float64 [N, 2], in pixels."""
    cv2.fillPoly(picture, [np.rint(points).astype(np.int32)], paint, cv2.LINE_AA)


def u8(values: NDArray[np.generic] | cv2.typing.MatLike) -> Image:
    """Numbers as uint8, clipped to 0..255."""
    array: NDArray[np.generic] = np.asarray(values)
    return array if array.dtype == np.uint8 else np.clip(array, 0, 255).astype(np.uint8)  # type: ignore[return-value]
