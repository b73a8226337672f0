"""The Open Inference Protocol over gRPC. Importing this module imports `kserve`; see `loading`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
import structlog
from actionrec.errors import ClipError
from actionrec.refusals import refuse
from fastapi import FastAPI
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import (
    GRPCInferenceServiceServicer,
    add_GRPCInferenceServiceServicer_to_server,
)

from ...access import Tokens
from ...engine import Engine
from ...identity import request_id_of
from ...observe import metrics
from ...settings import Settings
from ..calls import Call
from ..reading import MOST_BYTES, ROOM
from ..texts import text_of
from . import codec, served

logger = logging.getLogger(__name__)
noted = structlog.stdlib.get_logger("actionrec_gateway.requests")

GRACE_SECONDS = 60.0
"""For calls in flight when the gateway ends."""
_AT_ONCE = 64
"""Calls; more are exhausted at once. Each may hold a message of `MOST_BYTES` before anybody can refuse it."""
_ID = "x-request-id"
_SHOWN = 128
"""Letters of a model's name in a line of the log."""
_SERVICE = "/inference.GRPCInferenceService"
_CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    502: grpc.StatusCode.UNAVAILABLE,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""HTTP status -> that of gRPC. All others below 500 are invalid arguments, all above internal."""

Context = grpc.aio.ServicerContext[Any, Any]
Message = Any
"""One of the protocol's, whose generated code has no types."""
Caller = tuple[str, str]
"""Id of the request, and the client's name."""


class Servicer(GRPCInferenceServiceServicer):  # type: ignore[misc]  # generated code has no types
    """Answers calls. Those that load and unload models are unimplemented: the management API does that.

    Args:
        engine: what stands behind the gateway.
        settings: the gateway's.
    """

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine, self._settings = engine, settings
        self._tokens = Tokens(settings.tokens) if settings.tokens else None

    async def ServerLive(self, request: Message, context: Context) -> Message:  # noqa: ARG002
        """Whether the gateway lives."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Message, context: Context) -> Message:  # noqa: ARG002
        """Whether every model answers a real prediction."""
        return pb.ServerReadyResponse(ready=await self._engine.ready())

    async def ServerMetadata(self, request: Message, context: Context) -> Message:  # noqa: ARG002
        """What answers."""

        async def work(_: Caller) -> Message:
            return pb.ServerMetadataResponse(**served.server().model_dump())

        return await self._answer("ServerMetadata", "", context, work)

    async def ModelReady(self, request: Message, context: Context) -> Message:
        """Whether a model answers a real prediction."""

        async def work(caller: Caller) -> Message:
            try:
                found = await served.ready(self._call(request.name, request.version, caller))
            except ClipError as error:
                if error.status != 404:
                    raise
                found = False  # as kserve's own server has it
            return pb.ModelReadyResponse(ready=found)

        return await self._answer("ModelReady", request.name, context, work)

    async def ModelMetadata(self, request: Message, context: Context) -> Message:
        """A model's tensors."""

        async def work(caller: Caller) -> Message:
            call = self._call(request.name, request.version, caller)
            return pb.ModelMetadataResponse(**(await served.model(call)).model_dump())

        return await self._answer("ModelMetadata", request.name, context, work)

    async def ModelInfer(self, request: Message, context: Context) -> Message:
        """Classify several videos."""

        async def work(caller: Caller) -> Message:
            call = self._call(request.model_name, request.model_version, caller)
            size = request.ByteSize()
            ROOM.take(size)
            try:
                return codec.to_grpc(await codec.answer(call, codec.from_grpc(request)))
            finally:
                ROOM.give_back(size)

        return await self._answer("ModelInfer", request.model_name, context, work)

    def _call(self, model: str, version: str, caller: Caller) -> Call:
        request_id, client = caller
        return Call(self._engine, self._settings, model, request_id, client, version or None)

    async def _answer(
        self, name: str, model: str, context: Context, work: Callable[[Caller], Awaitable[Message]]
    ) -> Message:
        """Do the work for whoever asks, or end the call with the error's status; note it either way."""
        begun = time.perf_counter()
        sent = dict(context.invocation_metadata() or ())
        request_id, client = request_id_of([(_ID.encode(), _bytes(sent.get(_ID, "")))]), ""
        context.set_trailing_metadata(((_ID, request_id),))
        error = None
        try:
            client = self._client(sent)
            return await work((request_id, client))
        except ClipError as refused:
            error = refused
        except Exception:
            logger.exception("A call failed: %s", request_id)
            error = refuse("INTERNAL")
        finally:
            seconds = time.perf_counter() - begun
            _note(name, seconds, error, request_id=request_id, client=client, model=model[:_SHOWN])
        return await context.abort(_status(error), text_of(error))

    def _client(self, sent: Mapping[str, str | bytes]) -> str:
        """The client's name.

        Raises:
            ClipError: 401, it has no token that is known.
        """
        if self._tokens is None:
            return ""
        authorization = sent.get("authorization", "")
        client = self._tokens.client(authorization) if isinstance(authorization, str) else None
        if client is None:
            raise refuse("UNAUTHORIZED")
        return client


@asynccontextmanager
async def serving(api: FastAPI, port: int) -> AsyncIterator[int]:
    """Serve while the context is open.

    Args:
        api: the application, with engine and settings.
        port: 0: a free one.

    Yields:
        The port.

    Raises:
        RuntimeError: the port is taken.
    """
    settings: Settings = api.state.settings
    limits = [(f"grpc.max_{way}_message_length", MOST_BYTES) for way in ("send", "receive")]
    # Two servers on one port would each get some of the calls.
    options = [*limits, ("grpc.so_reuseport", 0)]
    server = grpc.aio.server(options=options, maximum_concurrent_rpcs=_AT_ONCE)
    add_GRPCInferenceServiceServicer_to_server(Servicer(api.state.engine, settings), server)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    bound = server.add_insecure_port(f"{host}:{port}")
    await server.start()
    logger.info("The Open Inference Protocol over gRPC is on port %d", bound)

    async def end() -> None:
        await api.state.closing.wait()
        await server.stop(GRACE_SECONDS)

    ending = asyncio.create_task(end())
    try:
        yield bound
    finally:
        ending.cancel()
        await server.stop(GRACE_SECONDS)


def _note(name: str, seconds: float, error: ClipError | None, **more: str) -> None:
    """A call's line in the log, and its metrics, beside those of HTTP."""
    status = error.status if error else 200
    said = {"method": "gRPC", "path": f"{_SERVICE}/{name}", **more, "code": error.code if error else ""}
    metrics.REQUEST.labels(said["path"], str(status)).observe(seconds)
    noted.info(
        "request",
        status=status,
        seconds=round(seconds, 4),
        **{key: value for key, value in said.items() if value},
    )


def _status(error: ClipError) -> grpc.StatusCode:
    other = grpc.StatusCode.INVALID_ARGUMENT if error.status < 500 else grpc.StatusCode.INTERNAL
    return _CODES.get(error.status, other)


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1", "replace")
