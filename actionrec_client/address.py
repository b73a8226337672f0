"""The addresses of a server, made from what a user gives."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from .bearer import hide_password
from .errors import Refused


@dataclass(frozen=True, slots=True)
class Place:
    """The addresses of a server."""

    inference: str
    """Where clips go: ``http://host:8080``."""
    management: str | None
    """Where questions about the server go: the next port. None where the inference address names no port."""
    model: str | None
    """The model's name; None where the address has none."""


def parse(url: str, management_url: str | None) -> Place:
    """Take an address apart.

    Args:
        url: ``host:8080``, ``http://host:8080``, ``http://host:8080/predictions/motion``.
        management_url: of the management API; default: the same host's next port.

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
