"""Labels, their scores and a scale of colours, drawn on a picture."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

Colour = tuple[int, int, int]
"""RGB, 0 to 255."""
Picture = npt.NDArray[np.uint8]
"""uint8 [H, W, 3], RGB."""

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_TEXT, _BAR = (255, 255, 255), (30, 110, 60)
_DARKER = 3
_SHARE_OF_WIDTH = 0.9


def draw_labels(picture: Picture, labels: Sequence[tuple[str, float]], caption: str = "") -> None:
    """Draw a line for each label into the lower left corner: its score, its name, and a bar behind them.

    Args:
        picture: uint8 [H, W, 3], RGB, contiguous; it is changed.
        labels: name and score (0 to 1) of each, best first. The bar of score 1 is as wide as the dark panel.
        caption: a line below them.
    """
    lines = [(f"{score:.2f} {name}", score) for name, score in labels]
    if caption:
        lines.append((caption, 0.0))
    if not lines:
        return
    # The font has no letters but ASCII's.
    texts = [text.encode("ascii", "replace").decode() for text, _ in lines]
    height, width = picture.shape[:2]
    widest = max(cv2.getTextSize(text, _FONT, 1.0, 1)[0][0] for text in texts)
    line = max(12, height // 18)
    scale = min(line / 30, _SHARE_OF_WIDTH * width / widest)
    pad = line // 4
    panel = min(width, round(scale * widest) + 2 * pad)
    top = max(0, height - line * len(lines) - pad)
    picture[top:, :panel] //= _DARKER
    for row, (text, (_, score)) in enumerate(zip(texts, lines, strict=True)):
        y = top + row * line
        cv2.rectangle(picture, (0, y + 1), (int(score * panel), y + line - 2), _BAR, -1)
        cv2.putText(picture, text, (pad, y + int(line * 0.75)), _FONT, scale, _TEXT, 1, cv2.LINE_AA)


def draw_scale(picture: Picture, against: Colour, favour: Colour) -> None:
    """Draw what two colours mean into the upper left corner: a place speaks against a label, or for it.

    Args:
        picture: uint8 [H, W, 3], RGB, contiguous; it is changed.
        against: of the left end.
        favour: of the right end.
    """
    height, width = picture.shape[:2]
    line = max(12, height // 24)
    words = ("against", "for")
    (left, right) = (round(cv2.getTextSize(word, _FONT, line / 30, 1)[0][0]) for word in words)
    pad = line // 4
    bar = min(4 * line, max(0, width - left - right - 4 * pad))
    picture[: line + pad, : min(width, left + bar + right + 4 * pad)] //= _DARKER
    towards = np.linspace(-1, 1, bar, dtype=np.float32)[:, None]
    grey = np.full(3, 60, np.float32)
    ends = np.where(towards < 0, np.array(against, np.float32), np.array(favour, np.float32))
    picture[pad:line, left + 2 * pad : left + 2 * pad + bar] = grey + (ends - grey) * np.abs(towards)
    for word, x in zip(words, (pad, left + bar + 3 * pad), strict=True):
        cv2.putText(picture, word, (x, int(line * 0.85)), _FONT, line / 30, _TEXT, 1, cv2.LINE_AA)
