"""The configuration of the nginx in front of the server: ``production/nginx.conf`` with this host's values."""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass, fields
from pathlib import Path

import jinja2
from actionrec.refusals import refuse

from .config import load_config
from .preflight import DeployError

TEMPLATE = Path(__file__).parent / "production" / "nginx.conf"

QUEUE_SECONDS = 60
"""Seconds in TorchServe's queue, beyond its own time for a batch, that a door waits."""
_TRY_AGAIN = 'add_header Retry-After "1" always;'

# Only ciphers with forward secrecy: a key stolen tomorrow cannot decrypt traffic recorded today.
_CIPHERS = ":".join(
    f"ECDHE-{signature}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for signature in ("ECDSA", "RSA")
)
_HSTS = 'add_header Strict-Transport-Security "max-age=63072000" always;'  # two years
_HANDLERS = (400, 413, 500, 503)
"""Statuses that the handler uses too: it sends its error in a header as well as in the body."""

# Name of a location -> (code, directives for further headers). The words stand in `REFUSALS`.
ERRORS = {
    "400": ("BAD_REQUEST", ""),
    "401": ("UNAUTHORIZED", 'add_header WWW-Authenticate "Bearer" always;'),
    "404": ("NOT_FOUND", ""),
    "model": ("MODEL_NOT_FOUND", ""),
    "405": ("METHOD_NOT_ALLOWED", 'add_header Allow "POST, PUT" always;'),
    "408": ("REQUEST_TIMEOUT", ""),
    "413": ("BODY_TOO_LARGE", ""),
    "429": ("TOO_MANY_REQUESTS", _TRY_AGAIN),
    "500": ("INTERNAL", ""),
    "501": ("UNSUPPORTED_ENCODING", ""),
    "503": ("UNAVAILABLE", _TRY_AGAIN),
    "504": ("UPSTREAM_TIMEOUT", ""),
}


@dataclass(frozen=True)
class Front:
    """The values that differ from host to host."""

    server_name: str
    cert: Path | None = None
    """PEM chain; None: plain HTTP, for a host where something else ends TLS."""
    key: Path | None = None
    tokens: Path | None = None
    """File of tokens; None: requests need no token."""
    listen: str = "443"
    """Port, or address:port."""
    config: Path = Path("config.properties")
    """Configuration of the server behind: its address and limits."""
    port: int | None = None
    """Inference port of the server behind; None: that of its configuration."""
    run_dir: Path = Path("run/nginx")
    log_dir: Path = Path("logs")
    rate: int = 10
    """Requests a second from each client..."""
    burst: int = 40
    """... and requests that it may send at once beyond them."""
    connections: int = 64
    """Requests of each client at the same time, of any kind..."""
    in_flight: int = 16
    """... and clips of it that are being answered; TorchServe's queue holds 100 of all clients."""
    user: str = ""
    """User that nginx's workers run as; empty: nginx's default."""


def render(front: Front) -> str:
    """The text of an ``nginx.conf``.

    Raises:
        DeployError: a value is not allowed, or would mean something else inside the configuration.
    """
    server = load_config(front.config, front.port)
    if (front.cert is None) != (front.key is None):
        raise DeployError("a certificate needs its key and the key its certificate", "give --cert and --key")
    for name in ("cert", "key", "tokens", "run_dir", "log_dir"):
        path = getattr(front, name)
        if path is not None and not re.fullmatch(r"[\w./@+-]+", str(path)):
            raise DeployError(
                f"{path} is not allowed in nginx's configuration", "use letters, digits and ._/@+-"
            )
    for value, allowed in (
        (front.server_name, r"[\w.*-]+"),
        (front.listen, r"[\w.:\[\]*]+"),
        (front.user, r"[\w-]*"),
    ):
        if not re.fullmatch(allowed, value):
            raise DeployError(f"{value!r} is not allowed in nginx's configuration", f"it must be {allowed}")
    template = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    ).from_string(TEMPLATE.read_text(encoding="utf-8"))
    places = {name: _absolute(getattr(front, name)) for name in ("cert", "key", "tokens", "run_dir", "log_dir")}
    return template.render(
        **{each.name: getattr(front, each.name) for each in fields(front)} | places,
        hsts=_HSTS if front.cert else "",
        ciphers=_CIPHERS,
        upstream=f"{server.host}:{server.ports[0]}",
        max_body_bytes=server.max_request_bytes,
        read_seconds=server.response_seconds + QUEUE_SECONDS,
        errors=[_error(name, server.max_request_bytes) for name in ERRORS],
    )


def add_token(path: Path, name: str) -> str:
    """Make a token for a client; it works after nginx's next reload.

    Args:
        path: the file of tokens, which only its owner can read. Removing a line there ends that token.
        name: the client's name, which appears in the log.

    Returns:
        The token, 64 hexadecimal digits.

    Raises:
        DeployError: the name is not allowed, or has a token already.
    """
    if not re.fullmatch(r"(?=.*[A-Za-z])[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
        # A name without a letter could be a stranger's address, who would then use up this client's share.
        raise DeployError(
            f"{name!r} cannot be a client's name",
            "use letters, digits, '_', '.' and '-', and a letter at least",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    lines = path.read_text(encoding="ascii")
    if f' "{name}";' in lines:
        raise DeployError(f"{name} has a token already", f"take its line out of {path} first")
    token = secrets.token_hex(32)
    path.write_text(f'{lines}"Bearer {token}" "{name}";\n', encoding="ascii")
    return token


def _error(name: str, max_body_bytes: int) -> dict[str, object]:
    """The template's values for an entry of `ERRORS`."""
    code, headers = ERRORS[name]
    error = refuse(code, max_body_bytes=max_body_bytes)
    body = json.dumps({"error": error.to_dict(), "request_id": "$request_id"}).replace("'", "\\'")
    return {
        "name": name,
        "status": error.status,
        "body": body,
        "headers": headers,
        "of_the_handler": error.status in _HANDLERS,
    }


def _absolute(path: Path | None) -> str:
    return str(path.resolve()) if path else ""
