"""Jobs of a gateway: long work that goes on whatever happens to this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from . import job_data as data
from .job_data import JobState
from .results import Result, Timeline
from .transport import Transport


class Job:
    """A job of a gateway. `ActionClient.submit` makes one, `ActionClient.job` finds one again.

    Args:
        transport: sends the requests.
        address: of the gateway.
        state: as it was last seen.
    """

    def __init__(self, transport: Transport, address: str, state: JobState) -> None:
        self._transport, self._address = transport, address
        self.state = state
        """How it was when it was last looked at."""

    @property
    def id(self) -> str:
        """Its name."""
        return self.state.id

    def refresh(self) -> JobState:
        """Look at it.

        Raises:
            ServerError: the gateway does not answer, or has no such job.
        """
        url = self._address + data.job_path(self.id)
        self.state = JobState.from_dict(self._transport.call("GET", url, own_error=False))
        return self.state

    def wait(
        self, timeout: float | None = None, on_progress: Callable[[JobState], None] | None = None
    ) -> JobState:
        """Wait until it has ended. A gateway that is away for a while is waited for.

        Args:
            timeout: seconds; None: for as long as it takes.
            on_progress: called with each look at it.

        Raises:
            NoReply: the time is up; the job goes on.
            ServerError: the gateway does not answer for longer than the client's time limit.
        """
        looks = data.Looks(timeout)
        while not self.refresh().has_ended:
            if on_progress:
                on_progress(self.state)
            time.sleep(looks.pause(self.state))
        if on_progress:
            on_progress(self.state)
        return self.state

    def results(self) -> Result | Timeline:
        """What it has found: the answer of one request, a `Timeline` where it has a stride.

        Raises:
            ServerError: it is not done; or why it failed.
        """
        pages = data.Pages()
        while pages.next is not None:
            pages.add(self._transport.call("GET", self._address + pages.path(self.id)))
        return pages.result()

    def cancel(self) -> JobState:
        """End it, unless it has ended.

        Raises:
            ServerError: the gateway does not answer, or has no such job.
        """
        url = self._address + data.job_path(self.id)
        self.state = JobState.from_dict(self._transport.call("DELETE", url, own_error=False))
        return self.state

    def remove(self) -> None:
        """Have the gateway forget it and its result.

        Raises:
            ServerError: the gateway does not answer, or has no such job.
        """
        self._transport.call("DELETE", self._address + data.job_path(self.id, "/results"))


def listed(transport: Transport, address: str, state: data.State | None) -> Iterator[Job]:
    """The jobs of a gateway, the newest first."""
    path: str | None = data.list_path(state)
    while path:
        page = data.check(transport.call("GET", address + path, own_error=False))
        yield from (Job(transport, address, found) for found in data.views(page))
        path = page.get("next")
