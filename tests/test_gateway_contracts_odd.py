"""Promise: odd requests of the Open Inference Protocol are refused in its form, and reach no engine."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from actionrec.errors import ClipError
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelInferRequest

from actionrec_gateway.contracts.v2 import codec
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
    "half a character": ({**tensor(data=[TEXT]), "id": "\ud800"}, b"", None),
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


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def near(*usual: object) -> st.SearchStrategy[Any]:
    """Mostly what is usual."""
    return st.sampled_from(usual) | st.sampled_from(usual) | ANY


PARAMETERS = near({}, {"binary_data_size": 8}, {"content_type": "base64"}, {"top_k": 2.5, "a": True})
TENSORS = st.fixed_dictionaries(
    {"name": near("video"), "datatype": near("BYTES", "bytes", "FP16", "INT8"), "shape": near([1], [2, 1], [])},
    optional={"data": near([TEXT], [[TEXT], [TEXT]], []), "parameters": PARAMETERS},
)
REQUESTS = st.fixed_dictionaries(
    {"inputs": st.lists(TENSORS, max_size=2) | ANY},
    optional={"id": near("7"), "parameters": PARAMETERS, "outputs": near([{"name": "label"}])},
)


def problem_of(work: Callable[[], object]) -> ClipError | None:
    """What a request is refused with; None: it is not refused."""
    try:
        work()
    except ClipError as error:
        return error
    return None


@given(value=REQUESTS, behind=st.binary() | st.just(raw(b"abcd")))
def test_no_request_is_the_gateways_fault(value: dict[str, Any], behind: bytes) -> None:
    """Whatever JSON and bytes are sent, they are read, or refused as the sender's fault."""
    head = json.dumps(value).encode()
    error = problem_of(lambda: codec.instances(codec.from_rest(head + behind, str(len(head)), "kicker")))
    assert error is None or (error.status == 400 and len(str(error)) < 700)


@given(data=st.binary(max_size=200), usual=st.booleans())
def test_no_message_is_the_gateways_fault(data: bytes, usual: bool) -> None:
    """Whatever bytes are a message of gRPC, it is read, or refused as the sender's fault."""
    try:
        message = ModelInferRequest.FromString(data)
    except DecodeError:
        message = ModelInferRequest(raw_input_contents=[data])
    if usual:
        message.inputs.add(name="video", datatype="BYTES", shape=[1])
    error = problem_of(lambda: codec.instances(codec.from_grpc(message)))
    assert error is None or error.status == 400
