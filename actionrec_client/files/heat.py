"""An explanation drawn over its video: which places speak for the label at each moment, and which against it.

rates [h, w] of each view at a moment -> between the middles of its places by the line -> pixels of its box
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from ..explanation import ExplainedView, Explanation
from ..floats import Floats
from .draw import Picture, draw_labels, draw_scale
from .redraw import redraw

FOR, AGAINST = (255, 120, 0), (0, 110, 255)
"""The colours of shares above and below 0: orange and blue, which all eyes tell apart."""
_OPACITY = 0.75
"""Of the strongest place."""
_DARKER = 2
"""What was not looked at has its brightness divided by this."""
_FRAME = (255, 255, 255)


def heat_video(
    source: Path,
    explanation: Explanation,
    output: Path,
    on_progress: Callable[[float], None] | None = None,
) -> None:
    """Write a copy of a video with an explanation drawn over it.

    Args:
        source: the video.
        explanation: of it.
        output, on_progress: see `redraw`.

    Raises:
        Refused: `source` cannot be read, or `output` not be written.
    """
    redraw(source, output, HeatMap(explanation).draw, on_progress)


class HeatMap:
    """An explanation that can be drawn over pictures of its video.

    Args:
        explanation: its views are added up where they overlap.
    """

    def __init__(self, explanation: Explanation) -> None:
        self._explanation = explanation
        self._named = [] if explanation.score is None else [(explanation.label, explanation.score)]
        self._caption = "" if self._named else explanation.label
        self._strongest = max(_strongest(view) for view in explanation.views)
        self._grids: dict[tuple[int, tuple[int, int]], _Grid] = {}

    def rates(self, shape: tuple[int, int], seconds: float) -> tuple[Floats, np.ndarray]:
        """The heat of each pixel.

        Args:
            shape: height and width of a picture.
            seconds: its time from the video's first frame.

        Returns:
            float32 [H, W], in logits a second and place of the map, above 0 where it speaks for the label; and
            bool [H, W], which pixels the model saw in a window that has this time.
        """
        heat, seen = np.zeros(shape, np.float32), np.zeros(shape, bool)
        for number, view in enumerate(self._explanation.views):
            rates = view.rates(seconds)
            if rates is not None:
                grid = self._grid(number, view, shape)
                heat[grid.rows, grid.columns] += grid.down @ rates @ grid.across.T
                seen[grid.rows, grid.columns] = True
        return heat, seen

    def draw(self, picture: Picture, seconds: float) -> None:
        """Draw the heat over a grey picture, the edges of the crops and a legend.

        Args:
            picture: uint8 [H, W, 3], RGB, upright; it is changed.
            seconds: its time from the video's first frame.
        """
        heat, seen = self.rates(picture.shape[:2], seconds)
        picture[~seen] //= _DARKER
        strength = np.clip(np.abs(heat) / self._strongest, 0, 1)
        opacity = (_OPACITY * strength)[..., None]
        colour = np.where(heat[..., None] > 0, np.array(FOR, np.float32), np.array(AGAINST, np.float32))
        # Without its own colours: orange things would look like heat.
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None]
        picture[:] = np.where(seen[..., None], grey + (colour - grey) * opacity + 0.5, picture)
        for grid in [grid for (_, shape), grid in self._grids.items() if shape == picture.shape[:2]]:
            corner, other = (grid.columns.start, grid.rows.start), (grid.columns.stop - 1, grid.rows.stop - 1)
            if seen[corner[::-1]]:
                cv2.rectangle(picture, corner, other, _FRAME, 1)
        note = "" if seen.any() else "not looked at"
        draw_labels(picture, self._named, " ".join(filter(None, (self._caption, note))))
        draw_scale(picture, AGAINST, FOR)

    def _grid(self, number: int, view: ExplainedView, shape: tuple[int, int]) -> _Grid:
        key = (number, shape)
        if key not in self._grids:
            self._grids[key] = _Grid(view, shape)
        return self._grids[key]


class _Grid:
    """Where the places of a view's map lie in pictures of one size.

    Args:
        view: with the box and the map.
        shape: height and width of the pictures.
    """

    def __init__(self, view: ExplainedView, shape: tuple[int, int]) -> None:
        places = view.pathways[0].shares.shape[1:]
        self.rows, self.down = _between(view.box.top, view.box.height, places[0], shape[0])
        """The rows inside the box, and how much each place counts in each: float32 [rows, h]."""
        self.columns, self.across = _between(view.box.left, view.box.width, places[1], shape[1])
        """The same for columns: float32 [columns, w]."""


def _between(start: float, length: float, places: int, pixels: int) -> tuple[slice, Floats]:
    """Linear interpolation along one axis.

    Args:
        start, length: of the box, in pixels.
        places: of the map.
        pixels: of the picture.

    Returns:
        The pixels whose middles are in the box, and the weight of each place in each: float32 [n, places]. The
        weights of a pixel add up to 1.
    """
    first = max(0, int(np.ceil(start - 0.5)))
    stop = min(pixels, int(np.ceil(start + length - 0.5)))
    middles = np.arange(first, max(first, stop)) + 0.5
    where = np.clip((middles - start) / length * places - 0.5, 0, places - 1)
    distance = np.abs(where[:, None] - np.arange(places))
    return slice(first, max(first, stop)), np.maximum(0, 1 - distance).astype(np.float32)


def _strongest(view: ExplainedView) -> float:
    """The largest rate of a view, of either sign."""
    edges = view.edges()
    rates = [view.rates(float(middle)) for middle in (edges[:-1] + edges[1:]) / 2]
    return max((float(np.abs(one).max()) for one in rates if one is not None), default=0.0) or 1.0
