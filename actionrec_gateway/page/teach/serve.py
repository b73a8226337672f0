"""Has the engine serve one more archive while it runs.

TorchServe's management registers it at once where the operator lets it. By default he does not
(``enable_model_api=false`` in ``config.properties``): who can register an archive can run any file of the host,
and every page that somebody opens there can send such a request. Then its supervisor is asked, by a file: it
starts the engine anew, with the archive.

    {"name": "mine", "state": "wanted"}                       written here
    {"name": "mine", "state": "refused", "message": "..."}    written by the supervisor; done: the file is gone
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from actionrec.errors import ClipError

from ...engine import Engine
from .. import whole

_LOOK_SECONDS = 1.0
_MOST_SECONDS = 600.0
"""For a stop that lets all requests in flight be answered, a start, and all models loaded."""
_OFF = (403, 405)
"""Status of the management that registers nothing."""


async def serve(engine: Engine, name: str, wishes: Path | None) -> None:
    """Have an archive of the model store served.

    Args:
        engine: that is to serve it.
        name: of the archive.
        wishes: the supervisor's file; None: there is no supervisor.

    Raises:
        ClipError: 409, it takes none while it runs; 502, it could not be loaded; 503, it does not answer.
    """
    wanted = {"url": f"{name}.mar", "initial_workers": "1", "synchronous": "true"}
    answer = await engine.manage("POST", "/models", wanted)
    registered = answer.status in (200, 409)  # 409: it has it already
    if not registered and answer.status not in _OFF:
        message = f"{name} could not be loaded: {_message(answer.body)}"
        raise ClipError("NOT_LOADED", 502, message[:500], "The server's log says more: logs/model_log.log.")
    if wishes is None:
        if registered:
            return
        raise ClipError(
            "NOT_WHILE_IT_RUNS",
            409,
            "This server takes no new model while it runs.",
            "The archive is in its model store: stop it, and make serve again.",
        )
    # Where it is registered, the supervisor has to know of it, too: for its next start.
    await asyncio.to_thread(whole.write, wishes, json.dumps({"name": name, "state": "wanted"}))
    if not registered:
        await _granted(name, wishes)


async def _granted(name: str, wishes: Path) -> None:
    """Wait until the supervisor has done what it was asked for.

    Raises:
        ClipError: 502, it has not.
    """
    deadline = time.monotonic() + _MOST_SECONDS
    while (said := await asyncio.to_thread(_read, wishes)) is not None:
        refused = said.get("name") == name and said.get("state") == "refused"
        if refused or time.monotonic() > deadline:
            await asyncio.to_thread(wishes.unlink, missing_ok=True)
            why = said.get("message") if refused else f"the supervisor did nothing for {_MOST_SECONDS:g} s"
            message = f"{name} is not served: {why}"
            raise ClipError("NOT_LOADED", 502, message[:500], "logs/supervisor.log says more.")
        await asyncio.sleep(_LOOK_SECONDS)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return dict(found)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):
        return {}


def _message(body: bytes) -> str:
    try:
        found = json.loads(body)
        return str(found.get("message") or found["error"]["message"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return "it does not say why"
