"""Why a model says a label: what each place and time of a video adds to the label's logit.

    logit of a view = bias + all shares of all its pathways

A pathway's map has few steps and few places: [t, h, w]. A step stands for the time that is nearer to its middle
than to that of any other step. A share divided by its step's time is a *rate*, in logits a second: so pathways
with steps of different lengths can be added at an instant, and the sums are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from .errors import BadReply
from .floats import Floats, from_json

Seconds = npt.NDArray[np.float64]

_LEAST_SECONDS = 1e-6
_NAMES = {1: ("all",), 2: ("slow", "fast")}


class Box(NamedTuple):
    """Where a crop was, in pixels of the video as shown (after rotation)."""

    left: float
    top: float
    width: float
    height: float


class Peak(NamedTuple):
    """The place and the time that speak most for a label."""

    view: int
    """Number of its view in `Explanation.views`."""
    start_seconds: float
    """When its step begins, from the video's first frame."""
    end_seconds: float
    cell: Box
    """The place of the map that it is, in pixels of the video as shown."""
    x: float
    """The point in or near it where the shares for the label have their centre: of this place and its
    neighbours. In pixels of the video as shown."""
    y: float


@dataclass(frozen=True, slots=True, eq=False)
class PathwayShares:
    """What one pathway of a view adds to the logit."""

    seconds: Seconds
    """float64 [t]: the middle of each step, from the video's first frame, in order."""
    shares: Floats
    """float32 [t, h, w]: logits."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From an entry of a view's ``pathways``.

        Raises:
            ValueError, KeyError, TypeError: it is no such entry.
        """
        shares = from_json(values["shares"], tuple(values["shape"]))
        seconds = np.array(values["seconds"], np.float64)
        if shares.ndim != 3 or not shares.size or seconds.shape != shares.shape[:1]:
            raise ValueError(f"shares {list(shares.shape)} have the times {list(seconds.shape)}")
        return cls(seconds, shares)

    def edges(self, start_seconds: float, end_seconds: float) -> Seconds:
        """Where the steps begin and end: float64 [t + 1], from the view's start to its end. Steps of one and
        the same time (a short video repeats frames) have no length.
        """
        middles = (self.seconds[:-1] + self.seconds[1:]) / 2
        edges = np.concatenate([[start_seconds], middles, [max(start_seconds + _LEAST_SECONDS, end_seconds)]])
        return np.maximum.accumulate(np.minimum(edges, edges[-1]))

    def rates(self, seconds: float, start_seconds: float, end_seconds: float) -> Floats:
        """What the places add at an instant of the view: float32 [h, w], in logits a second."""
        edges = self.edges(start_seconds, end_seconds)
        # Steps without length belong to the next one that has some: they have its time, or almost.
        last = min(int(np.searchsorted(edges, seconds, "right")), len(edges) - 1)
        first = int(np.searchsorted(edges, edges[last - 1], "left"))
        rates: Floats = self.shares[first:last].sum(0) / np.float32(edges[last] - edges[last - 1])
        return rates


