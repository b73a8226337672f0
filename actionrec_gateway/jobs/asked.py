"""What a client asks for when it makes a job -> checked, in the words of a request."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from actionrec.errors import ClipError
from actionrec.limits import DEFAULT_LIMITS
from actionrec.refusals import refuse
from actionrec.request import parse_request

from ..engine import Engine

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_KEY = re.compile(r"[!-~]{1,255}")
_WHOLE = frozenset({"top_k", "views", "crops"})
_NUMBERS = frozenset({"start_seconds", "end_seconds", "stride_seconds"})
OWN = ("model", "version", "url", "webhook")
"""Fields of a job that are not options of a request."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for, beside the video."""

    model: str
    version: str | None
    options: Mapping[str, Any]
    """Of a request: numbers and texts."""
    url: object
    """None: the video itself is sent."""
    webhook: object
    """None: nobody is to be called."""

    def fingerprint(self, video: str) -> str:
        """Equal for the same question about the same video.

        Args:
            video: its sha256, or its address.
        """
        said = [self.model, self.version, sorted(self.options.items()), video, self.webhook]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()


async def asked(fields: Mapping[str, Any], engine: Engine) -> Asked:
    """Check the fields of a job. What depends on the model, the engine checks when it is asked.

    Args:
        fields: texts of a form or a query, or values of a JSON object; without the video.
        engine: knows the model, where none is named and it has only one.

    Raises:
        ClipError: 400, 404; 503, the engine has to be asked and does not answer.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    own = {name: given.pop(name) for name in OWN if name in given}
    for name in ("model", "version"):
        if name in own and not (isinstance(own[name], str) and _NAME.fullmatch(own[name])):
            raise _bad(f"{name} is no name of a {name}.", "GET /v2/models/<name> says whether there is one.")
    options = _options(given)
    model = own.get("model") or await _only_model(engine)
    return Asked(model, own.get("version"), options, own.get("url"), own.get("webhook"))


def idempotency_key(value: str | None) -> str | None:
    """The header ``Idempotency-Key``.

    Raises:
        ClipError: 400.
    """
    if value is None:
        return None
    key = value.strip().strip('"')  # the draft of the standard has it in quotes
    if not _KEY.fullmatch(key):
        raise _bad(
            "Idempotency-Key has no characters, more than 255, or some that are not of ASCII.", "Send a UUID."
        )
    return key


def check_size(found: Asked, size: int) -> None:
    """Refuse a video that is too large for what is asked of it: an explanation is of a whole file.

    Raises:
        ClipError: 413.
    """
    if "explain" in found.options and size > DEFAULT_LIMITS.body_bytes:
        raise ClipError(
            "TOO_LARGE",
            413,
            f"The video has {size:,} bytes; {DEFAULT_LIMITS.body_bytes:,} may be explained.",
            "Cut it first: ffmpeg -ss 60 -t 10 -i input -c copy output.mp4",
        )


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    # The labels are not known here: these stand for as many as a model may have, and for the one that is named.
    labels = [str(number) for number in range(DEFAULT_LIMITS.top_k)]
    label = given.get("explain")
    if isinstance(label, str) and label not in ("true", "false"):
        labels[0] = label
    parse_request({**given, "video": b"video"}, labels)
    options = dict(given)
    for name, value in given.items():
        if isinstance(value, str):
            if name in _WHOLE:
                options[name] = int(float(value))
            elif name in _NUMBERS:
                options[name] = float(value)
            elif name == "explain" and value in ("true", "false"):
                options[name] = value == "true"
    if options.get("explain") is False:
        del options["explain"]
    return options


async def _only_model(engine: Engine) -> str:
    names = await engine.models()
    if len(names) == 1:
        return names[0]
    if not names:
        raise refuse("UNAVAILABLE")
    raise _bad(f"There are several models: {', '.join(names)[:200]}.", "Name one: model=...")


def _bad(message: str, hint: str) -> ClipError:
    return ClipError("BAD_OPTION", 400, message, hint)
