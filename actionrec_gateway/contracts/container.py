"""``python -m actionrec_gateway serve``: what SageMaker runs in a container, and others may run too.

The server and its gateway are started in the foreground; SIGTERM drains both. Variables of the platforms say
where: SageMaker's ``SM_MODEL_DIR`` and ``SAGEMAKER_BIND_TO_PORT``, Vertex AI's ``AIP_HTTP_PORT``. The routes of
Vertex AI are settings of the gateway. ``ENGINE_PORT`` is the first of TorchServe's five ports, the third of
which has metrics; else they are free ones.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

PORT = 8080
"""Where platforms look when they say nothing."""
FOLDERS = (Path("/opt/ml/model"), Path("/repository"), Path("/mnt/models"))
"""Where SageMaker, Hugging Face and KServe put a model's files."""
DRAIN_SECONDS = 20
"""SageMaker kills a container 30 s after SIGTERM."""
_STATE = Path(tempfile.gettempdir()) / "actionrec"
_CHECKOUT = Path(__file__).resolve().parents[2]


def serve(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> NoReturn:
    """Become the server and its gateway.

    Args:
        arguments: more of ``python -m deploy start``, such as ``--workers 2``.
        environment: names and values.

    Raises:
        SystemExit: this is no checkout, or there is no archive.
    """
    if not (_CHECKOUT / "deploy" / "__main__.py").is_file():
        sys.exit(f"error: {_CHECKOUT} has no folder deploy; serve runs from a checkout, as images have it")
    store = model_store(environment)
    if store is None:
        looked = ", ".join(map(str, _folders(environment)))
        sys.exit(f"error: no archive (*.mar) in {looked}; set SM_MODEL_DIR to the folder of yours")
    os.chdir(_CHECKOUT)
    os.execve(sys.executable, command(store, arguments, environment), variables(environment))


def command(store: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The command that starts both.

    Args:
        store: folder of the archives.
        arguments: more for it.
        environment: names and values.
    """
    return [
        *(sys.executable, "-m", "deploy", "start", "--foreground"),
        *("--model-store", str(store), "--run-dir", str(_STATE / "run"), "--log-dir", str(_STATE / "logs")),
        *(
            "--port",
            environment.get("ENGINE_PORT") or "0",
            "--gateway",
            "--gateway-port",
            str(port(environment)),
            "--drain",
            str(DRAIN_SECONDS),
        ),
        *arguments,
    ]


def variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of both: the gateway listens on all addresses, as a container's must."""
    return {"GATEWAY_HOST": "0.0.0.0", **environment}


def port(environment: Mapping[str, str]) -> str:
    """The gateway's port."""
    return environment.get("AIP_HTTP_PORT") or environment.get("SAGEMAKER_BIND_TO_PORT") or str(PORT)


def model_store(environment: Mapping[str, str]) -> Path | None:
    """The first folder that has an archive; None: none has."""
    return next((folder for folder in _folders(environment) if any(folder.glob("*.mar"))), None)


def _folders(environment: Mapping[str, str]) -> tuple[Path, ...]:
    chosen = environment.get("SM_MODEL_DIR")
    return (Path(chosen).resolve(),) if chosen else FOLDERS
