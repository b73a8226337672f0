"""``s3://`` and ``gs://``: objects in a store, by obstore.

Credentials come from the environment, or there are none.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import unquote

import obstore
from actionrec.errors import ClipError
from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import GCSStore, S3Store

from .place import Place
from .web import CHUNK_BYTES, CONNECT_SECONDS

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

# Without one of these a store would ask the machine's metadata service for credentials.
_S3_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_GS_CREDENTIALS = (
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_APPLICATION_CREDENTIALS",
)
_RETRIES = 2


@dataclass(frozen=True, slots=True)
class Object:
    """An object that is being read."""

    size: int
    """Bytes, as the store says."""
    body: AsyncIterator[bytes]


@asynccontextmanager
async def opened(place: Place, seconds: float) -> AsyncIterator[Object]:
    """An object.

    Args:
        place: ``s3://`` or ``gs://``; the allow-list has been asked.
        seconds: for all of it.

    Raises:
        ClipError: it is not there, may not be read, or the store does not answer.
    """
    try:
        found = await obstore.get_async(_store(place, seconds), unquote(place.path.removeprefix("/")))
        yield Object(found.meta["size"], _bytes(found, place))
    except ClipError:  # a ValueError too
        raise
    except (BaseError, ValueError, OSError) as error:
        raise _failed(place, error) from None


async def _bytes(found: obstore.GetResult, place: Place) -> AsyncIterator[bytes]:
    try:
        async for chunk in found.stream(min_chunk_size=CHUNK_BYTES):
            yield bytes(chunk)
    except (BaseError, OSError) as error:
        raise _failed(place, error) from None


def _store(place: Place, seconds: float) -> S3Store | GCSStore:
    limit = timedelta(seconds=seconds)
    options: ClientConfig = {"connect_timeout": timedelta(seconds=CONNECT_SECONDS), "timeout": limit}
    retries: RetryConfig = {"max_retries": _RETRIES, "retry_timeout": limit}
    # Of a store of one's own, on a closed network.
    plain = os.environ.get("AWS_ALLOW_HTTP" if place.scheme == "s3" else "GOOGLE_ALLOW_HTTP", "")
    options["allow_http"] = plain.lower() in ("1", "true")
    if place.scheme == "s3":
        unsigned = not any(os.environ.get(name) for name in _S3_CREDENTIALS)
        return S3Store(place.host, client_options=options, retry_config=retries, skip_signature=unsigned)
    unsigned = not any(os.environ.get(name) for name in _GS_CREDENTIALS)
    return GCSStore(place.host, client_options=options, retry_config=retries, skip_signature=unsigned)


def _failed(place: Place, error: BaseException) -> ClipError:
    # What the store says may hold its credentials.
    if isinstance(error, FileNotFoundError | NotFoundError):
        return ClipError("NOT_FETCHED", 422, f"There is no {place.shown}.", "Is the key spelt right?")
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        message = f"{place.shown} may not be read."
        return ClipError("NOT_FETCHED", 422, message, "The server's operator has to give it the rights.")
    return ClipError("FETCH_FAILED", 502, f"{place.shown}: the store does not answer.", "Try again later.")
