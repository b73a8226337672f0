"""Promise: clients of Triton and KServe get labels, scores and errors by the Open Inference Protocol v2."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.http as triton
from httpx import HTTPStatusError
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, InferResponse, RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from tritonclient.utils import InferenceServerException

from tests.helpers_contracts import LABELS, NO_VIDEO, TEXT, VIDEO, Served, TellingEngine, serve

OUTPUTS = ("label", "score", "class_index", "reply", "error")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serves REST and gRPC to all tests of this module."""
    with serve(TellingEngine(), tmp_path_factory.mktemp("run"), grpc_port=0) as served:
        yield served


@pytest.fixture(autouse=True)
def _nothing_asked_yet(gateway: Served) -> None:
    gateway.engine.asked.clear()


def videos(*files: bytes | str) -> triton.InferInput:
    found = triton.InferInput("video", [len(files)], "BYTES")
    found.set_data_from_numpy(np.array(files, dtype=np.object_), binary_data=isinstance(files[0], bytes))
    return found


@pytest.fixture
def client(gateway: Served) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(gateway.url.removeprefix("http://")) as found:
        yield found


def test_triton_sees_what_is_served(client: triton.InferenceServerClient, gateway: Served) -> None:
    """Live, ready and metadata are what Triton's client expects; ready is false where no prediction answers."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("kicker")
    assert client.is_model_ready("kicker", "1.0")
    assert not client.is_model_ready("puncher")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    said = client.get_model_metadata("kicker")
    assert said["versions"] == ["1.0"]
    assert said["inputs"] == [{"name": "video", "datatype": "BYTES", "shape": [-1]}]
    assert [each["name"] for each in said["outputs"]] == list(OUTPUTS)
    gateway.engine.predicts = False
    try:
        assert not client.is_server_ready()
        assert not client.is_model_ready("kicker")
        assert client.is_server_live()
    finally:
        gateway.engine.predicts = True


@pytest.mark.parametrize("sent", [VIDEO, TEXT], ids=["binary", "json"])
@pytest.mark.parametrize("binary", [True, False], ids=["binary reply", "json reply"])
def test_triton_over_http(
    client: triton.InferenceServerClient, gateway: Served, sent: bytes | str, binary: bool
) -> None:
    """A file by the binary extension and one in base64 give the same tensors, in the form that is asked for."""
    wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in OUTPUTS]
    found = client.infer(
        "kicker", [videos(sent, sent)], outputs=wanted, parameters={"top_k": 2}, request_id="7"
    )
    assert found.get_response()["id"] == "7"
    assert found.get_response()["model_version"] == "1.0"
    assert found.as_numpy("label").astype(str).tolist() == [list(LABELS[:2])] * 2
    assert found.as_numpy("score").tolist() == [[0.75, 0.125]] * 2
    assert found.as_numpy("score").dtype == np.float32
    assert found.as_numpy("class_index").tolist() == [[0, 1]] * 2
    assert json.loads(found.as_numpy("reply")[1])["clip"] == {"source_frames": len(VIDEO)}
    assert found.as_numpy("error").astype(str).tolist() == ["", ""]
    assert [(each.video, each.options) for each in gateway.engine.asked] == [(VIDEO, {"top_k": 2})] * 2


def test_triton_without_outputs_gets_all_in_binary(client: triton.InferenceServerClient) -> None:
    """Where no outputs are named, all come, in the binary form that the client then asks for."""
    found = client.infer("kicker", [videos(VIDEO)], model_version="1.0")
    assert {name: found.as_numpy(name).shape for name in OUTPUTS} == {
        **dict.fromkeys(("label", "score", "class_index"), (1, 3)),
        **dict.fromkeys(("reply", "error"), (1,)),
    }


def test_a_broken_video_costs_no_other(client: triton.InferenceServerClient) -> None:
    """A video without an answer has empty labels and its own error; the others have theirs."""
    found = client.infer("kicker", [videos(VIDEO, NO_VIDEO, VIDEO)])
    assert found.as_numpy("label").astype(str).tolist() == [list(LABELS), [""] * 3, list(LABELS)]
    assert found.as_numpy("score")[1].tolist() == [0, 0, 0]
    assert found.as_numpy("class_index")[1].tolist() == [-1, -1, -1]
    errors = found.as_numpy("error").astype(str)
    assert json.loads(errors[1])["code"] == "NOT_A_VIDEO"
    assert [errors[0], errors[2]] == ["", ""]


def test_errors_are_text_over_http(client: triton.InferenceServerClient) -> None:
    """Where no video has an answer, the status is that of the first, and the error is the protocol's text."""
    with pytest.raises(
        InferenceServerException, match=r"^.415. NOT_A_VIDEO: The bytes are no video. Send a video"
    ):
        client.infer("kicker", [videos(NO_VIDEO, NO_VIDEO)])
    with pytest.raises(InferenceServerException, match=r"404. MODEL_NOT_FOUND"):
        client.infer("puncher", [videos(VIDEO)])
    with pytest.raises(InferenceServerException, match=r"400. UNKNOWN_OPTION"):
        client.infer("kicker", [videos(VIDEO)], parameters={"speed": 2})
    with pytest.raises(InferenceServerException, match=r"400. BAD_BODY: .*no output 'speed'"):
        client.infer("kicker", [videos(VIDEO)], outputs=[triton.InferRequestedOutput("speed")])


