"""Promise: SageMaker, Vertex AI and KServe v1 ask in their words and are answered in these."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.helpers_contracts import LABELS, NO_VIDEO, TEXT, VIDEO, Served, TellingEngine, files, post, serve

BAD = base64.b64encode(NO_VIDEO).decode()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serves everything that these tests only ask."""
    with serve(
        TellingEngine(), tmp_path_factory.mktemp("run"), health_route="/alive", predict_route="/v1/x/1:predict"
    ) as served:
        yield served


@pytest.fixture(autouse=True)
def _nothing_asked_yet(gateway: Served) -> None:
    gateway.engine.asked.clear()


def predict(gateway: Served, body: object) -> requests.Response:
    return post(f"{gateway.url}/v1/models/kicker:predict", body)


def test_each_instance_has_its_options(gateway: Served) -> None:
    """Options beside a video go before those of all, and each video gets its own reply, in order."""
    body = {
        "instances": [{"video": TEXT, "top_k": 1}, {"b64": TEXT}, {"video": {"b64": TEXT}, "views": 3}, TEXT],
        "parameters": {"top_k": 2},
    }
    reply = predict(gateway, body)
    assert reply.status_code == 200, reply.text
    found = reply.json()["predictions"]
    assert [len(each["predictions"]) for each in found] == [1, 2, 2, 2]
    assert found[0]["predictions"][0] == {"label": LABELS[0], "class_index": 0, "score": 0.75}
    assert found[0]["model"] == {"name": "kicker", "version": "1.0"}
    asked = gateway.engine.asked
    two = {"top_k": 2}
    assert [each.options for each in asked] == [{"top_k": 1}, two, {**two, "views": 3}, two]
    assert {each.video for each in asked} == {VIDEO}
    assert [each.request_id[-2:] for each in asked] == ["-0", "-1", "-2", "-3"]


