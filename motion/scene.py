r"""Scenes: a main object whose motion is the label, before a background, among distractors.

A scene is a pure function of position and time. So the same scene gives a training sample (32 small frames at
the instants that the pipeline samples) and a video file (every frame at full size). Lengths are in units of the
frame's shorter side, from its centre, y downwards; a centre crop is therefore a square render.

    background texture --- pose(t), ripple(t) ---\\
    distractors -------------- poses(t) ----------+--> light(t), noise(t) --> uint8 [T, H, W, 3]
    main object --- pose(t), the label -----------/
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from motion.backdrops import Backdrop
from motion.sprites import SHAPE_DIAMETER, SPRITE_SIDE, Sprite
from motion.textures import Image

LABELS: tuple[str, ...] = (
    "moving left",
    "moving right",
    "moving up",
    "moving down",
    "rotating clockwise",
    "rotating counterclockwise",
    "growing",
    "shrinking",
)
"""The motion of the main object, as the viewer sees it; the index is the model's class."""

OPPOSITE: tuple[int, ...] = (1, 0, 3, 2, 5, 4, 7, 6)
"""The class of each class's clip played backwards."""

Floats = NDArray[np.float64]

_WARP = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP

_GRAIN = np.random.default_rng(20).standard_normal((512, 512, 3)).astype(np.float32)
"""Noise of unit variance; each frame reads it from another corner."""


@dataclass(frozen=True, slots=True)
class Pose:
    """The place of a layer at T instants; every field is float64 [T]."""

    x: Floats
    """Centre, in lengths of the shorter side from the frame's centre."""
    y: Floats
    angle: Floats
    """Radians, clockwise on the screen."""
    size: Floats
    """A sprite's diameter, or a background's edge, in lengths of the shorter side."""

    @staticmethod
    def still(times: Floats, x: float, y: float, angle: float, size: float) -> Pose:
        """The same place at all `times` (float64 [T], seconds)."""
        one = np.ones_like(times)
        return Pose(x * one, y * one, angle * one, size * one)


