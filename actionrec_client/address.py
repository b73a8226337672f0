"""Where a server is, from what a user calls it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from .bearer import hide_password
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
    parts, port = _split(url)
    path = [part for part in parts.path.split("/") if part]
    model = None
    if len(path) >= 2 and path[-2] == "predictions":
        model = path[-1]
        path = path[:-2]
    inference = "/".join([f"{parts.scheme}://{parts.netloc}", *path])
    management = None
    if management_url:
        other, _ = _split(management_url)
        management = f"{other.scheme}://{other.netloc}{other.path.rstrip('/')}"
    elif port is not None:
        host = str(parts.hostname)
        management = f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port + 1}"
    return Place(inference, management, model)


def _split(url: str) -> tuple[SplitResult, int | None]:
    """The parts of an address, and its port where one is named."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port
    except ValueError as error:
        raise _bad_url(url) from error
    if "@" in parts.netloc:
        raise Refused(
            "BAD_URL",
            0,
            f"{hide_password(parts.geturl())} has a user name or a password in it, which logs and lists of "
            "processes would show.",
            "Give the server's token apart: ACTIONREC_TOKEN, --token or token=.",
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise _bad_url(url)
    return parts, port


def _bad_url(url: str) -> Refused:
    hint = "Use http://host:8080 or http://host:8080/predictions/model."
    return Refused("BAD_URL", 0, f"{hide_password(url)!r} is no address of a server.", hint)
