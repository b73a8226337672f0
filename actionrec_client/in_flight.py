"""Many requests, some of them at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def as_they_come(
    ask: Callable[[Item], Answer], items: Iterable[Item], at_a_time: int
) -> Iterator[tuple[Item, Answer]]:
    """Each item with its answer, in the order in which the answers come.

    Args:
        ask: gives an item's answer; called in other threads.
        items: taken one by one when there is room, so they may be endless.
        at_a_time: items under way at once, at least 1.
    """
    rest = iter(items)
    pool = ThreadPoolExecutor(at_a_time, thread_name_prefix="classify")
    try:
        waiting: dict[Future[Answer], Item] = {pool.submit(ask, item): item for item in islice(rest, at_a_time)}
        while waiting:
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                item = waiting.pop(future)
                waiting.update({pool.submit(ask, following): following for following in islice(rest, 1)})
                yield item, future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
