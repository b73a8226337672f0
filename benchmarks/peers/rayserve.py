"""Ray Serve. Clips are the body; ``POST /``."""

from __future__ import annotations

import os
import signal

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from benchmarks.peers import Answerer, options

CORES = os.cpu_count() or 1


# Ray sets OMP_NUM_THREADS to the number of CPUs that a replica asks for, which is one by default.
@serve.deployment(num_replicas=1, max_ongoing_requests=64, ray_actor_options={"num_cpus": CORES})
class Service:
    def __init__(self, archive: str, batch_size: int, batch_delay: float) -> None:
        self.answer = Answerer(archive, batch_size)
        self.classify.set_max_batch_size(batch_size)  # type: ignore[attr-defined,unused-ignore]
        self.classify.set_batch_wait_timeout_s(batch_delay / 1e3)  # type: ignore[attr-defined,unused-ignore]

    @serve.batch  # type: ignore[untyped-decorator,unused-ignore]
    async def classify(self, clips: list[bytes]) -> list[bytes]:
        return self.answer(clips)

    async def __call__(self, request: Request) -> Response:
        return Response(await self.classify(await request.body()), media_type="application/json")


if __name__ == "__main__":
    given = options()
    ray.init(include_dashboard=False, num_cpus=CORES, log_to_driver=False, configure_logging=False)
    serve.start(http_options={"host": "127.0.0.1", "port": given.port})
    application = Service.bind(given.archive, given.batch_size, given.batch_delay)  # type: ignore[attr-defined,unused-ignore]
    serve.run(application, name="bench")
    signal.pause()
