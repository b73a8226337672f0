"""What the supervisor of a running server is asked for: to serve one more archive of its store.

The gateway writes the file when somebody has learned a model on its page. It holds a name, and what may be
served is decided here: an archive of the store, with its checksum. TorchServe takes none while it runs
(``enable_model_api``), so it is started anew with it. Where that fails, it is started as it was.

    {"name": "mine", "state": "wanted"}                       asked for
    {"name": "mine", "state": "refused", "message": "..."}    not done; where it is done, the file is gone
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from . import server
from .checksums import check_archives
from .drain import drain
from .management import get_models
from .preflight import DeployError, find_archives
from .state import DAMAGE, State, wishes_file, write

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


def wanted(run_dir: Path) -> str | None:
    """The name of the archive that is asked for; None: none is."""
    try:
        said = json.loads(wishes_file(run_dir).read_text(encoding="utf-8"))
        name, state = said["name"], said["state"]
    except (OSError, *DAMAGE):
        return None
    return name if state == "wanted" and isinstance(name, str) and _NAME.fullmatch(name) else None


def serve(name: str, state: State, settings: server.Settings, restart: Callable[[State, str], None]) -> None:
    """Serve one more archive.

    Args:
        name: of the archive.
        state: the server's.
        settings: the server's own.
        restart: ends the server, and starts it with the models of a state, for a reason.

    Raises:
        DeployError, OSError: it is not served; the file says so, too. The server may have to be started.
    """
    run_dir = settings.run_dir
    with_it = replace(state, models=tuple(dict.fromkeys((*state.models, name))))
    try:
        check_archives(find_archives(settings.model_store, (name,)))
        if get_models(state.management_url, [name]):
            with_it.save(run_dir)  # registered already, where the operator lets it: here for the next start
        else:
            drain(state.process.pid, urlsplit(state.inference_url).port or 80, server.DRAIN_SECONDS)
            restart(with_it, f"{name} is to be served, too")
    except (DeployError, OSError) as error:
        state.save(run_dir)
        write(wishes_file(run_dir), {"name": name, "state": "refused", "message": str(error)})
        raise
    wishes_file(run_dir).unlink(missing_ok=True)
