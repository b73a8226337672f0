"""A stream by its address: fetched as videos are, read by a process without rights, its windows answered."""

from __future__ import annotations

from .routes import life, router

__all__ = ["life", "router"]
