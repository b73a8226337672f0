"""Requests and replies of the Open Inference Protocol, by the codec of `kserve`.

Importing `kserve` takes 0.4 s and 90 MB (it brings pandas, and a client of Kubernetes), so only what answers a
request of this protocol imports this module; see `loading`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from actionrec.errors import ClipError
from kserve.errors import InferenceError, InvalidInput
from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelInferRequest, ModelInferResponse
from kserve.protocol.grpc.servicer import InferenceServicer
from kserve.protocol.infer_type import InferInput, InferOutput, InferRequest, InferResponse
from kserve.protocol.rest.v2_datamodels import InferenceRequest

from ..calls import Call, Instance
from ..reading import MOST_INSTANCES, checked, from_base64, parse_json
from . import tensors

_HINT = (
    'Send {"inputs": [{"name": "video", "datatype": "BYTES", "shape": [1], "data": ["<base64 of the file>"]}]} '
    "or, by the binary extension or gRPC, the file itself."
)
_OF_THE_PROTOCOL = frozenset({"binary_data_output"})
"""Parameters of a request that are no options."""
_CONTENT_TYPE = "content_type"
"""Parameter of an input: ``base64`` where its bytes are no file, but a file in base64."""


def from_rest(body: bytes, json_length: str | None, model: str) -> InferRequest:
    """The request in a body of HTTP.

    `InferRequest.from_bytes` makes text of each element that comes by the binary extension, which no video is.
    So the elements are handed to `InferRequest` as those of gRPC are.

    Args:
        body: JSON, and behind it the elements of its inputs without `data`.
        json_length: the header that says where the JSON ends; None: the body is JSON.
        model: its name.

    Raises:
        ClipError: 400
    """
    end = len(body) if json_length is None else _number(json_length, len(body))
    value = parse_json(body[:end], _HINT)
    raws = _cut(value.get("inputs"), body, end)
    asked = checked(InferenceRequest, value, _HINT)
    try:
        plain = InferRequest.from_inference_request(asked, model)
    except InvalidInput as error:
        raise _bad(str(error)) from error
    return InferRequest(
        model,
        plain.inputs,
        plain.id,
        raw_inputs=raws,
        parameters=plain.parameters,
        request_outputs=plain.request_outputs,
    )


def from_grpc(message: ModelInferRequest) -> InferRequest:
    """The request in a message of gRPC.

    Raises:
        ClipError: 400
    """
    for parameters in (message.parameters, *(each.parameters for each in message.inputs)):
        for name, value in parameters.items():
            # Triton's protocol has numbers with a point, and kserve's would drop them in silence.
            if value.WhichOneof("parameter_choice") is None:
                raise _bad(f"The parameter {name[:40]!a} is a kind of number that this protocol does not have.")
    try:
        InferenceServicer.validate_grpc_request(message)
        return InferRequest.from_grpc(message)
    except InvalidInput as error:
        raise _bad(str(error)) from error


def instances(request: InferRequest) -> list[Instance | ClipError]:
    """The videos of a request.

    Raises:
        ClipError: 400, its tensors or parameters are not those of this model.
    """
    if [each.name for each in request.inputs] != [tensors.INPUT]:
        names = ", ".join(repr(each.name[:40]) for each in request.inputs[:5]) or "none"
        raise _bad(f"The model has one input, {tensors.INPUT}; the request has {names}.")
    options = {name: each for name, each in _plain(request.parameters).items() if name not in _OF_THE_PROTOCOL}
    tensor = request.inputs[0]
    encoding = _plain(tensor.parameters).get(_CONTENT_TYPE)
    found: list[Instance | ClipError] = []
    for number, each in enumerate(_elements(tensor)):
        try:
            found.append(Instance(_video(each, encoding, f"{tensors.INPUT}[{number}]"), options))
        except ClipError as error:
            found.append(error)
    return found


async def answer(call: Call, request: InferRequest) -> InferResponse:
    """Ask for all videos of a request.

    Raises:
        ClipError: 400, the request is none of this model; or no video has an answer.
    """
    wanted = [each.name for each in request.request_outputs or ()]
    known = [kind.name for kind in tensors.OUTPUTS]
    if unknown := [name for name in wanted if name not in known]:
        raise _bad(f"The model has no output {unknown[0][:40]!a}; it has {', '.join(known)}.")
    replies = await call.ask_all(instances(request))
    return InferResponse(
        request.id or call.request_id,
        request.model_name,
        [
            InferOutput(each.kind.name, list(each.shape), each.kind.datatype, each.data)
            for each in tensors.outputs(replies)
            if not wanted or each.kind.name in wanted
        ],
        model_version=tensors.version_of(replies),
        use_binary_outputs=request.use_binary_outputs,
        requested_outputs=request.request_outputs,
    )


def to_rest(response: InferResponse) -> tuple[bytes, int | None]:
    """A reply as a body of HTTP.

    Returns:
        The body, and where its JSON ends; None: it is JSON.
    """
    body, json_length = response.to_rest()
    return (body if isinstance(body, bytes) else orjson.dumps(body)), json_length


def to_grpc(response: InferResponse) -> ModelInferResponse:
    """A reply as a message of gRPC."""
    return response.to_grpc()


def _cut(inputs: object, body: bytes, place: int) -> list[bytes | None]:
    """The elements behind the JSON, for each input that has no data; these get an empty list of data."""
    raws: list[bytes | None] = []
    for each in inputs if isinstance(inputs, list) else ():
        size = each.get("parameters", {}).get("binary_data_size") if _has_none(each) else None
        if size is None:
            raws.append(None)
            continue
        if not isinstance(size, int) or not 0 <= size <= len(body) - place:
            raise _bad(f"binary_data_size is {str(size)[:40]}; {len(body) - place} bytes follow.")
        each["data"] = []
        raws.append(body[place : place + size])
        place += size
    if place != len(body):
        raise _bad(f"{len(body) - place} bytes follow that belong to no input.")
    return raws


def _has_none(tensor: object) -> bool:
    return isinstance(tensor, dict) and "data" not in tensor and isinstance(tensor.get("parameters"), dict)


def _elements(tensor: InferInput) -> list[Any]:
    """The elements of a tensor of bytes: bytes or str.

    Raises:
        ClipError: 400
    """
    if tensor.datatype != "BYTES":
        raise _bad(f"{tensor.name} has the datatype {tensor.datatype[:20]!a}.")
    if tensor._raw_data is not None:
        _check_lengths(tensor._raw_data)
    try:
        if min(tensor.shape, default=0) < 0:
            raise ValueError  # numpy would take it for any number
        return list(tensor.as_numpy().ravel())
    except (ValueError, TypeError, InvalidInput, InferenceError) as error:
        raise _bad(f"{tensor.name} has not the shape {str(tensor.shape)[:60]}.") from error


def _check_lengths(raw: bytes) -> None:
    """Refuse elements that break off, and more than a request may have: 100 MB may be 25 million empty ones."""
    place = count = 0
    while place < len(raw) and count <= MOST_INSTANCES:
        place += 4 + int.from_bytes(raw[place : place + 4], "little")
        count += 1
    if place > len(raw):
        raise _bad(f"The lengths of the elements add up to {place} bytes, and there are {len(raw)}.")
    if place < len(raw):
        raise _bad(f"The tensor has more than {MOST_INSTANCES} elements.")


def _video(element: object, encoding: object, name: str) -> bytes:
    """The file in an element: text is base64, bytes are the file."""
    if isinstance(element, bytes) and encoding != "base64":
        return element
    if isinstance(element, bytes):
        element = element.decode("ascii", "replace")
    if not isinstance(element, str):
        raise ClipError("BAD_BASE64", 400, f"{name} is no text.", "Send the file in base64.")
    return from_base64(element, name)


def _plain(parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """Parameters of either transport as plain values."""
    found = {}
    for name, value in (parameters or {}).items():
        choice = getattr(value, "WhichOneof", None)
        found[name] = getattr(value, choice("parameter_choice")) if choice else value
    return found


def _number(text: str, most: int) -> int:
    if not text.isascii() or not text.isdigit() or int(text[:12]) > most:
        raise _bad(f"Inference-Header-Content-Length is {text[:40]!a}, and the body has {most} bytes.")
    return int(text)


def _bad(message: str) -> ClipError:
    return ClipError("BAD_BODY", 400, message, _HINT)