Track = Callable[[Floats], Pose]
"""Seconds (float64 [T]) -> the place of the layer."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A sprite and its path."""

    sprite: Sprite
    track: Track
    shadow: float = 0.0
    """Darkness of a drop shadow, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Ripple:
    """A smooth local displacement of the background that oscillates, like people, leaves, water or cloth."""

    centre: tuple[float, float]
    radius: float
    reach: tuple[float, float]
    """Largest displacement in x and y, in lengths of the shorter side."""
    cycles_per_second: float
    phase: float


@dataclass(frozen=True, slots=True)
class Light:
    """Brightness over time: `gain` * (1 + drift * t + flicker * sin) with a fade in and out, in seconds."""

    gain: float = 1.0
    drift_per_second: float = 0.0
    flicker: float = 0.0
    flicker_hz: float = 1.0
    fade_in_seconds: float = 0.0
    fade_out_at_seconds: float = 1e9
    offset: float = 0.0

    def at(self, times: Floats) -> Floats:
        """The brightness factor, float64 [T], at `times` (float64 [T], seconds)."""
        flicker = self.flicker * np.sin(times * self.flicker_hz)
        factor = self.gain * (1 + self.drift_per_second * times + flicker)
        if self.fade_in_seconds > 0:
            factor = factor * np.clip(0.1 + times / self.fade_in_seconds, 0, 1)
        return np.asarray(factor * np.clip(1.1 - (times - self.fade_out_at_seconds), 0.1, 1), np.float64)


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything in a clip; `render` draws it."""

    label: str
    texture: Image
    background: Track
    main: Layer
    below: tuple[Layer, ...] = ()
    """Distractors behind the main object."""
    above: tuple[Layer, ...] = ()
    """Distractors in front of it, which may hide a part."""
    ripples: tuple[Ripple, ...] = ()
    light: Light = field(default_factory=Light)
    noise: float = 0.0
    """Standard deviation of the noise in each frame, in levels of 255."""
    blur: float = 0.0
    """Softness of the lens: Gaussian sigma in lengths of the shorter side."""
    noise_seed: int = 0
    footage: Backdrop | None = None
    """Real video instead of the texture."""

    def render(self, width: int, height: int, times_seconds: Floats) -> Image:
        """Draw the scene.

        Args:
            times_seconds: instants to draw, float64 [T], in any order.

        Returns:
            uint8 [T, height, width, 3], RGB.
        """
        times = np.asarray(times_seconds, np.float64)
        frames = np.empty((len(times), height, width, 3), np.uint8)
        background = self.background(times)
        layers = [(layer, layer.track(times)) for layer in (*self.below, self.main, *self.above)]
        light = self.light.at(times)
        for i, seconds in enumerate(times):
            frame = self._backdrop(width, height, background, i, float(seconds))
            for layer, pose in layers:
                _paste(frame, layer, pose, i)
            if self.blur * min(width, height) > 0.3:
                cv2.GaussianBlur(frame, (0, 0), self.blur * min(width, height), dst=frame)
            frames[i] = self._expose(frame, float(light[i]), float(seconds))
        return frames

    def _backdrop(self, width: int, height: int, pose: Pose, i: int, seconds: float) -> Image:
        """The background alone, uint8 [height, width, 3]."""
        if self.footage is not None:
            return self.footage(seconds, width, height).copy()
        side = min(width, height)
        texels = self.texture.shape[0] / pose.size[i]
        c, s = np.cos(pose.angle[i]) * texels / side, np.sin(pose.angle[i]) * texels / side
        centre = self.texture.shape[0] / 2
        # From a pixel of the frame to a texel: rotate and scale about the frame's centre, then shift.
        matrix = np.array([[c, s, centre - pose.x[i] * texels], [-s, c, centre - pose.y[i] * texels]])
        matrix[:, 2] -= matrix[:, :2] @ ((width - 1) / 2, (height - 1) / 2)
        if not self.ripples:
            size = (width, height)
            flat = cv2.warpAffine(self.texture, matrix, size, flags=_WARP, borderMode=cv2.BORDER_REFLECT_101)
            return np.asarray(flat, np.uint8)
        column = np.arange(width, dtype=np.float32)
        row = np.arange(height, dtype=np.float32)[:, None]
        x = (matrix[0, 0] * column + matrix[0, 1] * row + matrix[0, 2]).astype(np.float32)
        y = (matrix[1, 0] * column + matrix[1, 1] * row + matrix[1, 2]).astype(np.float32)
        for ripple in self.ripples:
            u = ((column - (width - 1) / 2) / side - ripple.centre[0]) / ripple.radius
            v = ((row - (height - 1) / 2) / side - ripple.centre[1]) / ripple.radius
            # A product of two one-dimensional bumps needs two vectors, and not an exponential for each pixel.
            bump = np.exp(-v * v).astype(np.float32) * np.exp(-u * u).astype(np.float32)
            swing = np.sin(2 * np.pi * ripple.cycles_per_second * seconds + ripple.phase) * texels
            x += bump * np.float32(ripple.reach[0] * swing)
            y += bump * np.float32(ripple.reach[1] * swing)
        rippled = cv2.remap(self.texture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        return np.asarray(rippled, np.uint8)

    def _expose(self, frame: Image, light: float, seconds: float) -> Image:
        """Apply light and noise to uint8 [H, W, 3]."""
        if self.noise <= 0:
            if abs(light - 1) < 0.004 and self.light.offset == 0:
                return frame
            table = np.clip(np.arange(256) * light + self.light.offset, 0, 255).astype(np.uint8)
            return np.asarray(cv2.LUT(frame, table), np.uint8)
        # The noise depends on the instant alone, so that every render of the scene has the same.
        rng = np.random.default_rng([self.noise_seed, round(seconds * 1e4) & 0xFFFFFFFF])
        height, width = frame.shape[:2]
        y, x = rng.integers(0, 256, 2)
        grain = _GRAIN[y : y + min(height, 256), x : x + min(width, 256)]
        if grain.shape != frame.shape:
            tiles = (-(-height // grain.shape[0]), -(-width // grain.shape[1]), 1)
            grain = np.tile(grain, tiles)[:height, :width]
        lit = frame * np.float32(light) + np.float32(self.light.offset) + grain * np.float32(self.noise)
        return np.clip(lit, 0, 255).astype(np.uint8)


def _paste(frame: Image, layer: Layer, pose: Pose, i: int) -> None:
    """Blend a layer's sprite at instant `i` into `frame` (uint8 [H, W, 3], changed in place)."""
    if layer.shadow > 0:
        shift = 0.08 * pose.size[i]
        shade = Sprite(layer.sprite.rgba * np.array([0, 0, 0, 1], np.uint8), layer.sprite.symmetry)
        moved = Pose(pose.x + shift, pose.y + shift, pose.angle, pose.size)
        _blend(frame, shade, moved, i, layer.shadow)
    _blend(frame, layer.sprite, pose, i, 1.0)


def _blend(frame: Image, sprite: Sprite, pose: Pose, i: int, opacity: float) -> None:
    height, width = frame.shape[:2]
    side = min(width, height)
    x, y = pose.x[i] * side + (width - 1) / 2, pose.y[i] * side + (height - 1) / 2
    reach = pose.size[i] * side / 2 / SHAPE_DIAMETER * 1.05 + 1
    left, top = max(0, int(x - reach)), max(0, int(y - reach))
    right, bottom = min(width, int(x + reach) + 2), min(height, int(y + reach) + 2)
    if right <= left or bottom <= top:
        return
    texels = SPRITE_SIDE * SHAPE_DIAMETER / max(pose.size[i] * side, 0.5)
    c, s = np.cos(pose.angle[i]) * texels, np.sin(pose.angle[i]) * texels
    centre = (SPRITE_SIDE - 1) / 2
    matrix = np.array([[c, s, 0.0], [-s, c, 0.0]])
    matrix[:, 2] = centre - matrix[:, :2] @ (x - left, y - top)
    patch = cv2.warpAffine(
        sprite.rgba, matrix, (right - left, bottom - top), flags=_WARP, borderValue=(0, 0, 0, 0)
    )
    region = frame[top:bottom, left:right]
    alpha = patch[..., 3:].astype(np.float32) * np.float32(opacity / 255)
    mixed = region + (patch[..., :3] - region.astype(np.float32)) * alpha
    region[:] = (mixed + np.float32(0.5)).astype(np.uint8)
