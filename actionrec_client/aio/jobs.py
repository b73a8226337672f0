"""Jobs of a gateway, for asyncio; see `actionrec_client.jobs`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from .. import job_data as data
from ..job_data import JobState
from ..results import Result, Timeline
from .transport import AsyncTransport


class AsyncJob:
    """See `Job`.

    Args:
        transport: sends the requests.
        address: of the gateway.
        state: as it was last seen.
    """

    def __init__(self, transport: AsyncTransport, address: str, state: JobState) -> None:
        self._transport, self._address = transport, address
        self.state = state
        """How it was when it was last looked at."""

    @property
    def id(self) -> str:
        """Its name."""
        return self.state.id

    async def refresh(self) -> JobState:
        """See `Job.refresh`.

        Raises:
            ServerError: the gateway does not answer, or has no such job.
        """
        url = self._address + data.job_path(self.id)
        self.state = JobState.from_dict(await self._transport.call("GET", url, own_error=False))
        return self.state

    async def wait(
        self, timeout: float | None = None, on_progress: Callable[[JobState], None] | None = None
    ) -> JobState:
        """See `Job.wait`.

        Raises:
            NoReply: the time is up; the job goes on.
            ServerError: the gateway does not answer for longer than the client's time limit.
        """
        looks = data.Looks(timeout)
        while not (await self.refresh()).has_ended:
            if on_progress:
                on_progress(self.state)
            await asyncio.sleep(looks.pause(self.state))
        if on_progress:
            on_progress(self.state)
        return self.state

    async def results(self) -> Result | Timeline:
        """See `Job.results`.

        Raises:
            ServerError: it is not done; or why it failed.
        """
        pages = data.Pages()
        while pages.next is not None:
            pages.add(await self._transport.call("GET", self._address + pages.path(self.id)))
        return pages.result()

    async def cancel(self) -> JobState:
        """See `Job.cancel`.

        Raises:
            ServerError: the gateway does not answer, or has no such job.
        """
        url = self._address + data.job_path(self.id)
        self.state = JobState.from_dict(await self._transport.call("DELETE", url, own_error=False))
        return self.state

    async def remove(self) -> None:
        """See `Job.remove`.

        Raises:
            ServerError: the gateway does not answer, or has no such job.
        """
        await self._transport.call("DELETE", self._address + data.job_path(self.id, "/results"))


async def listed(transport: AsyncTransport, address: str, state: data.State | None) -> AsyncIterator[AsyncJob]:
    """The jobs of a gateway, the newest first."""
    path: str | None = data.list_path(state)
    while path:
        page = data.check(await transport.call("GET", address + path, own_error=False))
        for found in data.views(page):
            yield AsyncJob(transport, address, found)
        path = page.get("next")
