"""Checks before a server starts; each error says in one line what is wrong and what to do."""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import subprocess
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import psutil

MIN_JAVA = 17  # TorchServe 0.12 is compiled for it
PORTS = 5  # in a row: inference, management, metrics, gRPC inference, gRPC management

_JAVA_HINT = "install it: apt-get install openjdk-17-jre-headless"
_SPARE_BYTES = 100 * 2**20  # for the server's own temporary files
_SOCKET_NAME = "/.ts.sock.99999"  # a worker's socket in the temporary directory
_SOCKET_PATH_MAX = 107  # Linux's sun_path


class DeployError(Exception):
    """A server cannot start, stop or scale.

    Args:
        message: what is wrong; one line.
        hint: what to do about it; one line, or empty.
        details: lines of a log that show it.
    """

    def __init__(self, message: str, hint: str = "", details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = tuple(details)

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


def check_java() -> None:
    """Check that Java is installed and new enough.

    Raises:
        DeployError: it is not.
    """
    home = os.environ.get("JAVA_HOME")
    # TorchServe's launcher makes the same choice.
    java = f"{home}/bin/java" if home else shutil.which("java")
    if java is None:
        raise DeployError(f"TorchServe needs Java {MIN_JAVA} or newer and there is none", _JAVA_HINT)
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        hint = f"JAVA_HOME is {home}: correct or unset it" if home else _JAVA_HINT
        raise DeployError(f"{java} does not run ({error})", hint) from error
    version = re.search(r'version "(?:1\.)?(\d+)', answer.stderr + answer.stdout)
    if version and int(version[1]) < MIN_JAVA:
        raise DeployError(f"{java} is Java {version[1]}, TorchServe needs {MIN_JAVA} or newer", _JAVA_HINT)


def find_archives(store: Path, names: Sequence[str]) -> list[Path]:
    """The archives to serve.

    Args:
        store: directory of ``<name>.mar`` files.
        names: names of models; empty: all in the store.

    Raises:
        DeployError: one is missing, or the store is empty.
    """
    there = sorted(store.glob("*.mar"))
    if not there:
        raise DeployError(f"{store} has no archive", "build one first: make archive")
    by_name = {path.stem: path for path in there}
    for name in names:
        if name not in by_name:
            raise DeployError(
                f"{store} has no archive named {name} (it has: {', '.join(by_name)})",
                f"build it with `make archive MODEL={name}`, or serve one of those",
            )
    return [by_name[name] for name in dict.fromkeys(names)] or there


def check_temporary_space(archives: Sequence[Path]) -> None:
    """Check that temporary files have room for the unpacked archives, and a worker's socket a short enough
    path.

    Raises:
        DeployError: they do not.
    """
    needed = _SPARE_BYTES
    for path in archives:
        try:
            with zipfile.ZipFile(path) as archive:
                needed += sum(entry.file_size for entry in archive.infolist())
        except (OSError, zipfile.BadZipFile) as error:
            raise DeployError(f"{path} cannot be read ({error})", "build it again: make archive") from error
    where = tempfile.gettempdir()
    free = shutil.disk_usage(where).free
    if free < needed:
        raise DeployError(
            f"{where} has {free / 2**20:.0f} MB free and the server needs {needed / 2**20:.0f} MB there",
            "make room, or set TMPDIR to a directory that has it",
        )
    if len(where) + len("/actionrec-12345678") + len(_SOCKET_NAME) > _SOCKET_PATH_MAX:
        raise DeployError(
            f"the path {where} is too long for a worker's Unix socket", "set TMPDIR to a shorter one"
        )


def check_ports(host: str, ports: Sequence[int]) -> None:
    """Check that every port is free.

    Raises:
        DeployError: one is not.
    """
    for port in ports:
        if not 0 < port < 2**16:
            raise DeployError(f"{port} is no port", f"choose PORT from 1024 to {2**16 - PORTS}")
        try:
            _try_port(host, port)
        except PermissionError as error:
            raise DeployError(f"port {port} is for root only", "choose another: PORT=8080") from error
        except OSError as error:
            raise DeployError(
                f"port {port} on {host} is taken{_holder(port)}",
                f"stop it, or choose another: PORT={ports[0] + 100} (and the next {len(ports) - 1} free)",
            ) from error


def free_ports(host: str) -> int:
    """The first of `PORTS` free ports in a row. Another process may still take one before the server does.

    Raises:
        DeployError: none were found.
    """
    for _ in range(100):
        # Below the ports that Linux gives to outgoing connections, which could take one meanwhile.
        first = random.randrange(20_000, 32_000)
        try:
            check_ports(host, range(first, first + PORTS))
        except DeployError:
            continue
        return first
    raise DeployError(f"there are no {PORTS} free ports in a row on {host}", "choose a range: PORT=18080")


def _try_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        # Without this, a port that a stopped server has just left counts as taken for a minute.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def _holder(port: int) -> str:
    """`` by java (pid 123)``; empty where the system does not tell."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            here = getattr(connection.laddr, "port", None) == port  # an unbound socket has no port
            if here and connection.status == psutil.CONN_LISTEN and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass  # another user's process cannot be inspected
    return ""
