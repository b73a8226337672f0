"""Promise: every contract, asked by its users' client, gives the scores of `/predictions` of a real server."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import tritonclient.http as triton
from huggingface_hub import InferenceClient
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

from actionrec_gateway.contracts import container
from motion.clips import random_clip
from tests.conftest import DEADLINE_SECONDS, PROJECT, RunningServer
from tests.documents import blocks
from tests.helpers_gateway import running

CLIP = random_clip(11, "moving left").data
BROKEN = b"\x00\x01 no video"
AIP = {
    "AIP_HEALTH_ROUTE": "/v1/endpoints/7/deployedModels/8",
    "AIP_PREDICT_ROUTE": "/v1/endpoints/7/deployedModels/8:predict",
}

Scores = list[tuple[str, float]]
"""Label and score of each prediction, best first."""


@dataclass(frozen=True)
class Gateway:
    """Before the one server of the `motion` model."""

    url: str
    grpc: str
    right: Scores
    """What `/predictions` says of the clip."""

    def curl(self, path: str, *arguments: str, data: bytes = b"") -> Any:  # noqa: ANN401  # any JSON
        """What curl prints, as JSON."""
        command = ["curl", "--silent", "--show-error", "--max-time", "60", *arguments, self.url + path]
        done = subprocess.run(command, input=data, capture_output=True, timeout=DEADLINE_SECONDS)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, motion_server: RunningServer) -> Iterator[Gateway]:
    port = free_port()
    with running(
        tmp_path_factory.mktemp("contracts"),
        motion_server.inference_url,
        motion_server.management_url,
        *("--grpc-port", str(port)),
        environment=AIP,
    ) as found:
        yield Gateway(found.url, f"127.0.0.1:{port}", scores(motion_server.predict(CLIP).json()))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def scores(reply: dict[str, Any]) -> Scores:
    return [(each["label"], each["score"]) for each in reply["predictions"]]


def rows(label: Any, score: Any) -> list[Scores]:  # noqa: ANN401  # arrays of three libraries
    """The tensors of the protocol as scores, which have six digits."""
    texts = [[each.decode() if isinstance(each, bytes) else str(each) for each in row] for row in label]
    return [
        [(text, round(float(each), 6)) for text, each in zip(*row, strict=True)]
        for row in zip(texts, score, strict=True)
    ]


def test_sagemaker_by_curl(gateway: Gateway) -> None:
    """`/ping` answers, and `/invocations` takes a file, and options in the header that SageMaker passes on."""
    assert gateway.curl("/ping")["models"] == ["motion"]
    kind = ("--data-binary", "@-", "-H", "Content-Type: video/mp4")
    assert scores(gateway.curl("/invocations", *kind, data=CLIP)) == gateway.right
    header = ("-H", "X-Amzn-SageMaker-Custom-Attributes: top_k=2&embedding=base64")
    found = gateway.curl("/invocations", *kind, *header, data=CLIP)
    assert scores(found) == gateway.right[:2]
    assert len(base64.b64decode(found["embedding"])) > 100
    refused = gateway.curl("/invocations", *kind, data=BROKEN)
    assert refused["error"]["code"] == "NOT_A_VIDEO"


def test_vertex_by_curl(gateway: Gateway) -> None:
    """The routes that Vertex AI chooses answer health, instances with errors of their own, and raw bodies."""
    assert gateway.curl(AIP["AIP_HEALTH_ROUTE"])["status"] == "ready"
    instances = [{"video": text(CLIP), "top_k": 1}, {"b64": text(BROKEN)}, text(CLIP)]
    body = json.dumps({"instances": instances, "parameters": {"top_k": 3}}).encode()
    as_json = ("-d", "@-", "-H", "Content-Type: application/json")
    one, broken, three = gateway.curl(AIP["AIP_PREDICT_ROUTE"], *as_json, data=body)["predictions"]
    assert (scores(one), scores(three)) == (gateway.right[:1], gateway.right[:3])
    assert broken["error"]["code"] == "NOT_A_VIDEO"
    assert scores(gateway.curl(AIP["AIP_PREDICT_ROUTE"], "--data-binary", "@-", data=CLIP)) == gateway.right


def text(file: bytes) -> str:
    return base64.b64encode(file).decode()


def test_hugging_faces_client_at_a_server(gateway: Gateway) -> None:
    """Their client gets labels and scores."""
    client = InferenceClient(model=gateway.url)
    found = [(each.label, each.score) for each in client.image_classification(CLIP)]
    assert found == gateway.right
    assert len(client.image_classification(CLIP, top_k=100)) == 8


def test_triton_and_kserve_at_a_server(gateway: Gateway) -> None:
    """Over HTTP and gRPC both clients get the same scores, with an error for the video beside that is none."""
    right = [gateway.right, [("", 0.0)] * len(gateway.right)]
    files = np.array([CLIP, BROKEN], dtype=np.object_)

    def check(label: Any, score: Any, error: Any) -> None:  # noqa: ANN401
        assert rows(label, score) == right
        assert json.loads(error[1])["code"] == "NOT_A_VIDEO"

    sent = triton.InferInput("video", [2], "BYTES")
    sent.set_data_from_numpy(files)
    with triton.InferenceServerClient(gateway.url.removeprefix("http://")) as client:
        assert client.is_model_ready("motion")
        assert client.get_model_metadata("motion")["versions"] == ["1.0"]
        found = client.infer("motion", [sent], model_version="1.0")
        check(*(found.as_numpy(name) for name in ("label", "score", "error")))

    async def kserve() -> None:
        tensor = InferInput("video", [2], "BYTES")
        tensor.set_data_from_numpy(files)
        async with InferenceRESTClient(RESTConfig(protocol="v2")) as rest:
            replies = [await rest.infer(gateway.url, InferRequest("motion", [tensor]), "motion")]
        async with InferenceGRPCClient(gateway.grpc, retries=0) as grpc:
            assert await grpc.is_model_ready("motion")
            replies.append(await grpc.infer(InferRequest("motion", [tensor])))
        for reply in replies:
            by_name = {each.name: each.as_numpy() for each in reply.outputs}
            check(*(by_name[name] for name in ("label", "score", "error")))

    asyncio.run(kserve())
    done = subprocess.run(
        [sys.executable, "-c", TRITON_GRPC, gateway.grpc],
        input=CLIP,
        capture_output=True,
        timeout=DEADLINE_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    assert rows(*json.loads(done.stdout)) == [gateway.right]


TRITON_GRPC = """
import json, sys
import numpy as np
import tritonclient.grpc as triton

