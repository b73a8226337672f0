"""``python -m deploy nginx`` and ``token``: the front of a public server."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from .nginx import Front, add_token, render

Command = Callable[[argparse.Namespace], int]


def add_commands(add: Callable[[str, Command, str], argparse.ArgumentParser]) -> None:
    """Add both commands to the command line.

    Args:
        add: makes a command from its name, its function and one line of help.
    """
    nginx = add("nginx", _nginx, "print the configuration of the nginx in front of the server")
    own = Front(server_name="")
    option = nginx.add_argument
    option("--server-name", required=True, help="the public host name")
    option("--cert", type=Path, help="PEM chain; without it plain HTTP, where something else ends TLS")
    option("--key", type=Path, help="key of the certificate")
    option("--tokens", type=Path, help="file that `token` writes; without it no token is needed")
    option("--listen", default=own.listen, help="port, or address:port")
    option("--config", type=Path, default=own.config, help="configuration of the server behind")
    option("--port", type=int, help="inference port of the server behind, if it was started with one")
    option("--nginx-dir", type=Path, default=own.run_dir, help="folder for nginx's pid file and request bodies")
    option("--log-dir", type=Path, default=own.log_dir)
    option("--rate", type=int, default=own.rate, help="requests a second from each client")
    option("--burst", type=int, default=own.burst, help="requests that a client may send at once beyond them")
    option("--connections", type=int, default=own.connections, help="requests of a client at the same time")
    option("--in-flight", type=int, default=own.in_flight, help="clips of a client in flight at the same time")
    option("--user", default=own.user, help="user that nginx's workers run as")

    token = add("token", _token, "make a token for a client; it works after nginx's next reload")
    token.add_argument("name", help="the client's name")
    token.add_argument("--tokens", type=Path, required=True, help="file to add the token to")


def _nginx(options: argparse.Namespace) -> int:
    front = Front(
        server_name=options.server_name,
        cert=options.cert,
        key=options.key,
        tokens=options.tokens,
        listen=options.listen,
        config=options.config,
        port=options.port,
        run_dir=options.nginx_dir,
        log_dir=options.log_dir,
        rate=options.rate,
        burst=options.burst,
        connections=options.connections,
        in_flight=options.in_flight,
        user=options.user,
    )
    text = render(front)
    for directory in (front.run_dir, front.log_dir):
        directory.mkdir(parents=True, exist_ok=True)
    sys.stdout.write(text)
    return 0


def _token(options: argparse.Namespace) -> int:
    sys.stdout.write(add_token(options.tokens, options.name) + "\n")
    return 0
