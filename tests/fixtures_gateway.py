"""Gateways before the one server of the `motion` model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.nginx import add_token
from tests.conftest import RunningServer
from tests.helpers_gateway import MAX_BODY_BYTES, Guarded, RunningGateway, running


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory, motion_server: RunningServer) -> Iterator[RunningGateway]:
    """One that asks nobody for a token."""
    with running(
        tmp_path_factory.mktemp("gateway"),
        motion_server.inference_url,
        motion_server.management_url,
        *("--body-bytes", str(MAX_BODY_BYTES)),
    ) as found:
        yield found


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory, motion_server: RunningServer) -> Iterator[Guarded]:
    """One that asks for tokens."""
    home = tmp_path_factory.mktemp("guarded")
    tokens = home / "tokens"
    ada, bob = ({"Authorization": f"Bearer {add_token(tokens, name)}"} for name in ("ada", "bob"))
    with running(
        home,
        motion_server.inference_url,
        motion_server.management_url,
        *("--tokens", str(tokens), "--admins", "ada"),
    ) as found:
        yield Guarded(found, ada, bob)
