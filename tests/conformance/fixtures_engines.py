"""The engines under test: each is a fixture that answers one request. A new engine is one more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from actionrec.pipeline import Classifier
from actionrec.service import Service

from tests.conformance.asking import Engine, over_http, row_of
from tests.conformance.cases import Case
from tests.conformance.replies import Answered
from tests.conftest import RunningServer
from tests.helpers_engines import running
from tests.helpers_gateway import RunningGateway
from tests.helpers_jobs import free_port


@pytest.fixture(scope="module")
def service(motion_unpacked: Path) -> Iterator[Service]:
    """The core itself, which all engines run."""
    service = Service(Classifier.load(motion_unpacked, open_clips=4, sandbox=True))
    yield service
    service.close()


@pytest.fixture(scope="module")
def in_process(service: Service) -> Engine:
    """A call in this process."""

    def ask(case: Case) -> Answered:
        (reply,) = service.answer([row_of(case)])
        return Answered(reply.status, reply.body)

    return ask


@pytest.fixture(scope="module")
def torchserve(motion_server: RunningServer) -> Engine:
    """TorchServe, without a door before it."""
    return over_http(motion_server.inference_url)


@pytest.fixture(scope="module")
def through_the_gateway(gateway: RunningGateway) -> Engine:
    """TorchServe behind the gateway."""
    return over_http(gateway.url)


@pytest.fixture(scope="module")
def ray_serve(tmp_path_factory: pytest.TempPathFactory, motion_archive: Path) -> Iterator[Engine]:
    """Ray Serve, with one replica."""
    home = tmp_path_factory.mktemp("ray_serve")
    port = free_port()
    given = "--port", str(port), "--run-dir", str(home / "run"), str(motion_archive)
    with running(home, "ray_serve", f"http://127.0.0.1:{port}", *given) as url:
        yield over_http(url)


@pytest.fixture(scope="module")
def kserve_server(tmp_path_factory: pytest.TempPathFactory, motion_archive: Path) -> Iterator[Engine]:
    """KServe's own server."""
    port = free_port()
    given = "--http_port", str(port), "--enable_grpc", "false", str(motion_archive)
    with running(tmp_path_factory.mktemp("kserve"), "kserve_server", f"http://127.0.0.1:{port}", *given) as url:
        yield over_http(url)
