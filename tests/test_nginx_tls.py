"""Promise: what is recorded of a connection today cannot be read with a key that is stolen tomorrow."""

from __future__ import annotations

import socket
import ssl
import warnings
from pathlib import Path

import pytest
import requests

from deploy.nginx import Front
from tests.helpers_nginx import Outside, variant

pytest_plugins = ("tests.fixtures_nginx",)


def shake_hands(outside: Outside, ciphers: str, version: ssl.TLSVersion) -> str:
    """Name of the cipher that was agreed on.

    Raises:
        ssl.SSLError: none was.
    """
    context = ssl.create_default_context(cafile=str(outside.cert))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TLS 1.1, which is to be refused
        context.minimum_version = context.maximum_version = version
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    plain = socket.create_connection(("127.0.0.1", outside.port), timeout=40)
    with context.wrap_socket(plain, server_hostname="localhost") as connection:
        chosen = connection.cipher()
    assert chosen is not None
    return chosen[0]


@pytest.mark.parametrize(
    "cipher",
    ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305"],
)
def test_good_ciphers(outside: Outside, cipher: str) -> None:
    """TLS 1.2 with a key for each connection and an authenticated cipher is spoken."""
    assert shake_hands(outside, cipher, ssl.TLSVersion.TLSv1_2) == cipher


def test_tls_1_3(outside: Outside) -> None:
    """And TLS 1.3, which has no other ciphers."""
    assert shake_hands(outside, "ALL", ssl.TLSVersion.TLSv1_3).startswith("TLS_")


@pytest.mark.parametrize(
    "cipher",
    [
        *("AES128-SHA", "AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES256-SHA256"),  # no forward secrecy
        *("ECDHE-RSA-AES128-SHA", "ECDHE-RSA-AES256-SHA384"),  # not authenticated
        "DHE-RSA-AES128-GCM-SHA256",
        "ECDHE-RSA-NULL-SHA",
    ],
)
def test_other_ciphers(outside: Outside, cipher: str) -> None:
    """All others are refused in the handshake."""
    with pytest.raises(ssl.SSLError, match=r"(?i)handshake.failure"):
        shake_hands(outside, cipher, ssl.TLSVersion.TLSv1_2)


def test_older_versions(outside: Outside) -> None:
    """TLS 1.1 is refused."""
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
        shake_hands(outside, "ALL", ssl.TLSVersion.TLSv1_1)


def test_browsers_are_told_to_come_back_by_tls(outside: Outside, front: Front, tmp_path: Path) -> None:
    """Each reply, of nginx or passed on, has HSTS where there is TLS, and none where there is not."""
    name = "Strict-Transport-Security"
    for reply in (
        outside.predict(),
        *(outside.predict(f"status {status}".encode()) for status in (400, 415, 500, 503)),
        outside.predict(b"torchserve 503"),
        outside.predict(Authorization="Bearer no"),
        outside.predict(path="/predictions/nobody"),
        outside.predict(path="/nothing"),
        requests.get(f"{outside.url}/health", verify=str(outside.cert), timeout=60),
        requests.get(f"{outside.url}/predictions/behind", verify=str(outside.cert), timeout=60),
    ):
        assert reply.headers.get(name) == "max-age=63072000", (reply.status_code, reply.text)
    with variant(front, tmp_path, cert=None, key=None) as plain:
        reply = requests.get(f"http://127.0.0.1:{plain.port}/health", timeout=60)
        assert reply.status_code == 200
        assert name not in reply.headers