@dataclass(frozen=True, slots=True, eq=False)
class ExplainedView:
    """The explanation of one window of one crop."""

    window: int
    """Number of the window, from 0."""
    crop: int
    """Number of the crop, from 0: left to right, or top to bottom."""
    start_seconds: float
    """From the video's first frame."""
    end_seconds: float
    """From the video's first frame."""
    logit: float
    """Of the label, in this view."""
    box: Box
    """Where the crop was."""
    pathways: tuple[PathwayShares, ...]
    """The slowest first; all have the same places."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From an entry of an explanation's ``views``.

        Raises:
            ValueError, KeyError, TypeError: it is no such entry.
        """
        pathways = tuple(PathwayShares.from_dict(entry) for entry in values["pathways"])
        if len({pathway.shares.shape[1:] for pathway in pathways}) != 1:
            raise ValueError("the pathways have different places")
        return cls(
            window=int(values["window"]),
            crop=int(values["crop"]),
            start_seconds=float(values["start_seconds"]),
            end_seconds=float(values["end_seconds"]),
            logit=float(values["logit"]),
            box=Box(*map(float, values["box"])),
            pathways=pathways,
        )

    def edges(self) -> Seconds:
        """When a step of any pathway begins or ends: float64 [edges], increasing."""
        edges = [pathway.edges(self.start_seconds, self.end_seconds) for pathway in self.pathways]
        return np.unique(np.concatenate(edges))

    def pathway_rates(self, seconds: float) -> list[Floats] | None:
        """What the places of each pathway add at an instant.

        Args:
            seconds: from the video's first frame.

        Returns:
            float32 [h, w] of each pathway, in logits a second; None outside the window. Over the window's time
            they add up to the logit without the bias.
        """
        if not self.start_seconds <= seconds < self.end_seconds:
            return None
        return [pathway.rates(seconds, self.start_seconds, self.end_seconds) for pathway in self.pathways]

    def rates(self, seconds: float) -> Floats | None:
        """The same of all pathways together: float32 [h, w]."""
        rates = self.pathway_rates(seconds)
        return None if rates is None else np.sum(rates, 0, dtype=np.float32)

    def cells(self) -> Floats:
        """All pathways on the steps of the one that has most: float32 [t, h, w].

        What a longer step adds is divided among the steps that it overlaps, by time. So all cells and the bias
        add up to the logit.
        """
        finest = max(self.pathways, key=lambda pathway: len(pathway.seconds))
        edges = finest.edges(self.start_seconds, self.end_seconds)
        total = np.zeros_like(finest.shares)
        for pathway in self.pathways:
            if pathway is finest:
                total += pathway.shares
                continue
            theirs = pathway.edges(self.start_seconds, self.end_seconds)
            begins = np.maximum(edges[:-1, None], theirs[None, :-1])
            overlap = np.maximum(np.minimum(edges[1:, None], theirs[None, 1:]) - begins, 0)
            for step in np.flatnonzero(~overlap.any(0)):
                overlap[np.abs(finest.seconds - pathway.seconds[step]).argmin(), step] = 1
            total += np.tensordot((overlap / overlap.sum(0)).astype(np.float32), pathway.shares, 1)
        return total

    def step(self, number: int) -> tuple[float, float]:
        """When a step of `cells` begins and ends, in seconds."""
        finest = max(self.pathways, key=lambda pathway: len(pathway.seconds))
        edges = finest.edges(self.start_seconds, self.end_seconds)
        return float(edges[number]), float(edges[number + 1])


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """What each place and time of a video adds to a label's logit."""

    label: str
    class_index: int
    bias: float
    """What the logit is without any share."""
    views: tuple[ExplainedView, ...]
    """In order of time, then of crops."""
    score: float | None = None
    """Of the label, 0 to 1, the mean over the views; None where the reply does not name it."""

    @property
    def pathway_names(self) -> tuple[str, ...]:
        """What people call the pathways."""
        count = len(self.views[0].pathways)
        return _NAMES.get(count) or tuple(f"pathway {number}" for number in range(1, count + 1))

    @property
    def logit(self) -> float:
        """The mean over the views."""
        return float(np.mean([view.logit for view in self.views]))

    def pathway_sums(self) -> list[float]:
        """What each pathway adds to `logit`, the slowest pathway first. With `bias` they are all of it."""
        pathways = zip(*(view.pathways for view in self.views), strict=True)
        return [float(np.mean([one.shares.sum(dtype=np.float64) for one in of_views])) for of_views in pathways]

    def peak(self) -> Peak:
        """The place and the time that speak most for the label: the largest of all `cells`."""
        cells = [view.cells() for view in self.views]
        number = int(np.argmax([one.max() for one in cells]))
        view, (step, row, column) = self.views[number], _largest(cells[number])
        _, rows, columns = cells[number].shape
        down, across = view.box.height / rows, view.box.width / columns
        near = np.s_[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
        weights = np.maximum(cells[number][step][near], 0)
        y, x = (np.arange(length) + 0.5 for length in (rows, columns))
        total = max(float(weights.sum()), np.finfo(np.float32).tiny)
        start, end = view.step(step)
        return Peak(
            view=number,
            start_seconds=start,
            end_seconds=end,
            cell=Box(view.box.left + column * across, view.box.top + row * down, across, down),
            x=view.box.left + across * float(weights.sum(0) @ x[near[1]]) / total,
            y=view.box.top + down * float(weights.sum(1) @ y[near[0]]) / total,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], score: float | None = None) -> Self:
        """From a reply's ``explanation``.

        Args:
            values: as it came.
            score: see `Explanation.score`.

        Raises:
            BadReply: a field is missing, or the arrays do not fit.
        """
        try:
            views = tuple(ExplainedView.from_dict(entry) for entry in values["views"])
            if not views:
                raise ValueError("no view is explained")
            return cls(str(values["label"]), int(values["class_index"]), float(values["bias"]), views, score)
        except (KeyError, TypeError, ValueError) as error:
            message = f"The explanation is of a form that this client does not know: {error!r}."
            hint = "Is the server of another version of this project?"
            raise BadReply("BAD_REPLY", 200, message, hint) from error


def _largest(cells: Floats) -> tuple[int, int, int]:
    step, row, column = np.unravel_index(int(cells.argmax()), cells.shape)
    return int(step), int(row), int(column)
