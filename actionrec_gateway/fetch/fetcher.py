"""The bytes of what lies at an address, as many and for as long as is allowed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from actionrec.errors import ClipError
from actionrec.limits import DEFAULT_LIMITS

from ..settings import Settings
from . import stores, web
from .addresses import resolve
from .place import AllowList, Place

REQUEST_SECONDS = 60.0
"""For a video of a request, whose sender waits."""


class Fetcher:
    """Fetches what the settings allow.

    Args:
        settings: their `fetch` and `fetch_private`.

    Raises:
        ValueError: an entry of `fetch` is no address.
    """

    def __init__(self, settings: Settings) -> None:
        self._allowed = AllowList(settings.fetch)
        self._private = settings.fetch_private

    def place(self, url: object) -> Place:
        """Take an address apart and make sure that it is on the list. Asks nobody.

        Raises:
            ClipError: 400, 403.
        """
        place = Place.parse(url)
        self._allowed.check(place)
        return place

    async def stream(self, place: Place, most_bytes: int, seconds: float) -> AsyncGenerator[bytes, None]:
        """What lies there, piece by piece. Close it (`contextlib.aclosing`) where it is not read to its end.

        Args:
            place: of `place`.
            most_bytes: that it may have.
            seconds: for all of it.

        Raises:
            ClipError: 403, 413, 422, and 502 or 504 where another try may help.
        """
        try:
            async with asyncio.timeout(seconds):
                got = 0
                async with aclosing(self._chunks(place, most_bytes, seconds)) as chunks:
                    async for chunk in chunks:
                        got += len(chunk)
                        _check_size(got, most_bytes, place)
                        yield chunk
        except TimeoutError as error:
            raise web.failed(place, error) from None
        if not got:
            raise ClipError("EMPTY_BODY", 422, f"{place.shown} has no bytes.", "Is it still being written?")

    async def _chunks(self, place: Place, most_bytes: int, seconds: float) -> AsyncGenerator[bytes, None]:
        self._allowed.check(place)
        if place.is_store:
            async with stores.opened(place, seconds) as found:
                _check_size(found.size, most_bytes, place)
                async for chunk in found.body:
                    yield chunk
            return
        async with web.opened(place, self._allowed, private=self._private) as (_, reply):
            _check_size(reply.content_length or 0, most_bytes, place)
            async for chunk in web.body(reply, place):
                yield chunk

    async def read(self, place: Place, most_bytes: int, seconds: float) -> tuple[Place, bytes]:
        """All of what lies at an address of the web, and where it lay after redirects.

        Args:
            place: of `place`.
            most_bytes: that it may have.
            seconds: for all of it.

        Raises:
            ClipError: 403, 413, 422, and 502 or 504 where another try may help.
        """
        data = bytearray()
        try:
            async with (
                asyncio.timeout(seconds),
                web.opened(place, self._allowed, private=self._private) as (found, reply),
            ):
                async for chunk in web.body(reply, place):
                    data += chunk
                    _check_size(len(data), most_bytes, place)
                return found, bytes(data)
        except TimeoutError as error:
            raise web.failed(place, error) from None

    async def fetch(
        self, url: object, most_bytes: int = DEFAULT_LIMITS.body_bytes, seconds: float = REQUEST_SECONDS
    ) -> bytes:
        """All of what lies at an address.

        Args:
            url: as a client gives it.
            most_bytes: that it may have.
            seconds: for all of it.

        Raises:
            ClipError: 400, 403, 413, 422, 502, 504.
        """
        data = bytearray()
        async with aclosing(self.stream(self.place(url), most_bytes, seconds)) as chunks:
            async for chunk in chunks:
                data += chunk
        return bytes(data)

    async def check_host(self, place: Place) -> None:
        """Make sure that a host may be connected to.

        Raises:
            ClipError: 403, 502.
        """
        await resolve(place.host, place.port, private=self._private)


async def fetch(url: object, settings: Settings) -> bytes:
    """The video of a request by its address.

    Args:
        url: as a client gives it; may be anything.
        settings: their `fetch` and `fetch_private`.

    Raises:
        ClipError: 400, 403, 413, 422, 502, 504.
    """
    return await Fetcher(settings).fetch(url)


def _check_size(size: int, most_bytes: int, place: Place) -> None:
    if size > most_bytes:
        message = f"{place.shown} has more than the {most_bytes:,} bytes that are allowed."
        raise ClipError("TOO_LARGE", 413, message, "Cut it, or re-encode it at a lower bit rate.")
