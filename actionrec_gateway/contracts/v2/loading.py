"""Loads `kserve` where the protocol is used: it takes 0.4 s and 90 MB."""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
from types import ModuleType

from actionrec.errors import ClipError

_INSTALL = "pip install 'slowfast-torchserve[kserve]'"
_one_at_a_time = threading.Lock()
_loaded: dict[str, ModuleType] = {}


async def codec() -> ModuleType:
    """The module `codec`, imported in a thread the first time.

    Raises:
        ClipError: 501, `kserve` is not installed.
    """
    try:
        return await _module("codec")
    except ModuleNotFoundError as error:
        raise ClipError(
            "NOT_INSTALLED",
            501,
            "This gateway has no Open Inference Protocol: the package kserve is missing.",
            f"The operator installs it: {_INSTALL}",
        ) from error


async def server() -> ModuleType:
    """The module `server`, imported in a thread.

    Raises:
        RuntimeError: `kserve` is not installed.
    """
    try:
        return await _module("server")
    except ModuleNotFoundError as error:
        raise RuntimeError(f"gRPC needs the package kserve: {_INSTALL}") from error


async def _module(name: str) -> ModuleType:
    if name in _loaded:
        return _loaded[name]
    return await asyncio.to_thread(_load, name)


def _load(name: str) -> ModuleType:
    """Import a module of this package."""
    with _one_at_a_time:
        # kserve parses the command line of whoever imports it, and ends the process where it does not like it.
        arguments, sys.argv = sys.argv, sys.argv[:1]
        try:
            _loaded[name] = importlib.import_module(f".{name}", __package__)
            return _loaded[name]
        finally:
            sys.argv = arguments
