"""Promise: the same archive gives the same reply behind every engine."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from actionrec.request import _OPTIONS
from actionrec.service import Service

from tests.answers import HANDLER
from tests.conformance.asking import ENGINES, Engine, row_of
from tests.conformance.cases import CASES, KINDS, NOT_BY_A_REQUEST, Case
from tests.conformance.replies import Answered, differences, expected, reviewed
from tests.fuzz import seeds

pytest_plugins = ("tests.fixtures_gateway", "tests.conformance.fixtures_engines")
pytestmark = pytest.mark.server

BY_NAME = {case.name: case for case in CASES}
TOGETHER = ("a form", "damaged, few frames left", "another clip", "crops")
"""Of a batch: the second is bad."""
EXPECTED = expected()


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each of them in turn."""
    found: Engine = request.getfixturevalue(request.param)
    return found


def check(case: Case, answered: Answered) -> None:
    """Compare a reply with the table."""
    assert differences(reviewed(answered), EXPECTED[case.name]) == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_reply(engine: Engine, case: Case) -> None:
    """A request has the reply of the table, but for times and ids, whichever engine answers."""
    check(case, engine(case))


def test_one_bad_row_among_good_ones(engine: Engine) -> None:
    """Requests that come at once have the replies that each has alone; a bad one costs no other its answer."""
    cases = [BY_NAME[name] for name in TOGETHER]
    with ThreadPoolExecutor(len(cases)) as pool:
        for case, answered in zip(cases, pool.map(engine, cases), strict=True):
            check(case, answered)


def test_one_bad_row_in_one_call(service: Service) -> None:
    """The same where the core surely gets them in one call."""
    cases = [BY_NAME[name] for name in TOGETHER]
    for case, reply in zip(cases, service.answer([row_of(case) for case in cases]), strict=True):
        check(case, Answered(reply.status, reply.body))


def test_the_table_has_all_that_a_request_may_have() -> None:
    """Each option, container, codec and error is in the table; what is not stands there with its reason."""
    assert EXPECTED.keys() == BY_NAME.keys()
    good = [case for case in CASES if EXPECTED[case.name]["status"] == 200]
    assert {name for case in good for name in case.options} == set(_OPTIONS)
    codes = {EXPECTED[case.name]["error"]["code"] for case in CASES if case not in good}
    assert codes | NOT_BY_A_REQUEST.keys() == {code for _, code in HANDLER}
    assert not codes & NOT_BY_A_REQUEST.keys()
    shown = {tuple(case.name.split(", ")) for case in KINDS}
    assert {container for container, _ in shown} == {container for container, _ in seeds.KINDS}
    assert {codec for _, codec in shown} == {codec for _, codec in seeds.KINDS}