sent = triton.InferInput("video", [1], "BYTES")
sent.set_data_from_numpy(np.array([sys.stdin.buffer.read()], dtype=np.object_))
with triton.InferenceServerClient(sys.argv[1]) as client:
    assert client.is_server_ready() and client.is_model_ready("motion")
    found = client.infer("motion", [sent])
print(json.dumps([found.as_numpy("label").astype(str).tolist(), found.as_numpy("score").tolist()]))
"""
"""Triton's and KServe's messages have the same names, and one process cannot have both."""


def values(text: str) -> Iterator[Any]:
    """The JSON values that stand one behind the other."""
    place = 0
    while place < len(text):
        value, place = json.JSONDecoder().raw_decode(text, place)
        yield value


def test_what_the_document_says_to_type(gateway: Gateway, tmp_path: Path) -> None:
    """Each command and program of docs/platforms.md that asks a gateway gets an answer from one."""
    (tmp_path / "clip.mp4").write_bytes(CLIP)
    places = {
        "http://127.0.0.1:8000/alive": gateway.url + AIP["AIP_HEALTH_ROUTE"],
        "http://127.0.0.1:8000/predict\n": f"{gateway.url}{AIP['AIP_PREDICT_ROUTE']}\n",
        "127.0.0.1:8000": gateway.url.removeprefix("http://"),
        "127.0.0.1:8001": gateway.grpc,
    }
    asked = 0
    for language, program in (("sh", ["bash", "-euo", "pipefail", "-c"]), ("python", [sys.executable, "-c"])):
        for block in blocks("docs/platforms.md", language):
            if "127.0.0.1:800" not in block:
                continue  # it starts a server
            for written, real in places.items():
                block = block.replace(written, real)
            done = subprocess.run([*program, block], cwd=tmp_path, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, (block, done.stderr)
            if language == "sh":
                replies = list(values(done.stdout))
                assert len(replies) == block.count("curl "), block
                assert not [each for each in replies if "error" in each], block
            else:
                assert "moving left" in done.stdout, block
            asked += 1
    assert asked == 8


def test_serve_starts_both_where_the_platform_says(tmp_path: Path) -> None:
    """`serve` finds the archives where a platform puts them, and listens on all addresses at its port."""
    assert container.model_store({"SM_MODEL_DIR": str(tmp_path)}) is None
    (tmp_path / "motion.mar").touch()
    assert container.model_store({"SM_MODEL_DIR": str(tmp_path)}) == tmp_path
    ports = [{}, {"SAGEMAKER_BIND_TO_PORT": "9"}, {"AIP_HTTP_PORT": "7", "SAGEMAKER_BIND_TO_PORT": "9"}]
    assert [container.port(each) for each in ports] == ["8080", "9", "7"]
    command = container.command(tmp_path, ["--workers", "2"], {})
    assert command[1:5] == ["-m", "deploy", "start", "--foreground"]
    assert command[-2:] == ["--workers", "2"]
    assert container.variables({})["GATEWAY_HOST"] == "0.0.0.0"
    with pytest.raises(SystemExit, match=r"no archive .* set SM_MODEL_DIR"):
        container.serve([], {"SM_MODEL_DIR": str(tmp_path / "empty")})


def test_serve_in_a_container(tmp_path: Path, motion_archive: Path) -> None:
    """As SageMaker runs it: from a model's folder to `/ping`, an answer, and an end within 30 s of SIGTERM."""
    port = free_port()
    told = {
        "SM_MODEL_DIR": str(motion_archive.parent),
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "TMPDIR": str(tmp_path),
    }
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "actionrec_gateway", "serve"],
            cwd=PROJECT,
            env={**os.environ, **told},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not answers(f"{url}/ping"):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.25)
        reply = requests.post(f"{url}/invocations", data=CLIP, timeout=DEADLINE_SECONDS)
        assert reply.json()["predictions"][0]["label"] == "moving left"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert not answers(f"{url}/ping")
    finally:
        process.terminate()
        process.wait(60)


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False
