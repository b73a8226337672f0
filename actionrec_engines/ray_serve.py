"""The archives on Ray Serve: the gateway's application before replicas of each model.

    Ray's proxy -> Door (the gateway) -> handle -> Replica (`Service`), as many as there is work for

``serve deploy config.yaml`` has a whole configuration, of which ``config/serve.yaml`` is one; ``python -m
actionrec_engines.ray_serve motion.mar`` serves on this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from actionrec.refusals import refuse
from actionrec.service import Reply, Row
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from actionrec_gateway.app import create_app
from actionrec_gateway.engine import Answer
from actionrec_gateway.observe import logs
from actionrec_gateway.settings import Settings
from actionrec_gateway.watch import Watch

from .archive import Archive
from .in_process import DRAIN_SECONDS, Turns
from .rows import BODY_BYTES, RowEngine

logger = logging.getLogger(__name__)

_BATCHES = 3
"""A replica's share of what waits, in calls: one that is being answered, the next one, and one on its way."""
_HEALTH_SECONDS = 10.0
_DELETE_SECONDS = 60
"""That Ray itself waits for an application to go."""
_LAST_SECONDS = 1.0
_APPLICATION = "actionrec"


class Served(BaseModel):
    """How one archive is served."""

    model_config = ConfigDict(extra="forbid")

    archive: Path = Field(description="On every node, in an image or a shared folder.")
    cpus: float = Field(default=1.0, gt=0, description="Of each replica; the model has as many threads.")
    gpus: float = Field(default=0.0, ge=0, description="Of each replica: 0.25 puts four on one GPU.")
    min_replicas: int = Field(default=1, ge=0)
    max_replicas: int = Field(default=1, ge=1)
    rows: int | None = Field(
        default=None, ge=1, description="The most requests of one call; default: the archive's."
    )
    target: float | None = Field(
        default=None,
        gt=0,
        description="Requests of each replica that Ray scales for; default: two calls of `rows`.",
    )


class Door(BaseModel):
    """How the gateway before them is run. Several need one database: ``database_url``."""

    model_config = ConfigDict(extra="forbid")

    replicas: int = Field(default=1, ge=1)
    run_dir: Path = Path("run")
    database_url: str | None = None
    tokens: Path | None = None
    admins: tuple[str, ...] = ()
    fetch: tuple[str, ...] = ()


class Arguments(BaseModel):
    """``args`` of the configuration."""

    model_config = ConfigDict(extra="forbid")

    models: dict[str, Served]
    door: Door = Door()


class Replica:
    """One process with a loaded model.

    Args:
        path: the archive.
        rows: the most requests of one call; None: the archive's.
        gpu: whether Ray has given this process a GPU, or a part of one.

    Raises:
        ValueError, RuntimeError: the archive does not fit this node, or the model does not predict.
    """

    def __init__(self, path: str, rows: int | None, gpu: bool) -> None:
        archive = Archive.open(Path(path))
        count = rows or archive.rows
        # `serve.batch` would make calls of what waits, too, but could not tell a call that others wait for it.
        self._model = Turns(archive.load("cuda:0" if gpu else "cpu", count), count, archive.waiting)
        self._name = archive.manifest.name
        self._watch = Watch(self._predict)

    async def answer(self, row: Row) -> Reply:
        """The reply to a row."""
        reply = await self._model.answer(row)
        if reply.status < 300:
            self._watch.answered(self._name)
        return reply

    async def describe(self) -> dict[str, Any]:
        """What the archive says of itself."""
        return await self._model.describe()

    async def check_health(self) -> None:
        """Fail where the model does not predict.

        Raises:
            RuntimeError: so Ray starts another replica in the place of this one.
        """
        if not await self._watch.predicts(self._name):
            raise RuntimeError(f"{self._name} does not predict the clip of known content")

    async def _predict(
        self, model: str, video: bytes, options: dict[str, object], *, request_id: str
    ) -> Answer:  # `Watch` asks so; the clip comes without options
        del model, options
        reply = await self.answer(Row({"body": video}, request_id=request_id))
        return Answer(reply.status, reply.body)


class Handle:
    """A model behind a handle of Ray Serve; see `rows.Model`.

    Args:
        handle: of its deployment.
        seconds: longest time for an answer.
    """

    waiting = None  # of all the replicas' queues no door knows; Ray's own metrics tell

    def __init__(self, handle: DeploymentHandle[Any], seconds: float) -> None:
        self._handle, self._seconds = handle, seconds

    async def answer(self, row: Row) -> Reply:
        """See `rows.Model.answer`. Nothing is sent twice: a lost replica is a 503, as a lost worker is."""
        reply: Reply = await self._asked("answer", row)
        return reply

    async def describe(self) -> dict[str, Any]:
        """See `rows.Model.describe`."""
        return dict(await self._asked("describe"))

    async def _asked(self, method: str, *values: object) -> Any:  # noqa: ANN401  # what the method returns
        try:
            async with asyncio.timeout(self._seconds):
                return await getattr(self._handle, method).remote(*values)
        except TimeoutError as error:
            raise refuse("UPSTREAM_TIMEOUT") from error
        except (RayError, RayServeException) as error:  # a full queue, a lost replica
            logger.warning("Ray Serve does not answer: %s", error)
            raise refuse("UNAVAILABLE") from error


