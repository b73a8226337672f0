"""Published weights as a build finds them: a mirror on 127.0.0.1, and an empty download folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from export import download, zoo
from tests.helpers_http import FileServer, serve
from tests.helpers_weights import CONTENT, FILE


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty download folder of torch.hub's; no proxy in between, no waiting between attempts."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "BACKOFF_SECONDS", 0.0)
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A mirror of the published weights that has one file."""
    with serve(FileServer({FILE: CONTENT})) as state:
        monkeypatch.setenv(zoo.ZOO_URL_VARIABLE, state.url)
        yield state
