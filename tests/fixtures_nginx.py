"""nginx in front of a real TorchServe whose handler says what arrived."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from deploy.nginx import Front, add_token
from deploy.preflight import free_ports
from tests.conftest import PROJECT, RunningServer, StartServer, pack
from tests.helpers_nginx import BODY_LIMIT, Outside, nginx

# Says what of a request arrived. Told to, it waits, or answers with a status: as the handler does, with its
# error in a header too, or as TorchServe does by itself.
BEHIND = """
import json
import time

class Behind:
    def initialize(self, context): pass
    def handle(self, data, context):
        body = bytes(data[0].get("body") or data[0].get("data") or b"")
        command, _, value = body[:20].decode("latin1").partition(" ")
        if command == "sleep":
            time.sleep(float(value))
        if command in ("status", "torchserve"):
            context.set_response_status(int(value), "Said", 0)
        if command == "status":
            context.set_response_header(0, "X-Actionrec", "1")
            error = {"code": "OWN", "status": int(value), "message": '\\u00e4"\\n$host', "hint": "none"}
            reply = {"error": error, "request_id": "its own"}
            context.set_response_content_type(0, "application/json")
            context.set_response_header(0, "X-Actionrec-Error", json.dumps(reply))
            if value == "503":
                context.set_response_header(0, "Retry-After", "7")
            return [json.dumps(reply, ensure_ascii=False).encode()]
        headers = context.get_all_request_header(0)
        return [{"bytes": len(body), "fields": len(data[0]), "headers": headers}]
"""
CONFIG = "minWorkers: 1\nmaxWorkers: 1\nbatchSize: 1\njobQueueSize: 2\n"


@pytest.fixture(scope="module")
def behind(server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    home = tmp_path_factory.mktemp("behind")
    text = (PROJECT / "config.properties").read_text(encoding="utf-8")
    config = home / "config.properties"
    config.write_text(text.replace("max_request_size=104857600", f"max_request_size={BODY_LIMIT}"))
    return server(pack("behind", BEHIND, home / "store", CONFIG), config=config)


@pytest.fixture(scope="module")
def front(behind: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Front:
    home = tmp_path_factory.mktemp("front")
    cert, key = home / "cert.pem", home / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return Front(
        server_name="localhost",
        cert=cert,
        key=key,
        tokens=home / "tokens",
        listen=f"127.0.0.1:{free_ports('127.0.0.1')}",
        config=behind.run_dir / "config.properties",
        run_dir=home / "nginx",
        log_dir=home / "logs",
        rate=1000,
        burst=1000,
        # As root nginx gives its workers another user, who cannot see a test's directory.
        user="root" if os.geteuid() == 0 else "",
    )


@pytest.fixture(scope="module")
def outside(front: Front) -> Iterator[Outside]:
    assert front.tokens is not None
    assert front.cert is not None
    token, neighbour = add_token(front.tokens, "tester"), add_token(front.tokens, "neighbour")
    with nginx(front, front.run_dir.parent):
        yield Outside(int(front.listen.split(":")[1]), front.cert, token, neighbour, front.run_dir.parent)
