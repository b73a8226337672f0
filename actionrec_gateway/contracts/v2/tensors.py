"""The tensors of the Open Inference Protocol: what a model's metadata says, and what its replies become.

    video  BYTES [videos]            the files
    ->
    label        BYTES [videos, labels]   the best labels, best first
    score        FP32  [videos, labels]   probabilities
    class_index  INT32 [videos, labels]
    reply        BYTES [videos]           the whole reply of each, as JSON
    error        BYTES [videos]           the error object of each as JSON; empty where there is none

A video without an answer has empty labels, scores of 0 and indices of -1.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from actionrec.errors import ClipError

from ..calls import Reply

INPUT = "video"
PLATFORM = "actionrec"


@dataclass(frozen=True, slots=True)
class Kind:
    """A tensor as metadata describe it."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    """-1: any number."""


INPUTS = (Kind(INPUT, "BYTES", (-1,)),)
OUTPUTS = (
    Kind("label", "BYTES", (-1, -1)),
    Kind("score", "FP32", (-1, -1)),
    Kind("class_index", "INT32", (-1, -1)),
    Kind("reply", "BYTES", (-1,)),
    Kind("error", "BYTES", (-1,)),
)

_EMPTY = {"label": "", "score": 0.0, "class_index": -1}


@dataclass(frozen=True, slots=True)
class Tensor:
    """An output."""

    kind: Kind
    shape: tuple[int, ...]
    data: list[Any]
    """Its elements, row by row: str, float or int."""


def outputs(replies: Sequence[Reply]) -> list[Tensor]:
    """The outputs for some videos.

    Args:
        replies: of the videos, in order; at least one is no error.
    """
    rows = [[] if isinstance(each, ClipError) else each["predictions"] for each in replies]
    most = max(map(len, rows))
    filled = [[*row, *[_EMPTY] * (most - len(row))] for row in rows]
    data: dict[str, list[Any]] = {
        name: [each[name] for row in filled for each in row] for name in ("label", "score", "class_index")
    }
    data["reply"] = ["" if isinstance(each, ClipError) else json.dumps(each) for each in replies]
    data["error"] = [json.dumps(each.to_dict()) if isinstance(each, ClipError) else "" for each in replies]
    count = len(replies)
    return [
        Tensor(kind, (count, most) if len(kind.shape) == 2 else (count,), data[kind.name]) for kind in OUTPUTS
    ]


def version_of(replies: Sequence[Reply]) -> str:
    """The version of the model that answered."""
    found = (each["model"].get("version", "") for each in replies if not isinstance(each, ClipError))
    return str(next(found, ""))
