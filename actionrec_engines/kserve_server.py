"""The archives on KServe's own server: its protocols (v1, v2, gRPC), and `/predictions/<model>` as everywhere.

``python -m actionrec_engines.kserve_server --http_port 8080 motion.mar``
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import kserve
from actionrec.errors import ClipError
from fastapi import Request, Response
from kserve.model_server import app, parser
from kserve.protocol.infer_type import InferRequest, InferResponse

from actionrec_gateway.contracts import instances
from actionrec_gateway.contracts.calls import Call
from actionrec_gateway.contracts.v2 import codec
from actionrec_gateway.errors import Answered, error_response
from actionrec_gateway.identity import Identified, request_id_of
from actionrec_gateway.settings import Settings
from actionrec_gateway.through import Through

from .in_process import DRAIN_SECONDS, add_archives, loaded
from .rows import BODY_BYTES, RowEngine


class VideoModel(kserve.Model):  # type: ignore[misc]  # kserve has no types
    """One archive, as KServe calls it.

    Args:
        name: of the model.
        engine: that has it.
        settings: what may be fetched.
    """

    def __init__(self, name: str, engine: RowEngine, settings: Settings) -> None:
        super().__init__(name)
        self._engine, self._settings = engine, settings
        self.ready = True

    async def predict(
        self,
        payload: dict[str, Any] | bytes | InferRequest,
        headers: Mapping[str, str] | None = None,
        response_headers: dict[str, str] | None = None,  # noqa: ARG002  # KServe's
    ) -> dict[str, Any] | InferResponse:
        """Classify the videos of a request of v1 or v2, each by itself.

        Raises:
            ClipError: the request is none, or no video of it has an answer.
        """
        given = [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
        call = Call(self._engine, self._settings, self.name, request_id_of(given))
        if isinstance(payload, InferRequest):
            return await codec.answer(call, payload)
        if not isinstance(payload, dict):
            raise ClipError("BAD_BODY", 400, "The body is no JSON object.", instances.HINT)
        return await instances.answer(call, payload)

    async def healthy(self) -> bool:
        """Whether it answers a real prediction, or answered one in the last seconds: KServe's readiness."""
        return await self._engine.ready(self.name)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ClipError)
    return error_response(error, request)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve archives with KServe's server; returns the exit code."""
    ours = argparse.ArgumentParser(
        prog="python -m actionrec_engines.kserve_server", description=main.__doc__, parents=[parser]
    )
    add_archives(ours)
    given = ours.parse_args(arguments)
    try:
        models = loaded(given)
    except (OSError, ValueError, RuntimeError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    settings = Settings(body_bytes=BODY_BYTES)
    engine = RowEngine(models)
    app.add_exception_handler(ClipError, _refused)
    # The last one is the outermost.
    app.add_middleware(Through, engine=engine, settings=settings)
    app.add_middleware(Answered)
    app.add_middleware(Identified)
    server = kserve.ModelServer(
        http_port=given.http_port,
        grpc_port=given.grpc_port,
        enable_grpc=given.enable_grpc,
        workers=1,
        grace_period=DRAIN_SECONDS,
    )
    try:
        server.start([VideoModel(name, engine, settings) for name in models])
    finally:
        for model in models.values():
            model.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
