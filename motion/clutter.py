"""Other things that move in a scene: distractors, limbs, ripples of the background.

In real footage, people sway and wave behind the main object, and leaves and water move. These keep to no single
motion throughout the window, or are slower and smaller than the main object; the model must tell them apart by
that.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp, log, pi

import cv2
import numpy as np

from motion import sprites, textures
from motion.scene import Floats, Layer, Pose, Ripple
from motion.sprites import SHAPE_DIAMETER, SPRITE_SIDE, Sprite


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A random number between `low` and `high`, with equal probability for equal ratios."""
    return exp(rng.uniform(log(low), log(max(low, high))))


def swing(rng: np.random.Generator, slowest: float, fastest: float) -> Callable[[Floats], Floats]:
    """A function that goes back and forth, about -1 to 1: seconds, float64 [T] -> float64 [T].

    It is the sum of three sines between `slowest` and `fastest` (cycles a second), so that it repeats itself
    late.
    """
    hertz = np.exp(rng.uniform(log(slowest), log(fastest), (3, 1)))
    phase, weight = rng.uniform(0, 2 * pi, (3, 1)), rng.dirichlet(np.ones(3))[:, None]

    def at(times: Floats) -> Floats:
        return np.asarray((weight * np.sin(2 * pi * hertz * times + phase)).sum(0))

    return at


def distractor(rng: np.random.Generator, mean: Floats, main_size: float) -> Layer:
    """A sprite that stands still, drifts slowly, or sways.

    Args:
        mean: the background's mean colour, float64 [3].
        main_size: diameter of the main object; drifting sprites are smaller.
    """
    sprite = sprites.sprite(rng, mean)
    x, y = rng.uniform(-0.7, 0.7, 2)
    angle = rng.uniform(0, 2 * pi)
    kind = rng.integers(3)
    if kind == 0:
        size = log_uniform(rng, 0.06, 0.5)
        return Layer(sprite, lambda times: Pose.still(times, x, y, angle, size))
    if kind == 1:
        size = log_uniform(rng, 0.05, max(0.08, 0.6 * main_size))
        dx, dy = rng.normal(0, 0.03, 2)
        spin = rng.normal(0, 0.2)
        return Layer(
            sprite,
            lambda times: Pose(x + dx * times, y + dy * times, angle + spin * times, size + 0 * times),
        )
    size = log_uniform(rng, 0.06, 0.5)
    reach, roll, breath = rng.normal(0, 0.04, 2), rng.normal(0, 0.2), rng.normal(0, 0.06)
    if rng.random() < 0.5:
        sprite = Sprite(sprites.blurred(sprite.rgba, rng.uniform(2, 8)), sprite.symmetry)
    across, along, around = (swing(rng, 0.3, 2) for _ in range(3))

    def sway(times: Floats) -> Pose:
        scale = size * (1 + breath * around(times))
        return Pose(
            x + reach[0] * across(times), y + reach[1] * along(times), angle + roll * around(times), scale
        )

    return Layer(sprite, sway)


def limbs(rng: np.random.Generator) -> tuple[Layer, ...]:
    """One to four arms that wave about a joint, in muted colours and slightly out of focus."""
    paint = sprites.blurred(textures.clouds(rng)[:SPRITE_SIDE, :SPRITE_SIDE], 2.0).astype(np.float32)
    grey = paint.mean(2, keepdims=True)
    paint = np.clip(grey + (paint - grey) * rng.uniform(0, 0.6), 0, 255)
    return tuple(_limb(rng, paint.astype(np.uint8)) for _ in range(rng.integers(1, 5)))


def _limb(rng: np.random.Generator, paint: textures.Image) -> Layer:
    half = SPRITE_SIDE // 2
    reach = int(half * SHAPE_DIAMETER)
    mask = np.zeros((SPRITE_SIDE, SPRITE_SIDE), np.uint8)
    cv2.ellipse(mask, (half, half), (reach, int(reach * rng.uniform(0.15, 0.6))), 0, 0, 360, 255, -1)
    shade = np.clip(paint * rng.uniform(0.6, 1.4), 0, 255).astype(np.uint8)
    sprite = Sprite(sprites.blurred(np.dstack([shade, mask]), rng.uniform(1.5, 7)), 1)
    length = log_uniform(rng, 0.12, 0.6)
    joint, wander = rng.uniform(-0.45, 0.45, 2), rng.normal(0, 0.03, 2)
    rest, arc = rng.uniform(0, 2 * pi), rng.gamma(2, 0.35)
    turn, across, along = swing(rng, 0.2, 1.5), swing(rng, 0.2, 1.5), swing(rng, 0.2, 1.5)

    def track(times: Floats) -> Pose:
        angle = rest + arc * turn(times)
        x = joint[0] + wander[0] * across(times) + np.cos(angle) * length / 2
        y = joint[1] + wander[1] * along(times) + np.sin(angle) * length / 2
        return Pose(x, y, angle, np.full_like(times, length))

    return Layer(sprite, track)


def ripple(rng: np.random.Generator) -> Ripple:
    """A patch of the background that bulges back and forth."""
    reach = rng.normal(0, 0.025 if rng.random() < 0.6 else 0.06, 2)
    return Ripple(
        centre=(float(rng.uniform(-0.5, 0.5)), float(rng.uniform(-0.5, 0.5))),
        radius=log_uniform(rng, 0.06, 0.45),
        reach=(float(reach[0]), float(reach[1])),
        cycles_per_second=log_uniform(rng, 0.2, 2.0),
        phase=float(rng.uniform(0, 2 * pi)),
    )
