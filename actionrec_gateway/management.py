"""The engine's management through the gateway, for administrators: what is served, by how many workers."""

from __future__ import annotations

from typing import Annotated

from actionrec.refusals import refuse
from fastapi import APIRouter, Depends, Path, Query, Request, Response

from .access import require_administrator
from .engine import Answer, Engine
from .settings import MODEL, VERSION

Model = Annotated[str, Path(pattern=f"^{MODEL}$")]
Version = Annotated[str, Path(pattern=f"^{VERSION}$")]
Count = Annotated[int, Query(ge=0, le=1024)]


def router() -> APIRouter:
    """The routes. Archives come from the server's folder alone: nothing here registers or removes one."""
    routes = APIRouter(
        prefix="/management/models", tags=["management"], dependencies=[Depends(require_administrator)]
    )

    @routes.get("")
    async def models(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        next_page_token: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    ) -> Response:
        """What is served."""
        return await _asked(request, "", limit=limit, next_page_token=next_page_token)

    @routes.get("/{model}")
    async def model(request: Request, model: Model, customized: bool = False) -> Response:
        """A model's workers and queue; with `customized` also what the archive says of itself."""
        return await _asked(request, f"/{model}", customized=customized)

    @routes.get("/{model}/{version}")
    async def version(request: Request, model: Model, version: Version, customized: bool = False) -> Response:
        """The same of one version."""
        return await _asked(request, f"/{model}/{version}", customized=customized)

    @routes.put("/{model}")
    async def scale(
        request: Request,
        model: Model,
        min_worker: Count = 1,
        max_worker: Count | None = None,
        synchronous: bool = False,
    ) -> Response:
        """Give a model so many workers; with `synchronous` the reply comes when it has them."""
        most = min_worker if max_worker is None else max_worker
        return await _asked(
            request, f"/{model}", min_worker=min_worker, max_worker=most, synchronous=synchronous
        )

    @routes.put("/{model}/{version}/default")
    async def make_default(request: Request, model: Model, version: Version) -> Response:
        """Have this version answer requests that name none."""
        return await _asked(request, f"/{model}/{version}/set-default")

    return routes


async def _asked(request: Request, path: str, **values: int | bool) -> Response:
    engine: Engine = request.app.state.engine
    query = {name: str(value).lower() for name, value in values.items()}
    answer: Answer = await engine.manage(request.method, f"/models{path}", query)
    if answer.status == 404:
        raise refuse("MODEL_NOT_FOUND")
    return Response(answer.body, answer.status, media_type=answer.headers.get("content-type"))