def kserve_request(*files: bytes | str, binary: bool = True, **parameters: object) -> InferRequest:
    found = InferInput("video", [len(files)], "BYTES")
    found.set_data_from_numpy(np.array(files, dtype=np.object_), binary_data=binary)
    return InferRequest("kicker", [found], parameters=parameters)


def check(found: InferResponse) -> None:
    """That a reply is the one to a good video and to a bad one."""
    by_name = {each.name: each.as_numpy() for each in found.outputs}
    assert set(by_name) == set(OUTPUTS)
    texts = np.vectorize(lambda value: value.decode() if isinstance(value, bytes) else value, otypes=[object])
    assert texts(by_name["label"]).tolist() == [[LABELS[0]], [""]]
    assert by_name["score"].tolist() == [[0.75], [0.0]]
    assert json.loads(by_name["error"][1])["code"] == "NOT_A_VIDEO"


def test_kserve_over_rest(gateway: Served) -> None:
    """KServe's own client sends files in binary and in base64, and reads live, ready and errors."""

    async def run() -> None:
        async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
            assert await client.is_server_live(gateway.url)
            assert await client.is_server_ready(gateway.url)
            assert await client.is_model_ready(gateway.url, "kicker")
            for binary in (True, False):
                sent = (VIDEO, NO_VIDEO) if binary else (TEXT, base64.b64encode(NO_VIDEO).decode())
                asked = kserve_request(*sent, binary=binary, top_k=1, binary_data_output=binary)
                check(await client.infer(gateway.url, asked, "kicker"))
            with pytest.raises(HTTPStatusError, match="NOT_A_VIDEO"):
                await client.infer(gateway.url, kserve_request(NO_VIDEO), "kicker")

    asyncio.run(run())
    assert {each.video for each in gateway.engine.asked} == {VIDEO, NO_VIDEO}


def test_kserve_v1_over_rest(gateway: Served) -> None:
    """The same client speaks the first protocol too."""

    async def run() -> None:
        async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
            assert await client.is_model_ready(gateway.url, "kicker")
            found = await client.infer(gateway.url, {"instances": [{"b64": TEXT}]}, "kicker")
            assert found["predictions"][0]["predictions"][0]["label"] == LABELS[0]

    asyncio.run(run())


def test_kserve_over_grpc(gateway: Served) -> None:
    """KServe's client over gRPC: raw elements, typed ones, base64 where the input says so, errors."""

    async def run() -> None:
        async with InferenceGRPCClient(f"127.0.0.1:{gateway.grpc_port}", retries=0) as client:
            assert await client.is_server_live()
            assert await client.is_server_ready()
            assert await client.is_model_ready("kicker")
            check(await client.infer(kserve_request(VIDEO, NO_VIDEO, top_k=1)))
            typed = InferRequest(
                "kicker", [InferInput("video", [2], "BYTES", [VIDEO, NO_VIDEO])], parameters={"top_k": 1}
            )
            check(await client.infer(typed))
            encoded = InferInput("video", [1], "BYTES", [TEXT], parameters={"content_type": "base64"})
            asked = InferRequest("kicker", [encoded], request_outputs=[RequestedOutput("label")])
            assert [each.name for each in (await client.infer(asked)).outputs] == ["label"]
            with pytest.raises(Exception, match="INVALID_ARGUMENT") as refused:
                await client.infer(kserve_request(NO_VIDEO))
            assert "NOT_A_VIDEO: The bytes are no video." in str(refused.value)

    asyncio.run(run())
    assert {each.video for each in gateway.engine.asked} == {VIDEO, NO_VIDEO}