@serve.ingress()
class _Door:
    """The gateway as a deployment. Its application is made in the replica."""

    def __init__(self, door: dict[str, Any], models: dict[str, DeploymentHandle[Any]]) -> None:
        settings = {name: value for name, value in Door(**door) if name != "replicas"}
        self._settings = Settings(body_bytes=BODY_BYTES, **settings)
        self._models = models

    def __serve_build_asgi_app__(self) -> ASGIApp:  # Ray's name
        logs.start()
        seconds = self._settings.answer_seconds
        engine = RowEngine({name: Handle(each, seconds) for name, each in self._models.items()})
        return create_app(self._settings, engine)


def build(arguments: Arguments) -> serve.Application:
    """The application of a configuration: ``import_path: actionrec_engines.ray_serve:build``."""
    models = {name: _replicas(name, served) for name, served in arguments.models.items()}
    door = serve.deployment(
        name="door",
        num_replicas=arguments.door.replicas,
        max_ongoing_requests=1000,  # they wait here for the models
        graceful_shutdown_timeout_s=float(DRAIN_SECONDS),
        ray_actor_options={"num_cpus": 0},
    )(_Door)
    return door.bind(arguments.door.model_dump(), models)


def _replicas(name: str, served: Served) -> serve.Application:
    archive = Archive.open(served.archive)
    if archive.manifest.name != name:
        raise ValueError(f"{served.archive} is the model {archive.manifest.name!r}, not {name!r}")
    rows = served.rows or archive.rows
    deployment = serve.deployment(
        name=name,
        autoscaling_config={
            "min_replicas": served.min_replicas,
            "max_replicas": max(served.max_replicas, served.min_replicas),
            "target_ongoing_requests": served.target or 2.0 * rows,
        },
        max_ongoing_requests=_BATCHES * rows,
        max_queued_requests=archive.waiting,
        health_check_period_s=_HEALTH_SECONDS,
        graceful_shutdown_timeout_s=float(DRAIN_SECONDS),
        ray_actor_options={"num_cpus": served.cpus, "num_gpus": served.gpus},
    )(Replica)
    return deployment.bind(str(served.archive.absolute()), served.rows, served.gpus > 0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve archives with Ray Serve on this machine, or on the cluster of ADDRESS; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m actionrec_engines.ray_serve", description=main.__doc__)
    parser.add_argument("archives", nargs="+", type=Path, metavar="ARCHIVE", help="a file of `make archive`")
    parser.add_argument("--address", default="local", help="of a cluster; default: one of its own")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--gpus", type=float, default=0.0, help="of each replica, such as 0.25")
    parser.add_argument("--max-replicas", type=int, default=1, help="of each model")
    parser.add_argument("--run-dir", type=Path, default=Path("run"), help="of jobs and uploads")
    parser.add_argument("--cpus", type=float, help="of each replica; default: its share of the cores here")
    given = parser.parse_args(arguments)
    # A replica has as many threads, and with one of them a large model would take so much longer.
    cpus = given.cpus or max(1, (os.cpu_count() or 1) // (given.max_replicas * len(given.archives)))
    try:
        names = {Archive.open(path).manifest.name: path for path in given.archives}
        models = {
            name: Served(archive=path, cpus=cpus, gpus=given.gpus, max_replicas=given.max_replicas)
            for name, path in names.items()
        }
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
        ray.init(given.address, include_dashboard=False, log_to_driver=False)
        ended = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):  # in the place of Ray's, which end at once
            signal.signal(number, lambda *_: ended.set())
        serve.start(http_options={"host": given.host, "port": given.port})
        application = build(Arguments(models=models, door=Door(run_dir=given.run_dir.absolute())))
        serve.run(application, name=_APPLICATION, route_prefix="/")
    except (OSError, ValueError, RuntimeError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(json.dumps({"url": f"http://{given.host}:{given.port}"}) + "\n")
    sys.stdout.flush()
    ended.wait()
    _drain()
    serve.shutdown()  # type: ignore[no-untyped-call]
    ray.shutdown()
    return 0


def _drain() -> None:
    """Delete the application: each replica answers what it has, and Ray's proxy sends that on."""
    for _ in range(1 + DRAIN_SECONDS // _DELETE_SECONDS):
        with suppress(TimeoutError):
            serve.delete(_APPLICATION)
            break
    time.sleep(_LAST_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
