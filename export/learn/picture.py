"""Pictures of a measurement as SVG: text that looks the same in a page, a document and a terminal's browser."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from .fit import Ints
from .measure import Share

_CELL = 44
_LETTER = 6.6
"""Width of a letter of the labels, in pixels, about."""
_MOST_LETTERS = 26
_INK, _PAPER, _BLUE, _GREY = "#1b1f24", "#ffffff", (31, 94, 168), "#8b949e"


def confusion(names: Sequence[str], counts: Ints) -> str:
    """What is taken for what: a row for each label, a column for each answer.

    Args:
        names: of the labels.
        counts: int64 [labels, labels].
    """
    shown = [_short(name) for name in names]
    left = round(max(map(len, shown)) * _LETTER) + 16
    top = round(max(map(len, shown)) * _LETTER * 0.75) + 34
    side = _CELL * len(names)
    width, height = left + side + round(max(map(len, shown)) * _LETTER * 0.7), top + side + 26
    parts = [
        _text(left + side / 2, height - 8, "column: the answer; row: the label", anchor="middle", color=_GREY)
    ]
    for row, name in enumerate(shown):
        middle = top + row * _CELL + _CELL / 2
        parts.append(_text(left - 8, middle + 4, name, anchor="end"))
        x = left + row * _CELL + _CELL / 2
        parts.append(_text(x, top - 8, name, turn=f"rotate(-45 {x:.0f} {top - 8})"))
        total = max(1, int(counts[row].sum()))
        for column in range(len(names)):
            count = int(counts[row, column])
            share = count / total
            x, y = left + column * _CELL, top + row * _CELL
            parts.append(_box(x, y, _CELL - 2, _CELL - 2, _shade(share)))
            if count:
                ink = _PAPER if share > 0.5 else _INK
                parts.append(
                    _text(x + _CELL / 2 - 1, y + _CELL / 2 + 4, str(count), anchor="middle", color=ink)
                )
    return _svg(width, height, parts, "What is taken for what")


def bars(names: Sequence[str], shares: Sequence[Share]) -> str:
    """How many of each label are recognised, with intervals."""
    shown = [_short(name) for name in names]
    left = round(max(map(len, shown)) * _LETTER) + 16
    length, row = 320, 26
    width, height = left + length + 60, row * len(names) + 30
    parts = []
    for percent in (0, 50, 100):
        x = left + length * percent / 100
        parts.append(_line(x, 4, x, height - 24, "#d0d7de", 1))
        parts.append(_text(x, height - 8, f"{percent} %", anchor="middle", color=_GREY))
    for number, (name, share) in enumerate(zip(shown, shares, strict=True)):
        y = 6 + number * row
        low, high = (left + length * edge for edge in share.interval())
        parts.append(_text(left - 8, y + 14, name, anchor="end"))
        parts.append(_box(left, y + 3, length * share.value, 14, _shade(0.75)))
        parts.append(_line(low, y + 10, high, y + 10, _INK, 2))
        parts.append(_text(left + length + 8, y + 14, f"{share.value:.0%}"))
    return _svg(width, height, parts, "Share of each label that is recognised")


def _svg(width: float, height: float, parts: Sequence[str], title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'role="img" font-family="system-ui, sans-serif" font-size="12"><title>{escape(title)}</title>'
        f'<rect width="100%" height="100%" fill="{_PAPER}"/>{"".join(parts)}</svg>\n'
    )


def _box(x: float, y: float, width: float, height: float, fill: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="3" fill="{fill}"/>'


def _line(x: float, y: float, to_x: float, to_y: float, stroke: str, width: int) -> str:
    place = f'x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}"'
    return f'<line {place} stroke="{stroke}" stroke-width="{width}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", color: str = _INK, turn: str = "") -> str:
    turned = f' transform="{turn}"' if turn else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}"{turned}>{escape(text)}</text>'


def _shade(share: float) -> str:
    """From nearly white to blue."""
    return "#" + "".join(f"{round(246 + (level - 246) * share):02x}" for level in _BLUE)


def _short(name: str) -> str:
    return name if len(name) <= _MOST_LETTERS else name[: _MOST_LETTERS - 1] + "…"
