"""The client for asyncio, on httpx: the methods of `ActionClient` and `Job`, to be awaited."""

from .client import AsyncActionClient
from .jobs import AsyncJob

__all__ = ["AsyncActionClient", "AsyncJob"]
