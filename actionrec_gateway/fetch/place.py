"""An address that a client names, taken apart, and whether the settings allow it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import SplitResult, unquote, urlsplit

from actionrec.errors import ClipError

_PORTS = {"http": 80, "https": 443}
_STORES = ("s3", "gs")
SCHEMES = (*_PORTS, *_STORES)
_LONGEST = 4096
_NAME = re.compile(
    r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*"
)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""The last label of what C libraries read as an IPv4 address: ``2130706433``, ``0x7f.1``, ``127.1``."""
_DECODINGS = 3
"""How often a path may be escaped, one in the other, before it is refused."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something lies."""

    scheme: str
    host: str
    """In lower case: a name, an IPv4 address, or an IPv6 address without brackets; of a store the bucket."""
    port: int
    """0 of a store."""
    path: str
    """With its first slash, escaped as it came."""
    query: str = ""
    """May hold a signature: never shown, logged, or kept in the database."""

    @property
    def is_store(self) -> bool:
        """Whether it is an object in a store."""
        return self.scheme in _STORES

    @property
    def url(self) -> str:
        """All of it, to be asked and not to be shown."""
        return self._without_query + (f"?{self.query}" if self.query else "")

    @property
    def shown(self) -> str:
        """For people, logs and the database."""
        return self._without_query + ("?..." if self.query else "")

    @property
    def _without_query(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port in (0, _PORTS.get(self.scheme)) else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path}"

    @classmethod
    def parse(cls, url: object) -> Place:
        """Take an address apart. What programs may read in different ways is refused.

        Raises:
            ClipError: 400.
        """
        if not isinstance(url, str) or not re.fullmatch(r"[!-~]+", url) or "\\" in url or len(url) > _LONGEST:
            raise _bad("It has characters that an address cannot have, or too many.")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise _bad("It cannot be taken apart.") from error
        scheme = parts.scheme.lower()
        if scheme not in SCHEMES:
            raise _bad("It begins with none of " + ", ".join(f"{name}://" for name in SCHEMES) + ".")
        if "@" in parts.netloc:
            raise ClipError(
                "CREDENTIALS_IN_URL",
                400,
                "The address has a user name or a password in it.",
                "Take it out: the server's operator gives it what it needs for its stores.",
            )
        path = _path(parts.path)
        if scheme in _STORES:
            return _object(scheme, parts, port, path)
        if port == 0:
            raise _bad("Its port is 0.")
        return cls(scheme, _host(parts), port or _PORTS[scheme], path or "/", parts.query)


@dataclass(frozen=True, slots=True)
class _Rule:
    scheme: str
    host: str
    """``*``: any; ``*.example.org``: any below it."""
    port: int
    path: str

    @classmethod
    def parse(cls, text: str) -> _Rule:
        """From an entry of the settings.

        Raises:
            ValueError: it is no address.
        """
        wild, address = "", text
        if found := re.match(r"(https?://)(\*\.|\*(?=[:/]|$))(.*)", text):
            wild = found[2]
            address = found[1] + (found[3] if wild == "*." else f"any{found[3]}")
        try:
            place = Place.parse(address)
        except ClipError as error:
            raise ValueError(
                f"{text!r} is nothing that can be allowed to be fetched: {error.message}"
            ) from error
        if place.query:
            raise ValueError(f"{place.shown} has a query; allow the path before it")
        host = "*" if wild == "*" else wild + place.host
        return cls(place.scheme, host, place.port, place.path)

    def allows(self, place: Place) -> bool:
        if (self.scheme, self.port) != (place.scheme, place.port):
            return False
        host = self.host == "*" or place.host == self.host
        if self.host.startswith("*."):
            host = place.host.endswith(self.host[1:])
        folder = self.path if self.path.endswith("/") else f"{self.path}/"
        return host and (place.path == self.path or place.path.startswith(folder))


class AllowList:
    """What may be fetched.

    Args:
        entries: ``https://clips.example.org/``, ``https://*.example.org/``, ``https://*/``, ``s3://bucket/prefix/``.

    Raises:
        ValueError: one of them is no address.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._rules = [_Rule.parse(entry) for entry in entries]

    def check(self, place: Place) -> None:
        """Refuse what is not on the list.

        Raises:
            ClipError: 403.
        """
        if not self._rules:
            raise ClipError(
                "FETCH_OFF",
                403,
                "This server fetches no videos.",
                "Send the file itself, or ask the server's operator to allow this address.",
            )
        if not any(rule.allows(place) for rule in self._rules):
            raise ClipError(
                "FETCH_NOT_ALLOWED",
                403,
                f"{place.shown} is not among what this server may fetch.",
                "Send the file itself, or ask the server's operator to allow this address.",
            )


def _host(parts: SplitResult) -> str:
    host = (parts.hostname or "").lower()
    if "[" in parts.netloc:
        try:
            address = IPv6Address(host)
        except AddressValueError as error:
            raise _bad("Its host is no IPv6 address.") from error
        if address.scope_id is not None:
            raise _bad("Its address names a network of the server.")
        return address.compressed
    host = host.removesuffix(".")
    if _NUMERIC.fullmatch(host.rpartition(".")[2]):
        try:
            return str(IPv4Address(host))
        except AddressValueError as error:
            raise _bad("Its host is a number that is no IPv4 address in the usual form.") from error
    if not _NAME.fullmatch(host):
        raise _bad("Its host is no name.")
    return host


def _object(scheme: str, parts: SplitResult, port: int | None, path: str) -> Place:
    if port is not None or parts.query or not _BUCKET.fullmatch(parts.netloc):
        raise _bad(f"Of a store it is {scheme}://bucket/key, and no more.")
    return Place(scheme, parts.netloc, 0, path or "/")


def _path(path: str) -> str:
    """A path that cannot leave the folder that it seems to be in."""
    if path and not path.startswith("/"):
        raise _bad("Its path begins with no slash.")
    for segment in path.split("/"):
        text = segment
        for _ in range(_DECODINGS):
            text = unquote(text)
        if text in (".", "..") or unquote(text) != text or re.search(r"[/\\\x00-\x1f]", text):
            raise _bad("Its path has a step in it that leads elsewhere.")
    return path


def _bad(why: str) -> ClipError:
    # Without the address itself: it may hold a password, and what cannot be taken apart cannot be cleaned.
    return ClipError(
        "BAD_URL",
        400,
        f"The address of the video cannot be used. {why}",
        "Write https://host/path, s3://bucket/key.",
    )