TRITON_GRPC = """
import json, sys
import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

address, labels = sys.argv[1], json.loads(sys.argv[2])
video, no_video = bytes(range(256)) * 4, sys.argv[3].encode()

def videos(*files):
    found = triton.InferInput("video", [len(files)], "BYTES")
    found.set_data_from_numpy(np.array(files, dtype=np.object_))
    return found

def refused(*arguments, **more):
    try:
        client.infer(*arguments, **more)
    except InferenceServerException as error:
        return error.status() + " " + error.message().split(":")[0]

with triton.InferenceServerClient(address) as client:
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("kicker") and client.is_model_ready("kicker", "1.0")
    assert not client.is_model_ready("puncher") and not client.is_model_ready("kicker", "7")
    said = client.get_model_metadata("kicker", as_json=True)
    assert said["versions"] == ["1.0"] and said["inputs"][0]["name"] == "video", said
    assert client.get_server_metadata().name == "actionrec"
    wanted = [triton.InferRequestedOutput(name) for name in ("label", "score", "error")]
    both, two = [videos(video, no_video)], {"top_k": 2}
    found = client.infer("kicker", both, outputs=wanted, parameters=two, request_id="9")
    assert found.get_response().id == "9" and len(found.get_response().outputs) == 3
    assert found.as_numpy("label").astype(str).tolist() == [labels[:2], ["", ""]]
    assert found.as_numpy("score").tolist() == [[0.75, 0.125], [0.0, 0.0]]
    assert json.loads(found.as_numpy("error")[1])["code"] == "NOT_A_VIDEO"
    assert refused("kicker", [videos(no_video)]) == "StatusCode.INVALID_ARGUMENT NOT_A_VIDEO"
    assert refused("puncher", [videos(video)]) == "StatusCode.NOT_FOUND MODEL_NOT_FOUND"
    assert refused("../kicker", [videos(video)]) == "StatusCode.NOT_FOUND MODEL_NOT_FOUND"
    lost = refused("kicker", [videos(video)], parameters={"views": 0.5})
    assert lost == "StatusCode.INVALID_ARGUMENT BAD_BODY"
"""
"""A program: Triton's and KServe's messages have the same names, and one process cannot have both."""


def test_triton_over_grpc(gateway: Served) -> None:
    """Triton's client over gRPC sees metadata, tensors and errors; a number that would be lost is refused."""
    command = [sys.executable, "-c", TRITON_GRPC, f"127.0.0.1:{gateway.grpc_port}", json.dumps(LABELS)]
    done = subprocess.run([*command, NO_VIDEO.decode()], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [each.options for each in gateway.engine.asked] == [{"top_k": 2}, {"top_k": 2}, {}, {}]


def test_tokens_hold_over_grpc(tmp_path_factory: pytest.TempPathFactory) -> None:
    """With a tokens file a call needs a token, whose name the engine is told; live and ready need none."""
    folder = tmp_path_factory.mktemp("tokens")
    (folder / "tokens").write_text('"Bearer 0123456789abcdef0123" "alice";\n', encoding="ascii")

    async def run(port: int | None) -> None:
        async with InferenceGRPCClient(f"127.0.0.1:{port}", retries=0) as client:
            assert await client.is_server_live()
            assert await client.is_server_ready()
            for token in ("", "Bearer wrong"):
                with pytest.raises(Exception, match="UNAUTHENTICATED"):
                    await client.infer(kserve_request(VIDEO), headers=(("authorization", token),))
            known = (("authorization", "Bearer 0123456789abcdef0123"), ("x-request-id", "mine-7"))
            found = await client.infer(kserve_request(VIDEO), headers=known)
            assert found.id == "mine-7"

    with serve(TellingEngine(), folder, grpc_port=0, tokens=folder / "tokens") as gateway:
        asyncio.run(run(gateway.grpc_port))
    assert [(each.client, each.request_id) for each in gateway.engine.asked] == [("alice", "mine-7")]
