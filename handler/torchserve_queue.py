"""Whether requests wait in TorchServe's queue, as its management API says."""

from __future__ import annotations

import json
import logging
import os
import time
import urllib.request

logger = logging.getLogger(__name__)

URL_VARIABLE = "ACTIONREC_MANAGEMENT_URL"
"""Environment variable with the URL of the management API; without it `Queue.waits` is always false."""
_LOOK_SECONDS = 0.25
"""Seconds between two questions to the management API."""


class Queue:
    """The queue of one model.

    Args:
        model: the model's name.
    """

    def __init__(self, model: str) -> None:
        url = os.environ.get(URL_VARIABLE)
        self._url = f"{url}/models/{model}" if url else None
        self._looked, self._waits = 0.0, False

    def waits(self) -> bool:
        """Whether requests wait in the queue; at most a quarter of a second old."""
        now = time.monotonic()
        if self._url and now - self._looked > _LOOK_SECONDS:
            self._looked = now
            try:
                with urllib.request.urlopen(self._url, timeout=1) as reply:
                    self._waits = any(each["jobQueueStatus"]["pendingRequests"] for each in json.load(reply))
            except (OSError, ValueError, TypeError, KeyError) as error:
                logger.warning("TorchServe does not say how many requests wait: %s", error)
                self._waits = False
        return self._waits
