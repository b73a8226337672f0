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
POLL_SECONDS = 0.2


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
        return served(self._ask("GET", f"models/{quote(name, safe='')}"))

    def describe(self, name: str) -> dict[str, Any]:
        """What a model's archive says about itself; see `Description`.

        Raises:
            ServerError: the management address does not answer, or the model is not there.
        """
        return description(name, self._ask("GET", f"models/{quote(name, safe='')}?customized=true"))

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
            if is_scaled(now, workers, timeout_seconds, time.monotonic() > deadline):
                return
            time.sleep(POLL_SECONDS)

    def _ask(self, method: Method, path: str, timeout_seconds: float = ANSWER_SECONDS) -> Any:  # noqa: ANN401
        url = address_of(self._address, self._inference, path)
        try:
            return self._transport.once(method, url, timeout_seconds=timeout_seconds)
        except Unreachable as error:
            raise closed(error) from error


def address_of(management: str | None, inference: str, path: str) -> str:
    """The whole address of a question.

    Raises:
        Refused: ``NO_MANAGEMENT``.
    """
    if management is None:
        raise Refused(
            "NO_MANAGEMENT",
            0,
            f"{inference} names no port, so its management address cannot be told from it.",
            "On the server's host give it (--management-url); elsewhere it is closed, so name the model.",
        )
    return f"{management}/{path}"


def closed(error: Unreachable) -> Unreachable:
    """The error where the management address does not answer."""
    hint = f"{error.hint} The management address stays on the server's host; from another, name the model."
    return Unreachable(error.code, error.status, error.message, hint)


def served(reply: Any) -> ServedModel:  # noqa: ANN401  # of TorchServe
    """A model, from what the server says of it."""
    entry = reply[0]
    return ServedModel(
        name=str(entry["modelName"]),
        version=str(entry["modelVersion"]),
        workers=tuple(str(worker["status"]) for worker in entry["workers"]),
        least_workers=int(entry["minWorkers"]),
    )


def description(name: str, reply: Any) -> dict[str, Any]:  # noqa: ANN401
    """What an archive says of itself, from what the server says.

    Raises:
        BadReply: it says nothing.
    """
    described = reply[0].get("customizedMetadata")
    if not isinstance(described, dict):
        raise BadReply("BAD_REPLY", 200, f"{name} does not describe itself.", "Is it of this project?")
    return described


def is_scaled(now: ServedModel, workers: int, timeout_seconds: float, late: bool) -> bool:
    """Whether a model has as many workers as it should, and all are READY.

    Raises:
        NoReply: it has not, and it is late.
    """
    if len(now.workers) == workers and all(status == "READY" for status in now.workers):
        return True
    if late:
        states = ", ".join(now.workers) or "none"
        message = f"After {timeout_seconds:g} s the workers are: {states}."
        raise NoReply("DEADLINE", 0, message, "See its log.")
    return False
