"""The options of a request, by the names and types that a server knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

Crops = Literal[1, 3]
"""Squares of each frame: 1 is the centre, 3 are the centre and both ends of the longer side."""
EmbeddingForm = Literal["json", "base64"]
"""How a reply writes an embedding: a list of numbers, or base64 of little-endian float32, which is shorter."""
Explain = Literal[True] | str
"""Of which label to tell why: True is the best one."""


class Options(TypedDict, total=False):
    """The options of `ActionClient.classify`, for several calls that share them: ``classify(clip, **options)``.

    None is as if the option were not given.
    """

    top_k: int | None
    start_seconds: float | None
    end_seconds: float | None
    views: int | None
    crops: Crops | None
    embedding: EmbeddingForm | None
    explain: Explain | None


def form_of(options: Mapping[str, Any]) -> dict[str, str]:
    """Options as the fields of a form: numbers and true as JSON writes them; None is left out."""
    texts = {True: "true", False: "false"}
    given = {name: value for name, value in options.items() if value is not None}
    return {name: texts[value] if isinstance(value, bool) else str(value) for name, value in given.items()}


def views_of(options: Mapping[str, Any]) -> int:
    """How many views each request makes the model look at: windows x crops."""
    return int(options.get("views") or 1) * int(options.get("crops") or 1)
