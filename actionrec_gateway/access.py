"""Who asks: the tokens of the file that nginx reads too, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import os
import re
from pathlib import Path

from actionrec.errors import ClipError
from actionrec.refusals import refuse
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from .settings import Settings

logger = logging.getLogger(__name__)

OPEN = frozenset(
    {
        *("/", "/health", "/ready", "/ping", "/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json"),
        "/page/teach/report",
    }
)
"""Paths that ask for no token: what load balancers look at, the description of the routes, the page, and
reports, whose addresses have secrets of their own."""
OPEN_BELOW = ("/docs/", "/page/files/")

_OTHERS = (b"cross-site", b"same-site")
"""What browsers send in ``Sec-Fetch-Site`` for pages of other addresses."""
_OF_PROXIES = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
"""Headers that tell of a proxy between who asks and this gateway."""
_LINE = re.compile(r'"Bearer ([0-9A-Za-z]{16,256})" "([^"]{1,64})";')


class Tokens:
    """The tokens of a file with lines ``"Bearer <token>" "<client>";``. A changed file is read again at once.

    Args:
        path: the file.

    Raises:
        ValueError, OSError: it cannot be read, or has a line of another form.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = _look(path)
        self._clients = _read(path)

    def client(self, authorization: str) -> str | None:
        """The client with this ``Authorization``; None: nobody has it.

        Every token is compared, each in constant time, so that the time tells nothing about any of them.
        """
        self._refresh()
        asked = _digest(authorization)
        found = None
        for known, client in self._clients:
            if hmac.compare_digest(known, asked):
                found = client
        return found

    def _refresh(self) -> None:
        try:
            if (seen := _look(self._path)) != self._seen:
                self._clients, self._seen = _read(self._path), seen
        except (OSError, ValueError) as error:
            # As nginx does: what held before holds until the file is right again.
            logger.error("The tokens file is not read again: %s", error)


class Access:
    """Asks each request for its token, and gives it ``request.state.client``, the token's name.

    Args:
        app: what answers.
        tokens: who may ask; None: everybody, without a name.
        health_route: a further path that asks for no token.
    """

    def __init__(self, app: ASGIApp, tokens: Tokens | None, health_route: str | None = None) -> None:
        self._app, self._tokens, self._health_route = app, tokens, health_route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            ClipError: 401, 403.
        """
        if scope["type"] == "http" and _from_another_page(scope):
            raise ClipError(
                "FORBIDDEN",
                403,
                "A page of another site sent this request.",
                "Send it from a program, or from a page of this address.",
            )
        if scope["type"] == "http" and self._tokens is not None:
            client = self._tokens.client(_authorization(scope))
            if client is None and not _open(scope, self._health_route):
                raise refuse("UNAUTHORIZED")
            scope["state"]["client"] = client or ""
        await self._app(scope, receive, send)


def require_administrator(request: Request) -> None:
    """Refuse a request without an administrator's token; a dependency of routes that change the server.

    Raises:
        ClipError: 403.
    """
    settings: Settings = request.app.state.settings
    if not request.state.client or request.state.client not in settings.admins:
        raise ClipError(
            "FORBIDDEN",
            403,
            "This address is for administrators.",
            "Send an administrator's token. GATEWAY_TOKENS and GATEWAY_ADMINS say who has one.",
        )


def may_teach(request: Request) -> bool:
    """Whether who asks may have this server learn: an administrator, or without tokens who sits at it.

    The latter can do that in a terminal, too. A name that leads to this host, a proxy, and a gateway that other
    hosts reach make anybody look as if he sat here.
    """
    settings: Settings = request.app.state.settings
    if settings.tokens is not None:
        return bool(request.state.client) and request.state.client in settings.admins
    asked_by = request.client.host if request.client else ""
    here = all(_is_loopback(name) for name in (settings.host, asked_by, request.url.hostname or ""))
    return here and not any(name in request.headers for name in _OF_PROXIES)


def require_teacher(request: Request) -> None:
    """Refuse a request of somebody who may not have this server learn; a dependency of routes.

    Raises:
        ClipError: 403.
    """
    if not may_teach(request):
        raise ClipError(
            "FORBIDDEN",
            403,
            "Only an administrator has this server learn.",
            "Send an administrator's token (GATEWAY_TOKENS, GATEWAY_ADMINS). Without tokens: on the server's "
            "own machine, at http://127.0.0.1.",
        )


def share_of(scope: Scope) -> str:
    """Whose share of the engine a request takes: its client's, or that of its address.

    As with nginx, an IPv6 network of 64 bits counts as one address.
    """
    if client := scope["state"]["client"]:
        return str(client)
    address = scope["client"][0] if scope.get("client") else ""
    return str(ipaddress.ip_network(f"{address}/64", strict=False)) if ":" in address else str(address)


def _is_loopback(name: str) -> bool:
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _from_another_page(scope: Scope) -> bool:
    """Whether a browser sends this for a page of another site.

    The page could not read the reply, but what it asks for would be done: whoever reaches this address would
    lend that right to every page that he opens.
    """
    if scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return False
    return any(name == b"sec-fetch-site" and value in _OTHERS for name, value in scope["headers"])


def _authorization(scope: Scope) -> str:
    found = [value for name, value in scope["headers"] if name == b"authorization"]
    return found[0].decode("latin-1") if len(found) == 1 else ""


def _open(scope: Scope, health_route: str | None) -> bool:
    """Whether a request needs no token: one that reads, of an open path. ``POST /`` is Hugging Face's."""
    path = scope["path"]
    found = path in OPEN or path.startswith(OPEN_BELOW) or path == health_route
    return found and scope["method"] in ("GET", "HEAD")


def _digest(authorization: str) -> bytes:
    # nginx compares without regard to case. Digests have one length, whatever was sent.
    return hashlib.sha256(authorization.lower().encode("utf-8", "replace")).digest()


def _look(path: Path) -> tuple[int, int, int]:
    found = os.stat(path)  # noqa: PTH116  # half the time of Path.stat, for each request
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: Path) -> list[tuple[bytes, str]]:
    clients = []
    for number, line in enumerate(path.read_text(encoding="ascii").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None:
            raise ValueError(f"{path}, line {number}, is no token as `python -m deploy token` writes it")
        clients.append((_digest(f"Bearer {found[1]}"), found[2]))
    return clients
