"""Questions to the management address of a server: which models it has, what they are, how many workers run."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

from .errors import BadReply, NoReply, Refused, Unreachable
from .results import ServedModel
from .transport import Method, Transport

ANSWER_SECONDS = 10.0
"""For a question that the server can answer at once."""
_POLL_SECONDS = 0.2


class Management:
    """The management API of a server. Each question is asked once: who asks wants to know how things are now.

    Args:
        transport: that sends the requests.
        address: of the management API; None: not known.
        inference: address of the same server for clips, to name in errors.
    """

    def __init__(self, transport: Transport, address: str | None, inference: str) -> None:
        self._transport = transport
        self._address = address
        self._inference = inference

    def models(self) -> list[ServedModel]:
        """All that are loaded, by name.

        Raises:
            ServerError: the management address does not answer.
        """
        listed = self._ask("GET", "models?limit=1000")
        return [self.model(str(entry["modelName"])) for entry in listed["models"]]

    def model(self, name: str) -> ServedModel:
        """One of them.

        Raises:
            ServerError: the management address does not answer, or the model is not there.
        """
        entry = self._ask("GET", f"models/{quote(name, safe='')}")[0]
        return ServedModel(
            name=str(entry["modelName"]),
            version=str(entry["modelVersion"]),
            workers=tuple(str(worker["status"]) for worker in entry["workers"]),
            least_workers=int(entry["minWorkers"]),
        )

    def describe(self, name: str) -> dict[str, Any]:
        """What a model's archive says about itself; see `Description`.

        Raises:
            ServerError: the management address does not answer, or the model is not there.
        """
        entry = self._ask("GET", f"models/{quote(name, safe='')}?customized=true")[0]
        described = entry.get("customizedMetadata")
        if not isinstance(described, dict):
            raise BadReply("BAD_REPLY", 200, f"{name} does not describe itself.", "Is it of this project?")
        return described

    def scale(self, name: str, workers: int, timeout_seconds: float) -> None:
        """Set the number of a model's worker processes, and return when so many are READY.

        Raises:
            ServerError: the server refuses, does not answer, or needs longer.
        """
        deadline = time.monotonic() + timeout_seconds
        path = f"models/{quote(name, safe='')}?min_worker={workers}&max_worker={workers}&synchronous=true"
        self._ask("PUT", path, timeout_seconds)
        while True:  # TorchServe answers when the new workers are up, but an old one may still be ending
            now = self.model(name)
            if len(now.workers) == workers and all(status == "READY" for status in now.workers):
                return
            if time.monotonic() > deadline:
                states = ", ".join(now.workers) or "none"
                message = f"After {timeout_seconds:g} s the workers are: {states}."
                raise NoReply("DEADLINE", 0, message, "See its log.")
            time.sleep(_POLL_SECONDS)

    def _ask(self, method: Method, path: str, timeout_seconds: float = ANSWER_SECONDS) -> Any:  # noqa: ANN401
        if self._address is None:
            raise Refused(
                "NO_MANAGEMENT",
                0,
                f"{self._inference} names no port, so its management address cannot be told from it.",
                "On the server's host give it (--management-url); elsewhere it is closed, so name the model.",
            )
        try:
            return self._transport.once(method, f"{self._address}/{path}", timeout_seconds=timeout_seconds)
        except Unreachable as error:
            hint = (
                f"{error.hint} The management address stays on the server's host; from another, name the model."
            )
            raise Unreachable(error.code, error.status, error.message, hint) from error
