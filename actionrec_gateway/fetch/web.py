"""http and https: each hop is checked, resolved once, and connected to at the address that was checked."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urljoin

import aiohttp
from actionrec.errors import ClipError
from yarl import URL

from .addresses import Pinned, resolve
from .place import AllowList, Place

CONNECT_SECONDS = 10.0
IDLE_SECONDS = 30.0
"""The longest silence."""
MOST_REDIRECTS = 5
CHUNK_BYTES = 1 << 18
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRY_AGAIN = frozenset({408, 425, 429})


@asynccontextmanager
async def opened(
    place: Place, allowed: AllowList, *, private: bool
) -> AsyncIterator[tuple[Place, aiohttp.ClientResponse]]:
    """The reply of an address, and where it lay after its redirects.

    Args:
        place: http or https.
        allowed: where a redirect may lead.
        private: see `addresses.may_connect`.

    Raises:
        ClipError: it may not be asked, does not answer, or has nothing.
    """
    for _ in range(MOST_REDIRECTS + 1):
        allowed.check(place)
        async with _asked(place, private=private) as reply:
            if reply.status not in _REDIRECTS:
                _check(reply, place)
                yield place, reply
                return
            place = _next(reply, place)
    raise ClipError(
        "NOT_FETCHED", 422, f"The address leads to more than {MOST_REDIRECTS} others.", "Give the last of them."
    )


async def body(reply: aiohttp.ClientResponse, place: Place) -> AsyncIterator[bytes]:
    """The bytes of a reply, piece by piece.

    Raises:
        ClipError: the connection breaks.
    """
    try:
        async for chunk in reply.content.iter_chunked(CHUNK_BYTES):
            yield chunk
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise failed(place, error) from None


async def post(place: Place, body: bytes, headers: Mapping[str, str], *, private: bool) -> int:
    """Send something to an address, and return the status of its answer. Redirects are not followed.

    Args:
        place: http or https.
        body: what is sent.
        headers: with its type.
        private: see `addresses.may_connect`.

    Raises:
        ClipError: it may not be asked, or does not answer.
    """
    async with _asked(place, "POST", body, headers, private=private) as reply:
        return reply.status


@asynccontextmanager
async def _asked(
    place: Place,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    private: bool,
) -> AsyncIterator[aiohttp.ClientResponse]:
    resolved = await resolve(place.host, place.port, private=private)
    # One connector for each hop: no connection and no look-up of another one is used again.
    connector = aiohttp.TCPConnector(resolver=Pinned(resolved), use_dns_cache=False, force_close=True)
    limits = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=IDLE_SECONDS)
    # No proxy, no password file, no cookies, and no decompression, which could make gigabytes of a kilobyte.
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=limits,
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        headers={"Accept-Encoding": "identity", "User-Agent": "actionrec", "Accept": "*/*"},
    ) as session:
        try:
            # `encoded`: as it was checked, without another normalisation.
            async with session.request(
                method, URL(place.url, encoded=True), data=body, headers=headers, allow_redirects=False
            ) as reply:
                yield reply
        except ClipError:  # a ValueError too
            raise
        except (TimeoutError, aiohttp.ClientError, ssl.SSLError, OSError, ValueError) as error:
            raise failed(place, error) from None  # its own words may hold the query


def failed(place: Place, error: BaseException) -> ClipError:
    """The error for a reply that does not come, or not to its end. Says nothing that the other end said."""
    if isinstance(error, TimeoutError):
        return ClipError("FETCH_TIMEOUT", 504, f"{place.shown} does not answer in time.", "Try again later.")
    why = "the certificate is not valid" if isinstance(error, ssl.SSLError) else "the connection fails"
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        why = "the certificate is not valid"
    return ClipError("FETCH_FAILED", 502, f"{place.shown}: {why}.", "Try again later, or send the file itself.")


def _check(reply: aiohttp.ClientResponse, place: Place) -> None:
    if reply.status != 200:
        again = reply.status >= 500 or reply.status in _TRY_AGAIN
        code, status = ("FETCH_FAILED", 502) if again else ("NOT_FETCHED", 422)
        message = f"{place.shown} answers with status {reply.status}."
        raise ClipError(code, status, message, "Does the address still work? Signed ones end after some time.")
    if reply.headers.get("Content-Encoding", "identity").lower() != "identity":
        message = f"{place.shown} answers with a compressed body, which was not asked for."
        raise ClipError("NOT_FETCHED", 422, message, "Have it served as it is.")


def _next(reply: aiohttp.ClientResponse, place: Place) -> Place:
    target = reply.headers.get("Location")
    if not target:
        message = f"{place.shown} redirects to nowhere."
        raise ClipError("NOT_FETCHED", 422, message, "Give the address that it should lead to.")
    try:
        return Place.parse(urljoin(place.url, target))
    except ClipError as error:
        hint = "Give the address that it should lead to."
        raise ClipError(
            "NOT_FETCHED", 422, f"{place.shown} redirects to an address of no use.", hint
        ) from error
