"""How a stream comes to the process that reads it."""

from __future__ import annotations

from enum import Enum


class Kind(bytes, Enum):
    """How a stream comes: the byte before all others, by which its reader knows when to look at what came."""

    PLAIN = b"p"
    """As fast as it plays, if it has no end."""
    LIVE = b"l"
    """In segments, each faster than it plays; they have no end."""
    RECORDED = b"r"
    """In segments that end."""