BROKEN: dict[str, tuple[Any, str]] = {
    "no video": (BAD, "NOT_A_VIDEO"),
    "no base64": ("%%%", "BAD_BASE64"),
    "a number": (7, "NO_VIDEO"),
    "nothing": ({}, "NO_VIDEO"),
    "two": ({"video": TEXT, "b64": TEXT}, "TWO_VIDEOS"),
    "a number as video": ({"video": 7}, "BAD_BASE64"),
    "an option that there is not": ({"video": TEXT, "speed": 7}, "UNKNOWN_OPTION"),
    "an option with a line's end": ({"video": TEXT, 'a"\r\n\r\nb': 7}, "UNKNOWN_OPTION"),
    "an option in no ASCII": ({"video": TEXT, "größe": 7}, "UNKNOWN_OPTION"),
    "an address where nothing is fetched": ({"url": "https://example.org/a.mp4"}, "FETCH_OFF"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_instance_costs_no_other(gateway: Served, name: str) -> None:
    """A wrong instance gets an error in its place, and the one beside it its reply."""
    broken, code = BROKEN[name]
    reply = predict(gateway, {"instances": [broken, TEXT]})
    assert reply.status_code == 200
    wrong, right = reply.json()["predictions"]
    assert set(wrong) == {"error"}
    assert wrong["error"]["code"] == code
    assert wrong["error"]["message"]
    assert right["predictions"][0]["label"] == LABELS[0]


@pytest.mark.parametrize("name", BROKEN)
def test_a_request_without_any_answer_is_refused(gateway: Served, name: str) -> None:
    """Where no instance has an answer, the request's status and error are those of the first."""
    broken, code = BROKEN[name]
    reply = predict(gateway, {"instances": [broken, 7]})
    assert reply.status_code == reply.json()["error"]["status"] >= 400
    assert reply.json()["error"]["code"] == code
    assert reply.json()["request_id"] == reply.headers["x-request-id"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{",
        b"\xff\xfe",
        b'{"instances": 7}',
        b'{"instances": []}',
        b'{"no": 1}',
        b"{" + b"[" * 3000 + b"]" * 3000 + b"}",
        b'{"instances":' + b"[" * 3000 + b"]" * 3000 + b"}",
        b'{"instances": [' + b",".join([b'""'] * 65) + b"]}",
        b'{"instances": [' + b",".join([b'""'] * 5000) + b"]}",
        b'{"instances": [""], "parameters": 7}',
        b'{"instances": ["\\ud800"]}',
        b'{"instances": [""], "\\udfff": 7}',
    ],
)
def test_no_instances_are_refused(gateway: Served, data: bytes) -> None:
    """What is no list of 1 to 64 instances is refused before the engine is asked."""
    reply = post(f"{gateway.url}/v1/models/kicker:predict", data=data)
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["code"] in ("BAD_BODY", "NO_VIDEO", "TOO_MANY_INSTANCES")
    assert not gateway.engine.asked


@pytest.mark.parametrize(
    "path", ["/v1/models/puncher", "/v2/models/puncher", "/v2/models/kicker/versions/7/ready"]
)
def test_other_models_are_not_found(gateway: Served, path: str) -> None:
    """A model or a version that is not served is 404 in every contract that names one."""
    assert requests.get(gateway.url + path, timeout=30).status_code == 404


def test_kserve_v1_lists_models_and_says_whether_they_predict(gateway: Served) -> None:
    """Ready means that a real prediction answers; one that fails is 503."""
    assert requests.get(f"{gateway.url}/v1/models", timeout=30).json() == {"models": ["kicker"]}
    url = f"{gateway.url}/v1/models/kicker"
    assert requests.get(url, timeout=30).json() == {"name": "kicker", "ready": True}
    gateway.engine.predicts = False
    try:
        assert requests.get(url, timeout=30).status_code == 503
        for path in ("/ping", "/alive", "/v2/health/ready", "/v2/models/kicker/ready"):
            assert requests.get(gateway.url + path, timeout=30).status_code == 503, path
    finally:
        gateway.engine.predicts = True
    for path in ("/ping", "/alive"):
        assert requests.get(gateway.url + path, timeout=30).status_code == 200, path


FORM = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n--x--\r\n'


@pytest.mark.parametrize("path", ["/invocations", "/v1/x/1:predict"])
@pytest.mark.parametrize(
    "data",
    [
        VIDEO,
        FORM.replace(b"\r\n--x--", b'\r\n--x\r\nContent-Disposition: form-data; name="top_k"\r\n\r\n1\r\n--x--')
        % (b"video", VIDEO),
        json.dumps({"video": TEXT, "top_k": 1}).encode(),
    ],
    ids=["file", "form", "json"],
)
def test_any_body_of_predictions(gateway: Served, path: str, data: bytes) -> None:
    """SageMaker's route and Vertex AI's raw predictions take a file, a form and JSON as /predictions does."""
    reply = post(gateway.url + path, data=data)
    assert reply.status_code == 200, reply.text
    assert reply.json()["predictions"][0]["label"] == LABELS[0]
    assert gateway.engine.asked[0].video == VIDEO
    assert len(reply.json()["predictions"]) == (3 if data == VIDEO else 1)


@pytest.mark.parametrize("path", ["/invocations", "/v1/x/1:predict"])
def test_instances_on_any_route(gateway: Served, path: str) -> None:
    """The same routes take instances, as Vertex AI sends them."""
    found = post(gateway.url + path, {"instances": [TEXT, BAD]}).json()["predictions"]
    assert found[0]["predictions"][0]["label"] == LABELS[0]
    assert found[1]["error"]["code"] == "NOT_A_VIDEO"


def test_sagemaker_passes_options_in_its_header(gateway: Served) -> None:
    """CustomAttributes hold options beside a body that is the file; those in a body go before them."""
    header = {"X-Amzn-SageMaker-Custom-Attributes": "top_k=2&views=3"}
    post(f"{gateway.url}/invocations", data=VIDEO, headers=header)
    post(f"{gateway.url}/invocations", {"video": TEXT, "top_k": 1}, headers=header)
    post(f"{gateway.url}/invocations", {"instances": [TEXT]}, headers=header)
    assert [each.options for each in gateway.engine.asked] == [
        {"top_k": "2", "views": "3"},
        {"top_k": 1, "views": "3"},
        {"top_k": "2", "views": "3"},
    ]
    wrong = {"X-Amzn-SageMaker-Custom-Attributes": "c3f5-unrelated/value"}
    assert post(f"{gateway.url}/invocations", data=VIDEO, headers=wrong).status_code == 400


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (NO_VIDEO, 415, "NOT_A_VIDEO"),
        (b"--x\r\n", 400, "BAD_FORM"),
        (FORM % (b"top_k", b"1"), 400, "NO_VIDEO"),
        (b'{"top_k": 1}', 400, "NO_VIDEO"),
    ],
)
def test_sagemaker_refuses_in_the_projects_form(gateway: Served, data: bytes, status: int, code: str) -> None:
    """SageMaker hands the body of an error to the caller: it is the project's own."""
    reply = post(f"{gateway.url}/invocations", data=data)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)


