"""Promise: odd requests of the Open Inference Protocol are refused in its form, and reach no engine."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.helpers_contracts import LABELS, TEXT, VIDEO, Served, TellingEngine, serve


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serves all tests of this module."""
    with serve(TellingEngine(), tmp_path_factory.mktemp("run")) as served:
        yield served


@pytest.fixture(autouse=True)
def _nothing_asked_yet(gateway: Served) -> None:
    gateway.engine.asked.clear()


def tensor(**more: object) -> dict[str, Any]:
    return {"inputs": [{"name": "video", "datatype": "BYTES", "shape": [1], **more}]}


def raw(*files: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(each)) + each for each in files)


def post(gateway: Served, value: object, behind: bytes = b"", length: str | None = None) -> requests.Response:
    head = json.dumps(value).encode()
    headers = {"Inference-Header-Content-Length": length or str(len(head))} if behind or length else {}
    return requests.post(f"{gateway.url}/v2/models/kicker/infer", head + behind, headers=headers, timeout=60)


SIZE = {"parameters": {"binary_data_size": 4 + len(VIDEO)}}
ODD: dict[str, tuple[object, bytes, str | None]] = {
    "no inputs": ({}, b"", None),
    "inputs are text": ({"inputs": "video"}, b"", None),
    "no input": ({"inputs": []}, b"", None),
    "an input is text": ({"inputs": ["video"]}, b"", None),
    "another input": (tensor(name="clip", data=[TEXT]), b"", None),
    "two inputs": ({"inputs": tensor(data=[TEXT])["inputs"] * 2}, b"", None),
    "no data": (tensor(), b"", None),
    "numbers": (tensor(datatype="UINT8", data=[1]), b"", None),
    "half floats": (tensor(datatype="FP16", data=[1.0]), b"", None),
    "numbers as bytes": (tensor(data=[7]), b"", None),
    "ragged": (tensor(data=[[TEXT], [TEXT, TEXT]]), b"", None),
    "another shape": (tensor(data=[TEXT], shape=[2]), b"", None),
    "a negative shape": (tensor(data=[TEXT], shape=[-2]), b"", None),
    "an endless shape": (tensor(data=[TEXT], shape=[2**70]), b"", None),
    "no elements": (tensor(data=[], shape=[0]), b"", None),
    "no base64": (tensor(data=["%"]), b"", None),
    "lists as parameters": ({**tensor(data=[TEXT]), "parameters": {"top_k": [1]}}, b"", None),
    "more than is there": (tensor(**SIZE), raw(VIDEO)[:-1], None),
    "less than is there": (tensor(**SIZE), raw(VIDEO) + b"x", None),
    "a size below zero": (tensor(parameters={"binary_data_size": -1}), raw(VIDEO), None),
    "a size that is text": (tensor(parameters={"binary_data_size": "9"}), raw(VIDEO), None),
    "an element that breaks off": (tensor(**SIZE), struct.pack("<I", 2**31) + VIDEO, None),
    "millions of empty elements": (tensor(parameters={"binary_data_size": 4_000_000}), bytes(4_000_000), None),
    "a header beyond the end": (tensor(data=[TEXT]), b"", "99999999"),
    "a header below zero": (tensor(data=[TEXT]), b"", "-1"),
    "a header of thousands of digits": (tensor(data=[TEXT]), b"", "9" * 4500),
    "a header into the JSON": (tensor(data=[TEXT]), b"", "5"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_requests_are_refused_in_the_protocols_form(gateway: Served, name: str) -> None:
    """What is no request of this model is 400 with text that says why, and the engine is not asked."""
    reply = post(gateway, *ODD[name])
    assert reply.status_code == 400, reply.text
    assert reply.json().keys() == {"error"}
    assert reply.json()["error"].startswith(
        ("BAD_BODY: ", "BAD_BASE64: ", "NO_VIDEO: ", "TOO_MANY_INSTANCES: ")
    )
    assert len(reply.json()["error"]) < 700
    assert not gateway.engine.asked


def test_shapes_with_more_dimensions(gateway: Served) -> None:
    """Videos may come as [n] or [n, 1], in lists of lists, and by both ways in one form."""
    for value in (tensor(data=[[TEXT], [TEXT]], shape=[2, 1]), tensor(data=[TEXT, TEXT], shape=[2, 1])):
        assert post(gateway, value).json()["outputs"][0]["shape"] == [2, 3]
    behind = raw(VIDEO)
    value = tensor(parameters={"binary_data_size": len(behind)})
    assert post(gateway, value, behind).json()["outputs"][0]["data"] == list(LABELS)
    assert {each.video for each in gateway.engine.asked} == {VIDEO}


def test_other_models_than_the_named_one_cannot_be_smuggled_in(gateway: Served) -> None:
    """The model is that of the address, whatever stands in the body."""
    assert post(gateway, {**tensor(data=[TEXT]), "model_name": "puncher"}).json()["model_name"] == "kicker"
