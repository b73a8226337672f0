"""Random scenes: the motion, the object, the background, and how hard the motion is to see.

`difficulty` runs from 0 (a bright plain shape moves fast before a dark plain background) to 1 (everything that
the model must withstand). Training starts at 0: started with full variety, the network memorises, and stays at
chance on new clips.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp, pi

import numpy as np

from motion import sprites, textures
from motion.backdrops import Backdrops
from motion.clutter import distractor, limbs, log_uniform, ripple
from motion.scene import LABELS, Floats, Layer, Light, Pose, Scene, Track
from motion.sprites import ROUND
from motion.textures import Image

WINDOW_SECONDS = 64 / 30
"""The span that speeds are drawn for: one window of the model."""
SAMPLES_PER_SECOND = 15.0
"""Frames that the model sees of each second; no turn between two of them may exceed half a symmetry."""

_FOOTAGE_SHARE = 0.45
"""Share of backgrounds that are real video, where there is any."""

Progress = Callable[[Floats], Floats]
"""Seconds (float64 [T]) -> finished share of the motion, 0 to 1, never decreasing."""


def random_scene(
    rng: np.random.Generator,
    label: str | None = None,
    difficulty: float = 1.0,
    *,
    seconds: float = WINDOW_SECONDS,
    fps: float = 30.0,
    backdrops: Backdrops | None = None,
) -> Scene:
    """Draw a scene.

    Args:
        label: one of `LABELS`; None: a random one.
        difficulty: 0 to 1.
        seconds: duration of the motion, which fills the whole clip.
        fps: the clip's frame rate, which limits how fast a symmetric shape may turn.
        backdrops: real videos, for some of the backgrounds.

    Raises:
        ValueError: the label is unknown.
    """
    if label is None:
        label = LABELS[rng.integers(len(LABELS))]
    if label not in LABELS:
        raise ValueError(f"label must be one of {', '.join(LABELS)}; got {label!r}")

    def hard(probability: float) -> bool:
        return bool(rng.random() < probability * difficulty)

    footage, picture = None, None
    if backdrops is not None and rng.random() < _FOOTAGE_SHARE:
        footage, picture = backdrops.draw(rng), backdrops.picture(rng)
    texture = _texture(rng, hard)
    mean = (texture if footage is None else footage(0.0, 32, 32)).mean((0, 1))
    main, size = _main(rng, label, mean, difficulty, seconds, fps, hard, picture)
    ripples = tuple(ripple(rng) for _ in range(rng.integers(1, 5))) if hard(0.45) else ()
    below = limbs(rng) if hard(0.4) else ()
    if hard(0.5):
        below += tuple(distractor(rng, mean, size) for _ in range(rng.integers(1, 5)))
    above = (distractor(rng, mean, size * 0.6),) if hard(0.1) else ()
    return Scene(
        label=label,
        texture=texture,
        background=_camera(rng, hard),
        main=main,
        below=below,
        above=above,
        ripples=ripples,
        light=_light(rng, seconds, hard),
        noise=float(rng.gamma(1.5, 3.5)) if hard(0.4) else 0.0,
        blur=float(rng.uniform(0.002, 0.012)) if hard(0.2) else 0.0,
        noise_seed=int(rng.integers(2**31)),
        footage=footage,
    )


def _main(
    rng: np.random.Generator,
    label: str,
    mean: Floats,
    difficulty: float,
    seconds: float,
    fps: float,
    hard: Callable[[float], bool],
    picture: Image | None,
) -> tuple[Layer, float]:
    """The main object, and its typical diameter in lengths of the frame's shorter side."""
    sprite = sprites.sprite(rng, mean, plain=not hard(0.75), picture=picture)
    while label.startswith("rotating") and sprite.symmetry == ROUND:
        sprite = sprites.sprite(rng, mean, plain=not hard(0.75), picture=picture)
    progress = _progress(rng, seconds, hard)
    x, y = rng.uniform(-0.36, 0.36, 2) * (0.4 + 0.6 * difficulty)
    angle = rng.uniform(0, 2 * pi) if rng.random() < 0.6 else float(rng.normal(0, 0.1))
    dx, dy = rng.uniform(-0.04, 0.04, 2) * difficulty
    turn = rng.uniform(-0.25, 0.25) * difficulty
    growth = exp(rng.uniform(-0.08, 0.08) * difficulty)
    size = log_uniform(rng, 0.25 - 0.17 * difficulty, 0.5 + 0.1 * difficulty)
    windows = seconds / WINDOW_SECONDS
    if label.startswith("moving"):
        travel = log_uniform(rng, 0.5 - 0.39 * difficulty, 0.8 + (0.9 if hard(0.3) else 0.0)) * windows
        if windows > 1.2:
            travel = min(travel, 1.3)  # a slow object stays in sight until the clip's end
        middle = rng.uniform(-1, 1) * max(0.12, 0.5 - travel / 2)
        sign = 1 if label in ("moving right", "moving down") else -1
        if label in ("moving left", "moving right"):
            x, dx = middle - sign * travel / 2, sign * travel
        else:
            y, dy = middle - sign * travel / 2, sign * travel
    elif label.startswith("rotating"):
        size = max(size, log_uniform(rng, 0.12, 0.5))
        steepest = float(np.diff(progress(np.linspace(0, seconds, 61))).max() * 60)
        fastest = 0.33 * 360 / sprite.symmetry * min(SAMPLES_PER_SECOND, fps) / max(1.0, steepest)
        degrees = min(log_uniform(rng, 60 + 60 * (1 - difficulty), 500), fastest) * seconds
        turn = np.deg2rad(degrees) * (1 if label == "rotating clockwise" else -1)
    else:
        growth = log_uniform(rng, max(1.3, 2.2 - 0.9 * difficulty) ** min(windows, 2.0), 5.0)
        small = log_uniform(rng, 0.07, min(0.6, 0.95 / growth))
        size, growth = (small, growth) if label == "growing" else (small * growth, 1 / growth)
    wobble = rng.uniform(0, 0.012) * difficulty if hard(0.3) else 0.0
    hertz, phase = rng.uniform(0.5, 3), rng.uniform(0, 2 * pi)
    linear = rng.random() < 0.5

    def track(times: Floats) -> Pose:
        done = progress(times)
        swing = wobble * np.sin(2 * pi * hertz * times + phase)
        scale = 1 + (growth - 1) * done if linear else growth**done
        return Pose(x + dx * done + swing, y + dy * done - swing, angle + turn * done, size * scale)

    shadow = float(rng.uniform(0.2, 0.6)) if hard(0.12) else 0.0
    return Layer(sprite, track, shadow), size * growth**0.5


