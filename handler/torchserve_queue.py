"""Whether requests wait in TorchServe's queue, as its management API says."""

from __future__ import annotations

import json
import logging
import os
import time
import urllib.request

from actionrec.worker import MANAGEMENT_URL

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.25
"""Seconds between two questions to the management API."""
_MOST_SECONDS = 2.0
"""The same for a model with many workers on GPUs: TorchServe starts a program for each to answer one."""


class Queue:
    """The queue of one model. Where `MANAGEMENT_URL` is not set, nobody knows whether requests wait.

    Args:
        model: the model's name.
    """

    def __init__(self, model: str) -> None:
        url = os.environ.get(MANAGEMENT_URL)
        self._url = f"{url}/models/{model}" if url else None
        self._next, self._waits = 0.0, False

    def waits(self) -> bool:
        """Whether requests wait in the queue: at most a quarter of a second old, or with workers on GPUs, which
        ask as often together as one does, two seconds.
        """
        now = time.monotonic()
        if self._url and now > self._next:
            rest = _LOOK_SECONDS
            try:
                with urllib.request.urlopen(self._url, timeout=1) as reply:
                    models = json.load(reply)
                self._waits = any(each["jobQueueStatus"]["pendingRequests"] for each in models)
                on_gpus = sum(worker["gpu"] for each in models for worker in each["workers"])
                rest = min(_MOST_SECONDS, _LOOK_SECONDS * max(1, on_gpus))
            except (OSError, ValueError, TypeError, KeyError) as error:
                logger.warning("TorchServe does not say how many requests wait: %s", error)
                self._waits = False
            self._next = now + rest
        return self._waits
