"""LitServe. Clips are base64 in JSON, as its documentation has it for bytes; ``POST /predict``."""

from __future__ import annotations

import base64
from typing import Any

import litserve
from fastapi import Response

from benchmarks.peers import Answerer, options


class Api(litserve.LitAPI):  # type: ignore[misc,unused-ignore]
    def __init__(self, archive: str, batch_size: int, batch_delay: float) -> None:
        super().__init__(max_batch_size=batch_size, batch_timeout=batch_delay / 1e3)
        self.archive, self.batch_size = archive, batch_size

    def setup(self, device: str) -> None:  # noqa: ARG002
        self.answer = Answerer(self.archive, self.batch_size)

    def decode_request(self, request: dict[str, str]) -> bytes:
        return base64.b64decode(request["video"])

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        return inputs

    def predict(self, clips: list[bytes]) -> list[bytes]:
        return self.answer(clips)

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        return output

    def encode_response(self, output: bytes) -> Any:  # noqa: ANN401
        return Response(output, media_type="application/json")


if __name__ == "__main__":
    given = options()
    api = Api(given.archive, given.batch_size, given.batch_delay)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=given.port, generate_client_file=False, log_level="warning")
