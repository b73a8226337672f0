"""A video by its address: from where the settings allow it, and from nowhere else."""

from .fetcher import Fetcher, fetch

__all__ = ["Fetcher", "fetch"]
