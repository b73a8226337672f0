"""Promise: a server loads an archive only if it is, to the byte, what was built."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deploy.checksums import check_archives, checksum_file
from deploy.preflight import DeployError
from tests.conftest import PROJECT, pack
from tests.test_server_lifecycle import ECHO, Deploy, the_error


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return pack("echo", ECHO, tmp_path / "model_store")


def test_sha256sum_reads_what_is_written(motion_archive: Path) -> None:
    """The build's file is one that `sha256sum -c` agrees with."""
    file = checksum_file(motion_archive)
    done = subprocess.run(
        ["sha256sum", "-c", file.name], cwd=file.parent, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "motion.mar: OK\n"
    check_archives([motion_archive])


def test_a_changed_byte_refuses_to_start(tmp_path: Path, archive: Path) -> None:
    """One bit of an archive flipped, wherever the zip file does not notice: `start` refuses in one line."""
    content = bytearray(archive.read_bytes())
    content[12] ^= 1  # the time of the first entry
    archive.write_bytes(content)
    line = the_error(Deploy(tmp_path, archive.parent)("start"))
    assert f"{archive} is not what was built: its sha256 is " in line
    assert line.endswith("; build it again (make archive), and find out who changed it")


def test_an_archive_without_checksum_refuses_with_the_way_out(tmp_path: Path, archive: Path) -> None:
    """The line says how the file is made, and that command makes it."""
    checksum_file(archive).unlink()
    line = the_error(Deploy(tmp_path, archive.parent)("start"))
    before, _, command = line.partition("make it: ")
    assert f"{archive} has no checksum" in before
    subprocess.run(["bash", "-c", command], cwd=PROJECT, timeout=60, check=True)
    check_archives([archive])


@pytest.mark.parametrize("text", ["", "abc  echo.mar", f"{'0' * 64}  other.mar", f"{'0' * 64}"])
def test_a_file_that_is_no_checksum(archive: Path, text: str) -> None:
    """An empty, damaged or foreign checksum file is none."""
    checksum_file(archive).write_text(text)
    with pytest.raises(DeployError, match=r"is not a line of sha256sum for echo\.mar"):
        check_archives([archive])


def test_other_bytes_with_the_right_name(archive: Path) -> None:
    """A checksum of other bytes is refused."""
    checksum_file(archive).write_text(f"{'0' * 64}  echo.mar\n")
    with pytest.raises(DeployError, match="is not what was built"):
        check_archives([archive])
