"""Explanations as a server would send them, made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from actionrec.explanation import to_base64

from actionrec_client import Explanation
from actionrec_client.floats import Floats


def view(
    pathways: Sequence[tuple[Sequence[float], Floats]],
    *,
    start_seconds: float = 0.0,
    end_seconds: float = 2.0,
    box: Sequence[float] = (0, 0, 64, 64),
    window: int = 0,
    crop: int = 0,
) -> dict[str, Any]:
    """A view of a reply.

    Args:
        pathways: seconds [t] and shares [t, h, w] of each.
        start_seconds, end_seconds, box, window, crop: as replies have them.
    """
    return {
        "window": window,
        "crop": crop,
        "start_seconds": start_seconds,
        "end_seconds": end_seconds,
        "logit": sum(float(shares.sum()) for _, shares in pathways) + 0.5,
        "box": list(box),
        "pathways": [
            {
                "shape": list(shares.shape),
                "seconds": list(seconds),
                "shares": to_base64(shares.astype(np.float32)),
            }
            for seconds, shares in pathways
        ],
    }


def reply(*views: dict[str, Any]) -> dict[str, Any]:
    """The explanation of a reply."""
    return {"label": "growing", "class_index": 6, "bias": 0.5, "views": list(views)}


def explanation(*views: dict[str, Any]) -> Explanation:
    """The same as the client has it, of a label whose score is 0.9."""
    return Explanation.from_dict(reply(*views), 0.9)


def hot(shape: tuple[int, int, int], *cells: tuple[int, int, int], share: float = 1.0) -> Floats:
    """Shares that are 0 everywhere but in some cells (step, row, column)."""
    shares = np.zeros(shape, np.float32)
    for cell in cells:
        shares[cell] = share
    return shares
