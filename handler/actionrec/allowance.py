"""How long finished answers may wait for one that is not finished: an allowance for each client, and one for
all.
"""

from __future__ import annotations

import time
from collections import OrderedDict

_SHARE, _MOST_SECONDS = 0.05, 0.25
"""Share of the elapsed time that an allowance grows by, and its most seconds: for one client..."""
_SHARE_OF_ALL, _MOST_SECONDS_OF_ALL = 0.1, 0.5
"""... and for all clients together."""
_CLIENTS = 1_000
"""Clients that are remembered; any other has its full allowance."""


class _Account:
    def __init__(self, share: float, most: float) -> None:
        self._share, self._most = share, most
        self._seconds = most
        self._since = time.monotonic()

    def left(self) -> float:
        now = time.monotonic()
        self._seconds = min(self._most, self._seconds + (now - self._since) * self._share)
        self._since = now
        return self._seconds

    def spend(self, seconds: float) -> None:
        self._seconds -= seconds


class Allowance:
    """Who may make others wait, and for how long. Others wait for an occasional large clip, but not for a
    client that sends nothing else.
    """

    def __init__(self) -> None:
        self._all = _Account(_SHARE_OF_ALL, _MOST_SECONDS_OF_ALL)
        self._clients: OrderedDict[str, _Account] = OrderedDict()

    def left(self, client: str) -> bool:
        """Whether a client may make others wait.

        Args:
            client: its name; clients without one share an allowance.
        """
        return self._all.left() > 0 and self._account(client).left() > 0

    def spend(self, client: str, seconds: float) -> None:
        """Record that others have waited for a client, in seconds."""
        self._all.spend(seconds)
        self._account(client).spend(seconds)

    def _account(self, client: str) -> _Account:
        account = self._clients.pop(client, None) or _Account(_SHARE, _MOST_SECONDS)
        self._clients[client] = account
        while len(self._clients) > _CLIENTS:
            self._clients.popitem(last=False)
        return account
