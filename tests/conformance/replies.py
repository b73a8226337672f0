"""Replies as they are reviewed and compared: without times, ids and what the host chose; long arrays in brief.

An embedding of 1024 numbers is compared by their number and their sum.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

TABLE = Path(__file__).parent / "expected.jsonl"
"""One line for each request: its name and the reply."""

_NOT_COMPARED = frozenset({"request_id", "timings_ms", "runtime", "precision"})
"""Ids, times, and which of the archive's artifacts this host runs."""
_LONG = 16
_DIGITS = 4
_TOLERANCE = 2e-3
"""Of scores, and of sums as a share of them: hosts round otherwise, and none of them by so much."""


@dataclass(frozen=True)
class Answered:
    """A reply as it came."""

    status: int
    body: bytes


def reviewed(answered: Answered) -> dict[str, Any]:
    """What is compared of a reply.

    Raises:
        ValueError: its body is no JSON.
    """
    return {"status": int(answered.status), **_brief(json.loads(answered.body))}


def expected() -> dict[str, dict[str, Any]]:
    """The table: name of a request -> what is compared of its reply."""
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    return {entry.pop("name"): entry for entry in map(json.loads, lines)}


def write(replies: dict[str, dict[str, Any]]) -> None:
    """Write the table."""
    lines = [json.dumps({"name": name, **reply}, ensure_ascii=False) + "\n" for name, reply in replies.items()]
    TABLE.write_text("".join(lines), encoding="utf-8")


def differences(got: object, wanted: object, place: str = "reply") -> list[str]:
    """What of two replies is not the same, each as a line; numbers with a point may differ a little."""
    if isinstance(wanted, dict) and isinstance(got, dict):
        found = [f"{place}.{name} is only in one" for name in sorted(wanted.keys() ^ got.keys())]
        shared = [name for name in wanted if name in got]
        return found + [line for n in shared for line in differences(got[n], wanted[n], f"{place}.{n}")]
    if isinstance(wanted, list) and isinstance(got, list) and len(wanted) == len(got):
        pairs = enumerate(zip(got, wanted, strict=True))
        return [line for number, (a, b) in pairs for line in differences(a, b, f"{place}[{number}]")]
    if isinstance(wanted, float) and isinstance(got, int | float):
        same = math.isclose(got, wanted, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    else:
        same = type(got) is type(wanted) and got == wanted
    return [] if same else [f"{place} is {got!r}, not {wanted!r}"]


def _brief(value: Any, name: str = "") -> Any:  # noqa: ANN401  # JSON
    if isinstance(value, dict):
        return {key: _brief(each, key) for key, each in value.items() if key not in _NOT_COMPARED}
    if isinstance(value, list):
        if len(value) > _LONG and all(isinstance(each, int | float) for each in value):
            return _sum(np.asarray(value))
        return [_brief(each, name) for each in value]
    if isinstance(value, str) and name in ("embedding", "shares"):
        return _sum(_floats(value))
    return round(value, _DIGITS) if isinstance(value, float) else value


def _floats(text: str) -> np.ndarray[Any, Any]:
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), "<f4")
    except binascii.Error as error:
        raise ValueError(f"no base64: {text[:40]!r}") from error


def _sum(values: np.ndarray[Any, Any]) -> dict[str, Any]:
    return {"numbers": values.size, "sum": round(float(values.sum(dtype=np.float64)), _DIGITS)}
