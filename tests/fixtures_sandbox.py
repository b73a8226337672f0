"""Real children, and such that do what a video tells them to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from actionrec.sandbox import Sandbox

from tests.helpers_sandbox import LIMITS, SPEC, TROUBLE


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A real zygote that has two children ready."""
    with Sandbox(SPEC, LIMITS, 2) as running:
        yield running


@pytest.fixture
def troubled(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Children that crash, hang and lie on demand."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent))
    with Sandbox(SPEC, LIMITS, 2, TROUBLE) as running:
        yield running
