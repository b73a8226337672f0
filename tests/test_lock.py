"""Promise: what a production server installs is pinned with hashes, and is what the project asks for."""

from __future__ import annotations

import re
import tomllib

from tests.conftest import PROJECT

LOCK = (PROJECT / "requirements" / "serve.txt").read_text(encoding="utf-8")
ENTRIES = {
    name: re.findall(r"--hash=sha256:[0-9a-f]{64}", rest)
    for name, rest in re.findall(r"^([a-z0-9.-]+==\S+) \\\n((?:    .*\n?)+)", LOCK, re.M)
}


def test_every_line_is_pinned_with_hashes() -> None:
    """Each package has one version and at least one sha256, and the file names no host."""
    assert len(ENTRIES) == len(re.findall(r"^\S", LOCK, re.M))
    assert all(ENTRIES.values())
    assert "://" not in LOCK


def test_it_is_what_the_project_asks_for() -> None:
    """Every package of the `serve` extra stands in the lock in the same version (`make lock`)."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(project["optional-dependencies"]["serve"]) <= ENTRIES.keys()
