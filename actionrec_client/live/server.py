"""The served model, as a stream needs it: the one place that knows how the client talks to it."""

from __future__ import annotations

from typing import Any

from ..api import ActionClient
from ..description import Description
from ..errors import BadReply


class Server:
    """A model that is served somewhere.

    Args:
        client: of the server; its time limit is that of one window.
    """

    def __init__(self, client: ActionClient) -> None:
        self._client = client

    @property
    def url(self) -> str:
        """Where windows are sent."""
        return self._client.url

    def describe(self) -> Description:
        """Ask the management API what the model eats.

        Raises:
            ServerError: it does not answer, or not with a description.
        """
        return Description.from_dict(self._client.describe())

    def classify(self, data: bytes, top_k: int) -> dict[str, Any]:
        """The reply to one clip.

        Raises:
            ServerError: there is none, and why.
        """
        reply = self._client.post(data, {"top_k": top_k})
        if not reply.get("predictions"):
            raise BadReply("BAD_REPLY", 200, f"The reply has no predictions: {str(reply)[:200]}.")
        return reply
