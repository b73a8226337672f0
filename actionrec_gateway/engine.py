"""What stands behind the gateway: something that answers requests with the replies of `actionrec.service`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole reply of the engine."""

    status: int
    """HTTP status."""
    body: bytes
    """The reply's JSON, or that of an error in the project's own form, whatever the engine said."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Those that matter to the sender, in lower case: ``content-type``, ``retry-after``."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A reply of the engine that is passed on as it comes."""

    status: int
    """HTTP status."""
    headers: tuple[tuple[bytes, bytes], ...]
    """Without those of the connection itself (RFC 9110, 7.6.1)."""
    body: AsyncIterator[bytes]
    timings_ms: dict[str, float] = field(default_factory=dict)
    """The reply's own, which are known when the body has come to its end."""
    engine_id: str = ""
    """The engine's own id of the request, which its logs have; empty where it has none."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One of a model's worker processes."""

    name: str
    """The engine's own: ``9000``. A worker that is replaced leaves it to the next one."""
    ready: bool
    pid: int | None = None
    """Of its process, where that runs on this host."""
    started_seconds: float | None = None
    """When it was started, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Workers:
    """A model's workers."""

    wanted: int
    """How many there should be."""
    found: tuple[Worker, ...] = ()


class Engine(Protocol):
    """An engine behind the gateway: TorchServe's address, or a handle of Ray Serve."""

    async def forward(self, path: str, body: AsyncIterator[bytes], headers: Mapping[str, str]) -> Stream:
        """Pass a request on, and its reply back, without keeping either.

        A refusal of the engine comes back in the project's own form.

        Args:
            path: ``/predictions/motion/1.0`` or ``/explanations/motion``, without a query.
            body: as it comes.
            headers: in lower case, those that the engine needs: ``x-request-id``, ``x-actionrec-client``,
                ``content-length`` where it is known, ``traceparent``.

        Raises:
            ClipError: the engine does not answer.
        """

    async def predict(
        self,
        model: str,
        video: bytes,
        options: Mapping[str, Any],
        *,
        request_id: str,
        version: str | None = None,
        client: str = "",
    ) -> Answer:
        """Classify one video. A cut connection or a full queue is an answer too (503); nothing is sent twice.

        Args:
            model: its name.
            video: a whole file.
            options: of a request, by their names.
            request_id: the reply's.
            version: of the model; default: the one that the engine calls default.
            client: who asks, for fair shares.
        """

    async def models(self) -> list[str]:
        """Names of what is served, sorted.

        Raises:
            ClipError: 503, the engine does not answer.
        """

    async def describe(self, model: str, version: str | None = None) -> dict[str, Any]:
        """What the archive says of itself.

        Raises:
            ClipError: 404, there is no such model; 503, the engine does not answer.
        """

    async def ready(self, model: str | None = None) -> bool:
        """Whether a real prediction of this model, or of every model, answers right. Answers of the last few
        seconds are remembered, so that asking often costs nothing.
        """

    async def waiting(self) -> Mapping[str, int]:
        """Requests that wait for a worker, for each model.

        Raises:
            ClipError: 503, the engine does not say.
        """

    async def workers(self) -> Mapping[str, Workers]:
        """Each model's workers.

        Raises:
            ClipError: 503, the engine does not say.
        """

    async def manage(self, method: str, path: str, query: Mapping[str, str]) -> Answer:
        """Ask the engine's management, in TorchServe's words.

        Args:
            method: GET, PUT or POST.
            path: ``/models/motion``.
            query: names and values.

        Raises:
            ClipError: 404, this engine has none; 503, it does not answer.
        """

    async def close(self) -> None:
        """Close all connections."""
