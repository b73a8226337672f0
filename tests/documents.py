"""The project's documents, taken apart: links, headings, tables, blocks."""

from __future__ import annotations

import re

from tests.conftest import PROJECT

_PLACES = ("*.md", "docs/*.md", "motion/*.md", "model_store/*.md", "tests/seeds/*.md", "examples/*.md")
DOCUMENTS = sorted(path.relative_to(PROJECT).as_posix() for place in _PLACES for path in PROJECT.glob(place))
"""All of them, as paths from the top of the project."""

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s#]*)(?:#([^)\s]*))?\)")


def read(document: str) -> str:
    """Its text."""
    return (PROJECT / document).read_text(encoding="utf-8")


def without_code(text: str) -> str:
    """A text without its blocks."""
    return _BLOCK.sub("", text)


def blocks(document: str, language: str) -> list[str]:
    """The blocks of a language, as they stand there."""
    return [body for name, body in _BLOCK.findall(read(document)) if name == language]


def links(document: str) -> list[tuple[str, str]]:
    """(path, anchor) of each link and picture that does not lead elsewhere; one of the two may be empty."""
    found = _LINK.findall(without_code(read(document)))
    return [(target, anchor) for target, anchor in found if "://" not in target]


def anchors(text: str) -> set[str]:
    """The anchors that a document's headings make."""
    headings = re.findall(r"^#+ (.*)$", without_code(text), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def table(document: str, first: str) -> list[list[str]]:
    """The rows of the table whose first column has this heading, without headings.

    Raises:
        ValueError: there is none, or more than one.
    """
    (rows,) = re.findall(rf"^\| {re.escape(first)} \|.*\n\|[-|]+\n((?:\|.*\n?)+)", read(document), re.M)
    return [[cell.strip() for cell in row.strip("|\n ").split(" | ")] for row in rows.splitlines()]
