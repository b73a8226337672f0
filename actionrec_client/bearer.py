"""The token that a server asks for: which servers may see it, and what must not show it."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from .errors import Refused

_NO_SECRET_BELOW = 16
"""Characters; a shorter token can be guessed, and may be part of a model's name."""
_HIDDEN = "***"
_SECRET_PARAMETER = r"(?i)([?&;][^=&;\s]*(?:pass|pwd|token|secret|key|auth|sig)[^=&;\s]*=)[^&;\s]+"


class Bearer(AuthBase):
    """Adds the token to each request that may carry it. `requests` calls it once for every request.

    It is used without a token too: where `requests` is given no `auth`, it takes a password from ``~/.netrc``,
    and sends it even where a header with a token is set.

    Args:
        token: None or empty: no token is sent.
        insecure: send it over plain http to any host.

    Raises:
        Refused: ``BAD_TOKEN``: no header can carry it.
    """

    def __init__(self, token: str | None, *, insecure: bool = False) -> None:
        self._token = token.strip() if token else ""
        self._insecure = insecure
        # The token is not in the message, which goes to logs.
        if token and not re.fullmatch(r"[!-~]+", self._token):
            raise Refused(
                "BAD_TOKEN",
                0,
                f"The token of {len(token)} characters is blank, or has one in it that no header can carry.",
                "Is it more than one line? `python -m deploy token` makes 64 hexadecimal digits.",
            )

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the header, or refuse."""
        # The address that the request is sent to, whatever was asked for at first.
        request.headers.update(self.header(request.url or ""))
        return request

    def header(self, url: str) -> dict[str, str]:
        """The header for a request to an address; empty where there is no token.

        Raises:
            Refused: ``INSECURE_TOKEN``.
        """
        self.check(url)
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def check(self, url: str) -> None:
        """Make sure that nobody on the way to an address can read the token.

        Raises:
            Refused: ``INSECURE_TOKEN``.
        """
        parts = urlsplit(url)
        if not self._token or self._insecure or parts.scheme == "https" or is_loopback(parts.hostname or ""):
            return
        raise Refused(
            "INSECURE_TOKEN",
            0,
            f"The token is not sent to {parts.scheme}://{parts.netloc}: over plain http everybody on the way "
            "can read it.",
            "Use https://. Where the network is your own: --insecure-token (ACTIONREC_INSECURE_TOKEN=1, "
            "insecure_token=True).",
        )

    def hide(self, text: str) -> str:
        """A reply's text without the token. Some servers and proxies repeat the headers that they were sent,
        and their replies go into messages, logs and files of results.
        """
        return text.replace(self._token, _HIDDEN) if len(self._token) >= _NO_SECRET_BELOW else text


def is_loopback(host: str) -> bool:
    """Whether the host of an address is this machine. ``localhost`` is the only name that counts."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def hide_password(text: str) -> str:
    """An address without user name, password, and the values of parameters such as ``?password=``."""
    return re.sub(_SECRET_PARAMETER, rf"\g<1>{_HIDDEN}", re.sub(r"(?<=://)[^/\s]*@", f"{_HIDDEN}@", text))