def _progress(rng: np.random.Generator, seconds: float, hard: Callable[[float], bool]) -> Progress:
    """How the motion proceeds: steadily, or easing, speeding up, slowing down, starting late."""
    start, end = 0.0, seconds
    if hard(0.25):
        start, end = rng.uniform(0, 0.25) * WINDOW_SECONDS, seconds - rng.uniform(0, 0.25) * WINDOW_SECONDS
    # A long clip has a steady pace: eased, its first or last window would show next to nothing.
    kind = rng.integers(4) if hard(0.4) and seconds < 1.2 * WINDOW_SECONDS else 0
    power = rng.uniform(1.2, 1.7)

    def progress(times: Floats) -> Floats:
        u = np.clip((times - start) / (end - start), 0, 1)
        if kind == 1:
            return np.asarray(u * u * (3 - 2 * u))
        if kind == 2:
            return np.asarray(u**power)
        if kind == 3:
            return np.asarray(1 - (1 - u) ** power)
        return np.asarray(u)

    return progress


def _texture(rng: np.random.Generator, hard: Callable[[float], bool]) -> Image:
    """A background texture, mostly with low contrast, as in most footage."""
    if not hard(0.95):
        dark = np.clip(rng.integers(0, 30) + rng.integers(0, 15, 3), 0, 255)
        return np.full((textures.TEXTURE_SIDE, textures.TEXTURE_SIDE, 3), dark, np.uint8)
    kinds = (textures.flat, textures.gradient, textures.clouds, textures.dead_leaves, textures.pattern)
    texture = kinds[rng.choice(5, p=(0.12, 0.13, 0.2, 0.43, 0.12))](rng)
    if rng.random() < 0.7:
        values = texture.astype(np.float32)
        grey = values.mean(2, keepdims=True)
        values = grey + (values - grey) * rng.uniform(0, 0.7)
        values = values.mean() + (values - values.mean()) * rng.uniform(0.4, 1.0) + rng.uniform(-40, 40)
        texture = np.clip(values, 0, 255).astype(np.uint8)
    return texture


def _camera(rng: np.random.Generator, hard: Callable[[float], bool]) -> Track:
    """The background's path: still, or with a hand-held camera's pan, shake, zoom and roll."""
    size = log_uniform(rng, 1.0, 3.5)
    x, y = rng.uniform(-0.5, 0.5, 2) * (size - 0.9)
    angle = rng.uniform(0, 2 * pi) if rng.random() < 0.3 else 0.0
    pan = rng.normal(0, 0.08, 2) if hard(0.35) else np.zeros(2)
    shake = rng.gamma(1.5, 0.004, (2, 3)) if hard(0.4) else np.zeros((2, 3))
    hertz, phase = rng.uniform(0.3, 5, (2, 3, 1)), rng.uniform(0, 2 * pi, (2, 3, 1))
    zoom = rng.normal(0, 0.03) if hard(0.25) else 0.0
    roll = rng.normal(0, 0.03) if hard(0.2) else 0.0

    def track(times: Floats) -> Pose:
        sway = (shake[..., None] * np.sin(2 * pi * hertz * times + phase)).sum(1)
        x_now, y_now = x + pan[0] * times + sway[0], y + pan[1] * times + sway[1]
        return Pose(x_now, y_now, angle + roll * times, size * np.exp(zoom * times))

    return track


def _light(rng: np.random.Generator, seconds: float, hard: Callable[[float], bool]) -> Light:
    fade_in = rng.uniform(0.2, 0.8) if hard(0.08) else 0.0
    fade_out = seconds - rng.uniform(0.2, 0.6) if hard(0.06) else 1e9
    return Light(
        gain=float(rng.uniform(0.6, 1.2)) if hard(0.4) else 1.0,
        drift_per_second=float(rng.normal(0, 0.08)) if hard(0.25) else 0.0,
        flicker=float(rng.uniform(0, 0.08)) if hard(0.15) else 0.0,
        flicker_hz=float(rng.uniform(2, 60)),
        fade_in_seconds=float(fade_in),
        fade_out_at_seconds=float(fade_out),
        offset=float(rng.uniform(-25, 40)) if hard(0.2) else 0.0,
    )
