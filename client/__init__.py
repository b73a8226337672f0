"""What users run against a server; it needs neither torch nor the rest of the project."""

from .api import ServerError, classify

__all__ = ["ServerError", "classify"]
