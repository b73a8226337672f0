"""An asyncio program that asks the server: many clips at once, but never more requests than it can take.

    python examples/async_client.py clips/*.mp4 --at-once 8

The client waits in threads, where it has its retries and deadlines, and the event loop goes on with other work.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from actionrec_client import ActionClient, Result, ServerError, Unreachable


class AsyncClient:
    """`ActionClient.classify` to await, with a bounded number of requests at once."""

    def __init__(self, url: str, at_once: int) -> None:
        self._client = ActionClient(url)
        self._places = asyncio.Semaphore(at_once)

    async def classify(self, clip: Path) -> Result | ServerError:
        """The answer to one clip; an error is one too."""
        async with self._places:
            try:
                return await asyncio.to_thread(self._client.classify, clip, top_k=1)
            except ServerError as error:
                return error


async def classify_all(client: AsyncClient, clips: Sequence[Path]) -> int:
    """Print each answer as it comes; returns how many are errors."""
    began, failed = time.monotonic(), 0

    async def named(clip: Path) -> tuple[Path, Result | ServerError]:
        return clip, await client.classify(clip)

    for coming in asyncio.as_completed([named(clip) for clip in clips]):
        clip, answer = await coming
        if isinstance(answer, Unreachable):
            sys.exit(f"error: {answer}")
        failed += isinstance(answer, ServerError)
        said = answer.code if isinstance(answer, ServerError) else f"{answer.label} ({answer.score:.2f})"
        print(f"{time.monotonic() - began:6.2f} s  {clip}: {said}")
    return failed


def main() -> None:
    """Classify all clips that were named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, nargs="+", help="video files")
    parser.add_argument("--at-once", type=int, default=8, help="requests at a time")
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="of the server")
    options = parser.parse_args()
    failed = asyncio.run(classify_all(AsyncClient(options.url, options.at_once), options.clips))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
