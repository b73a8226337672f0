"""Promise: the OpenAPI document describes every route as it is, and its page needs nothing from elsewhere."""

from __future__ import annotations

import re
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks

from tests.conftest import DEADLINE_SECONDS
from tests.helpers_gateway import RunningGateway

pytest_plugins = ("tests.fixtures_gateway",)
pytestmark = pytest.mark.server

EXAMPLES = 10
"""Of each route and mode; there are some thirty routes."""
CHECKED = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.unsupported_method,
    checks.allow_header_conformance,
]


@pytest.mark.parametrize("mode", GenerationMode)
def test_routes(gateway: RunningGateway, mode: GenerationMode) -> None:
    """Whatever is sent to a route, well formed or not, is answered as the document says, never by a fault."""
    schema = schemathesis.openapi.from_url(f"{gateway.url}/openapi.json")
    found = list(schema.get_all_operations())
    operations = [each.ok() for each in found if isinstance(each, Ok)]
    assert len(operations) == len(found), "a route's description is no OpenAPI"
    assert len(operations) > 20
    for operation in operations:

        @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def answered(case: Any) -> None:  # noqa: ANN401  # schemathesis' own
            case.call_and_validate(checks=CHECKED, timeout=DEADLINE_SECONDS)

        try:
            answered()
        except Unsatisfiable:  # a route that takes nothing cannot be sent anything wrong
            assert mode is GenerationMode.NEGATIVE


def test_the_way_through_is_described(gateway: RunningGateway) -> None:
    """The document has the routes of models, their options and the one form of errors, for all routes."""
    document = gateway.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    predict = document["paths"]["/predictions/{model}"]["post"]
    names = {parameter["name"] for parameter in predict["parameters"]}
    assert names == {
        *("model", "top_k", "start_seconds", "end_seconds", "views", "crops"),
        *("stride_seconds", "embedding", "explain"),
    }
    assert predict["requestBody"]["content"].keys() == {
        "application/octet-stream",
        "multipart/form-data",
        "application/json",
    }
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            refused = operation["responses"]["default"]["content"]["application/json"]["schema"]
            # The Open Inference Protocol and Hugging Face have a form of their own.
            form = refused["$ref"].removeprefix("#/components/schemas/")
            assert form in ("ErrorReply", "ErrorText"), (method, path)
            assert operation["summary"]
    assert "HTTPValidationError" not in str(document)


def test_the_page_needs_nothing_from_elsewhere(gateway: RunningGateway) -> None:
    """All that the page at /docs loads comes from the gateway itself."""
    page = gateway.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    loaded = re.findall(r"(?:src|href)=\"([^\"]+)\"", page.text)
    assert len(loaded) >= 3
    for address in loaded:
        assert address.startswith("/"), address
        assert gateway.get(address).status_code == 200, address
    assert "url: '/openapi.json'" in page.text
    assert '"validatorUrl": null' in page.text  # else it sends the document to a validator on the internet
