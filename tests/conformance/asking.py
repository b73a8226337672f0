"""How an engine is asked, in this process and at an address."""

from __future__ import annotations

from collections.abc import Callable

import requests
from actionrec.service import Row

from tests.conformance.cases import EXPLANATIONS, Case
from tests.conformance.replies import Answered
from tests.conftest import DEADLINE_SECONDS

Engine = Callable[[Case], Answered]

ENGINES = ("in_process", "torchserve", "through_the_gateway", "ray_serve", "kserve_server")
"""Names of the fixtures in `fixtures_engines`."""


def row_of(case: Case) -> Row:
    """A request as a row of a server."""
    return Row({"body": case.body()}, explain=case.what == EXPLANATIONS)


def over_http(url: str) -> Engine:
    """An engine at an address."""

    def ask(case: Case) -> Answered:
        reply = requests.post(
            f"{url}/{case.what}/motion",
            data=case.body(),
            headers={"Content-Type": case.kind},
            timeout=DEADLINE_SECONDS,
        )
        assert reply.headers["content-type"] == "application/json"
        return Answered(reply.status_code, reply.content)

    return ask
