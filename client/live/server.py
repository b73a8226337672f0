"""The served model, as a stream needs it: the one place that knows how the client talks to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
from actionrec.spec import ClipSpec

from client.api import ServerError, classify

_DESCRIBE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Description:
    """What a stream wants to know of a model."""

    spec: ClipSpec
    labels: int | None
    """How many; None where that is not known."""


class Server:
    """A model that is served somewhere.

    Args:
        url: ``http://host:8080/predictions/motion``.
        timeout_seconds: for the answer to one window.
    """

    def __init__(self, url: str, timeout_seconds: float) -> None:
        self.url = url
        self._timeout_seconds = timeout_seconds

    def describe(self) -> Description:
        """Ask the management API what the model eats.

        Raises:
            ServerError: it does not answer, or not with a description.
        """
        parts = urlsplit(self.url)
        model = parts.path.rsplit("/", 1)[-1]
        url = f"{parts.scheme}://{parts.hostname}:{(parts.port or 80) + 1}/models/{model}?customized=true"
        try:
            reply = requests.get(url, timeout=_DESCRIBE_SECONDS)
            reply.raise_for_status()
            return _description(reply.json()[0]["customizedMetadata"])
        except requests.RequestException as error:
            raise ServerError("UNREACHABLE", 0, f"No description from {url}: {error}.") from error
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ServerError("BAD_REPLY", 200, f"No description from {url}: {error!r}.") from error

    def classify(self, data: bytes, top_k: int) -> dict[str, Any]:
        """The reply to one clip.

        Raises:
            ServerError: there is none, and why.
        """
        return classify(self.url, data, deadline_seconds=self._timeout_seconds, top_k=top_k)


def _description(metadata: dict[str, Any]) -> Description:
    spec = {name: value for name, value in metadata["spec"].items() if name != "window_seconds"}
    return Description(ClipSpec.from_dict(spec), int(metadata["labels"]))
