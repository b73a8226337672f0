"""The server's configuration for one start: ``config.properties`` with this start's ports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from .preflight import DeployError, free_ports

# Name of an address -> its port's distance from the inference port.
_ADDRESSES = {"inference_address": 0, "management_address": 1, "metrics_address": 2}
# TorchServe's own defaults.
_LIMITS = {"max_request_size": 6_553_500, "default_response_timeout": 120}
_GPUS = "number_of_gpu"
_GRPC_PORTS = {"grpc_inference_port": 3, "grpc_management_port": 4}


@dataclass(frozen=True)
class ServerConfig:
    """A configuration with all addresses decided."""

    text: str
    """The properties file for TorchServe."""
    inference_url: str
    management_url: str
    metrics_url: str
    host: str
    """The host that the inference port is bound to."""
    ports: tuple[int, ...]
    """All ports of the server, the inference port first."""
    max_request_bytes: int
    """Bytes of the largest body."""
    response_seconds: int
    """Seconds that a batch may take, for archives that do not say it themselves."""
    most_gpus: int | None = None
    """``number_of_gpu``: GPUs that the server uses at most; None: the file does not say."""

    def with_defaults(self, lines: Mapping[str, str]) -> ServerConfig:
        """The same with these lines, except for those that the file has itself."""
        there = {_pair(line)[0] for line in self.text.splitlines()}
        added = "".join(f"{key}={value}\n" for key, value in lines.items() if key not in there)
        return replace(self, text=self.text + added)


def load_config(path: Path, port: int | None = None) -> ServerConfig:
    """Read ``config.properties`` and move it to other ports.

    Args:
        path: the file.
        port: the inference port, and the others follow it; 0: free ports; None: the ports in the file.

    Raises:
        DeployError: the file is missing, incomplete, or has a value that is no number.
    """
    if not path.is_file():
        raise DeployError(f"{path} is not there", "run this in the project's directory, or name it: --config")
    lines = path.read_text(encoding="utf-8").splitlines()
    values = dict(_pair(line) for line in lines if "=" in line and not line.lstrip().startswith("#"))
    missing = [key for key in (*_ADDRESSES, *_GRPC_PORTS) if key not in values]
    if missing:
        raise DeployError(f"{path} does not say {', '.join(missing)}", "take the lines from the original file")

    host = urlsplit(values["inference_address"]).hostname or "127.0.0.1"
    if port == 0:
        port = free_ports(host)
    if port is not None:
        for key, offset in _ADDRESSES.items():
            url = urlsplit(values[key])
            values[key] = f"{url.scheme}://{url.hostname}:{port + offset}"
        for key, offset in _GRPC_PORTS.items():
            values[key] = str(port + offset)
    urls = [values[key] for key in _ADDRESSES]
    ports = [urlsplit(url).port or 80 for url in urls] + [int(values[key]) for key in _GRPC_PORTS]
    # 0.0.0.0 listens everywhere, but is no address to call.
    inference, management, metrics = (url.replace("//0.0.0.0:", "//127.0.0.1:") for url in urls)
    metrics = f"{metrics.rstrip('/')}/metrics"  # the only path that it serves
    text = "".join(f"{key}={value}\n" for key, value in values.items())
    try:
        body, seconds = (int(values.get(key, default)) for key, default in _LIMITS.items())
        most_gpus = int(values[_GPUS]) if _GPUS in values else None
    except ValueError as error:
        raise DeployError(f"{path}: {', '.join((*_LIMITS, _GPUS))} must be whole numbers ({error})") from error
    return ServerConfig(text, inference, management, metrics, host, tuple(ports), body, seconds, most_gpus)


def _pair(line: str) -> tuple[str, str]:
    key, _, value = line.partition("=")
    return key.strip(), value.strip()
