"""A server and the model that is asked there: requests as they are, and questions to the server itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from .address import parse
from .errors import BadReply, NoReply, Refused, ServerError, Unreachable
from .management import ANSWER_SECONDS, Management
from .options import form_of, views_of
from .results import ServedModel
from .transport import Body, Transport

TIMEOUT_SECONDS = 120.0
"""For a request of one window, with all its retries."""
LONG_TIMEOUT_SECONDS = 300.0
"""For one of several: two tries, each longer than a worker may take (``responseTimeout``, 120 s)."""


class Endpoint:
    """A served model. `ActionClient` has the arguments, and what to ask."""

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        token: str | None = None,
        timeout: float | None = None,
        attempt_timeout: float | None = None,
        management_url: str | None = None,
        insecure_token: bool = False,
    ) -> None:
        place = parse(url, management_url)
        self._inference = place.inference
        self._model = model or place.model
        self._timeout = timeout
        limit = TIMEOUT_SECONDS if timeout is None else timeout
        self._transport = Transport(token, limit, attempt_timeout, insecure_token=insecure_token)
        self._transport.bearer.check(place.inference)
        self._management = Management(self._transport, place.management, place.inference)

    @property
    def model(self) -> str:
        """Name of the model; asks the server where it was not given.

        Raises:
            Refused: ``WHICH_MODEL``: there are several, or none.
            ServerError: the management address does not answer.
        """
        if self._model is None:
            names = [model.name for model in self.models()]
            if len(names) != 1:
                message = f"The server has {len(names)} models: {', '.join(names) or 'none'}."
                hint = "Name one with model." if names else "Start it with an archive."
                raise Refused("WHICH_MODEL", 0, message, hint)
            self._model = names[0]
        return self._model

    @property
    def url(self) -> str:
        """Where clips are sent."""
        return f"{self._inference}/predictions/{quote(self.model, safe='')}"

    def post(self, data: bytes, options: Mapping[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """Send a file and return the reply's JSON as it is.

        Args:
            data: of a video file.
            options: by the server's names for them; those that are None are left out.
            timeout: seconds for the request with all its retries. Default: the client's.

        Raises:
            ServerError: there is no answer, and why.
        """
        limit = self._deadline(options) if timeout is None else timeout
        reply = self._transport.call("POST", self.url, Body(form_of(options), data), limit)
        if not isinstance(reply, dict):
            raise BadReply("BAD_REPLY", 200, f"The reply is of another kind of server: {str(reply)[:200]}.")
        return reply

    def _deadline(self, options: Mapping[str, Any]) -> float:
        if self._timeout is not None:
            return self._timeout
        several = options.get("stride_seconds") or views_of(options) > 1
        return LONG_TIMEOUT_SECONDS if several else TIMEOUT_SECONDS

    def models(self) -> list[ServedModel]:
        """What the server has loaded, by name.

        Raises:
            ServerError: the management address does not answer.
        """
        return self._management.models()

    def describe(self) -> dict[str, Any]:
        """What the archive says about itself, as it came: recipe, labels' count, runtime, weights, parity,
        versions. `Description.from_dict` makes fields of it.

        Raises:
            ServerError: the management address does not answer, or the model is not there.
        """
        return self._management.describe(self.model)

    def ready(self) -> bool:
        """Whether the model has all its workers, and every one is READY. Only `classify` shows that they
        answer.

        Raises:
            ServerError: the server does not answer, or the model is not there.
        """
        return self._management.model(self.model).ready

    def reach(self, timeout: float = ANSWER_SECONDS) -> None:
        """Try once whether anything answers at the address, whatever it says.

        Args:
            timeout: seconds.

        Raises:
            Unreachable, NoReply: nothing does.
        """
        try:
            self._transport.once("GET", f"{self._inference}/ping", timeout_seconds=timeout)
        except (Unreachable, NoReply):
            raise
        except ServerError:
            return

    def scale(self, workers: int, *, timeout: float | None = None) -> None:
        """Set the number of worker processes; returns when so many are READY.

        Args:
            workers: how many, at least 0.
            timeout: seconds until they must be READY; default: the client's.

        Raises:
            ServerError: the server refuses, does not answer, or is not done in time.
        """
        self._management.scale(self.model, workers, timeout or self._transport.timeout_seconds)