def test_a_busy_engine_asks_for_patience(gateway: Served) -> None:
    """A full queue is 503 in every contract, so that callers try again."""
    gateway.engine.busy = True
    try:
        found = [
            post(f"{gateway.url}/invocations", data=VIDEO).status_code,
            predict(gateway, {"instances": [TEXT, TEXT]}).status_code,
            post(f"{gateway.url}/", {"inputs": TEXT}).status_code,
        ]
    finally:
        gateway.engine.busy = False
    assert found == [503, 503, 503]


def test_addresses_are_fetched_where_that_is_allowed(tmp_path: Path) -> None:
    """An address in place of base64 is fetched from what the settings allow, and from nowhere else."""
    (tmp_path / "clip.mp4").write_bytes(VIDEO)
    engine = TellingEngine()
    with (
        files(tmp_path) as (allowed, other),
        serve(engine, tmp_path / "run", fetch=(f"{allowed}/",), fetch_private=True) as gateway,
    ):
        v1 = predict(gateway, {"instances": [{"url": f"{allowed}/clip.mp4"}, {"url": f"{other}/clip.mp4"}]})
        hugging = post(f"{gateway.url}/", {"inputs": f"{allowed}/clip.mp4"})
        sagemaker = post(f"{gateway.url}/invocations", {"url": f"{allowed}/clip.mp4", "top_k": 1})
    assert [each.video for each in engine.asked] == [VIDEO] * 3
    right, wrong = v1.json()["predictions"]
    assert right["predictions"][0]["label"] == LABELS[0]
    assert wrong["error"]["code"] == "FETCH_NOT_ALLOWED"
    assert hugging.json()[0]["label"] == sagemaker.json()["predictions"][0]["label"] == LABELS[0]


def test_which_model_must_be_clear(tmp_path: Path) -> None:
    """Contracts that name no model ask the only one, or the one that is chosen; of two none is guessed."""
    for chosen, status in ((None, 400), ("waver", 200)):
        engine = TellingEngine(names=("kicker", "waver"))
        with serve(engine, tmp_path, model=chosen) as gateway:
            replies = [post(f"{gateway.url}/{path}", data=VIDEO) for path in ("invocations", "")]
        assert [reply.status_code for reply in replies] == [status, status]
        assert {each.model for each in engine.asked} == ({"waver"} if chosen else set())


def test_platforms_ask_for_health_without_a_token(tmp_path: Path) -> None:
    """With a tokens file the routes that platforms look at stay open; those that predict ask for a token."""
    tokens = tmp_path / "tokens"
    tokens.write_text('"Bearer 0123456789abcdef0123" "alice";\n', encoding="ascii")
    engine = TellingEngine()
    with serve(engine, tmp_path, tokens=tokens, health_route="/alive", predict_route="/predict") as gateway:
        for path in ("/ping", "/alive", "/v2/health/live", "/v2/health/ready"):
            assert requests.get(gateway.url + path, timeout=30).status_code == 200, path
        for path in ("/invocations", "/predict", "/", "/v1/models/kicker:predict", "/v2/models/kicker/infer"):
            assert post(gateway.url + path, {"inputs": TEXT}).status_code == 401, path
        known = {"Authorization": "Bearer 0123456789abcdef0123"}
        assert post(f"{gateway.url}/", {"inputs": TEXT}, headers=known).status_code == 200
    assert [each.client for each in engine.asked] == ["alice"]


def test_every_contract_is_in_the_document(gateway: Served) -> None:
    """The OpenAPI document has each route with what it takes and what it answers."""
    paths = requests.get(f"{gateway.url}/openapi.json", timeout=30).json()["paths"]
    takes = ["/v1/models/{model}:predict", "/invocations", "/v1/x/1:predict", "/", "/models/{model}"]
    takes += ["/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer"]
    for path in takes:
        asked = paths[path]["post"]
        assert asked["requestBody"]["content"]["application/json"]["schema"]["properties"], path
        assert asked["responses"]["200"]["content"]["application/json"]["schema"], path
    for path in ("/ping", "/alive", "/v1/models", "/v1/models/{model}", "/v2", "/v2/health/ready"):
        assert paths[path]["get"]["responses"]["200"]["content"]["application/json"]["schema"], path
