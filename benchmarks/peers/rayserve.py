"""Ray Serve. Clips come as the body; ``POST /``."""

from __future__ import annotations

import signal

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from benchmarks.peers import BATCH, BATCH_SECONDS, Answerer, options


@serve.deployment(num_replicas=1, max_ongoing_requests=64)
class Service:
    def __init__(self, archive: str) -> None:
        self.answer = Answerer(archive)

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=BATCH_SECONDS)  # type: ignore[untyped-decorator,unused-ignore]
    async def classify(self, clips: list[bytes]) -> list[bytes]:
        return self.answer(clips)

    async def __call__(self, request: Request) -> Response:
        return Response(await self.classify(await request.body()), media_type="application/json")


if __name__ == "__main__":
    given = options()
    ray.init(include_dashboard=False, num_cpus=2, log_to_driver=False, configure_logging=False)
    serve.start(http_options={"host": "127.0.0.1", "port": given.port})
    application = Service.bind(given.archive)  # type: ignore[attr-defined,unused-ignore]
    serve.run(application, name="bench")
    signal.pause()
