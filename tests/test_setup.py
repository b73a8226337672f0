"""Promise: setting up says what is missing before it has taken anybody's minutes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import PROJECT

pytestmark = pytest.mark.server


def test_no_room(tmp_path: Path) -> None:
    """On a disk that is too full for the dependencies nothing is begun; the line says how much is needed."""
    df = tmp_path / "df"
    df.write_text(
        "#!/bin/sh\necho Filesystem; echo /dev/disk 100000000 97000000 3000000 97% /\n", encoding="utf-8"
    )
    df.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["bash", str(PROJECT / "scripts" / "setup"), str(tmp_path / "venv")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "needs 8 GB" in done.stderr
    assert "only 2 GB are free" in done.stderr
    assert not (tmp_path / "venv").exists()
