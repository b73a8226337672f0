"""Labels and their scores, drawn on a picture."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

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
