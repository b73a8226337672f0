"""TorchServe's gRPC, spoken without its generated code: two messages of bytes and strings.

PredictionsRequest { string model_name = 1; string model_version = 2; map<string, bytes> input = 3; }
PredictionResponse { bytes prediction = 1; }
"""

from __future__ import annotations

import json
from typing import Any

import grpc

from tests.conftest import RunningServer

_METHOD = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"
_DEADLINE_SECONDS = 120
_LENGTH_DELIMITED = 2  # protobuf's wire type of strings, bytes and messages


def predict(server: RunningServer, inputs: dict[str, bytes], model: str = "motion") -> dict[str, Any]:
    """The reply's JSON, be it an answer or an error.

    Raises:
        grpc.RpcError: TorchServe itself refuses.
    """
    fields = [_field(3, _field(1, name.encode()) + _field(2, value)) for name, value in inputs.items()]
    lines = (server.run_dir / "config.properties").read_text(encoding="utf-8").splitlines()
    port = next(line.partition("=")[2] for line in lines if line.startswith("grpc_inference_port="))
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.max_send_message_length", -1)]) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_METHOD)
        reply: bytes = call(_field(1, model.encode()) + b"".join(fields), timeout=_DEADLINE_SECONDS)
    length, start = _read_varint(reply, 1)
    assert reply[0] == 1 << 3 | _LENGTH_DELIMITED
    assert start + length == len(reply)
    found: dict[str, Any] = json.loads(reply[start:])
    return found


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the top bit says that more follow."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    """(value, where the next byte is)."""
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
