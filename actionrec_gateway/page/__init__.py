"""The page at ``/``: modules of the browser, and the few routes that only it needs."""

from .routes import life, router

__all__ = ["life", "router"]
