"""Promise: the systemd units are ones that systemd takes, and they lock the services in."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.server import DRAIN_SECONDS
from tests.conftest import PROJECT

UNITS = sorted((PROJECT / "deploy" / "production").glob("*.service"))
HARDENED = ("NoNewPrivileges", "ProtectSystem", "ProtectHome", "PrivateTmp", "MemoryMax", "Restart", "KillMode")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_takes_it(unit: Path, tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say; others stand in for programs that are missing."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed: the units are read by the next test only")
    for other in UNITS:
        text = other.read_text(encoding="utf-8")
        for program in ("/opt/actionrec/.venv/bin/python", "/usr/sbin/nginx"):
            text = text.replace(program, "/bin/true")
        (tmp_path / other.name).write_text(
            text.replace("User=actionrec\n", "").replace("Group=actionrec\n", "")
        )
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(tmp_path / unit.name)],
        capture_output=True,
        text=True,
        timeout=60,
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:", "PATH": "/usr/bin:/bin"},
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if unit.name in line]
    assert (done.returncode, said) == (0, []), done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_it_is_hardened(unit: Path) -> None:
    """Each unit has the locks that are promised, and gives a stop the time to drain."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment]  # keep the case of the keys
    parser.read_string(unit.read_text(encoding="utf-8"))
    service = dict(parser["Service"])
    assert set(HARDENED) <= service.keys()
    assert float(service["TimeoutStopSec"]) > DRAIN_SECONDS + 20
