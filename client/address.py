"""Where a server is, from what a user calls it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from .errors import Refused


@dataclass(frozen=True, slots=True)
class Place:
    """The addresses of a server."""

    inference: str
    """``http://host:8080``"""
    management: str | None
    """The next port, where one is named; None where it cannot be told."""
    model: str | None
    """Where the address has it."""


def parse(url: str, management_url: str | None) -> Place:
    """Take an address apart.

    Args:
        url: ``host:8080``, ``http://host:8080``, ``http://host:8080/predictions/motion``.
        management_url: in the place of the next port.

    Raises:
        Refused: ``BAD_URL``.
    """
    text = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise _bad_url(url) from error
    path = [part for part in parts.path.split("/") if part]
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise _bad_url(url)
    model = None
    if len(path) >= 2 and path[-2] == "predictions":
        model = path[-1]
        path = path[:-2]
    inference = "/".join([f"{parts.scheme}://{parts.netloc}", *path])
    if management_url is None and port is not None:
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        management_url = f"{parts.scheme}://{host}:{port + 1}"
    return Place(inference, management_url.rstrip("/") if management_url else None, model)


def _bad_url(url: str) -> Refused:
    hint = "Use http://host:8080 or http://host:8080/predictions/model."
    return Refused("BAD_URL", 0, f"{url!r} is no address of a server.", hint)
