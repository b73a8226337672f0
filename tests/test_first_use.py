"""Promise: published weights are those that the first build saw, until somebody says otherwise."""

from __future__ import annotations

import hashlib
import io
import subprocess
from pathlib import Path

import pytest
import torch
from rich.console import Console

from export import build, checksum, cli, parity, weights
from export.build import Order
from export.errors import WeightsChangedError, WeightsError
from tests.helpers_http import FileServer
from tests.helpers_weights import CONTENT, FILE, MODEL

pytest_plugins = ("tests.fixtures_weights",)
pytestmark = pytest.mark.usefixtures("cache")

FIRST, OTHER = CONTENT, b"other weights" * 1000
QUIET = Console(quiet=True)


def sha256(content: bytes) -> str:
    """Hex digest."""
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def seen(mirror: FileServer, cache: Path) -> Path:
    """The file of weights that a first build has seen."""
    found = weights.resolve(MODEL)
    weights.remember(found, QUIET)
    assert mirror.files
    return cache / FILE


def test_the_checksum_stands_beside_the_file(seen: Path) -> None:
    """What a first build saw can be checked by hand, and a second build takes the same file."""
    done = subprocess.run(
        ["sha256sum", "-c", f"{FILE}.sha256"],
        cwd=seen.parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == f"{FILE}: OK\n"
    assert weights.resolve(MODEL).sha256 == sha256(FIRST)
    assert sorted(path.name for path in seen.parent.iterdir()) == [FILE, f"{FILE}.sha256"]


def test_another_download_is_refused(mirror: FileServer, seen: Path) -> None:
    """A server or mirror that gives other bytes is refused with both sums, and nothing of it is kept."""
    seen.unlink()
    mirror.files[FILE] = OTHER
    with pytest.raises(WeightsChangedError) as caught:
        weights.resolve(MODEL)
    assert caught.value.code == "WEIGHTS_CHANGED"
    assert f"{mirror.url}{FILE} has sha256 {sha256(OTHER)}" in caught.value.message
    assert f"an earlier build saw {sha256(FIRST)}" in caught.value.message
    assert f"WEIGHTS_SHA256={sha256(OTHER)}" in caught.value.hint
    assert [path.name for path in seen.parent.iterdir()] == [f"{FILE}.sha256"]
    mirror.files[FILE] = FIRST
    assert weights.resolve(MODEL).path.read_bytes() == FIRST


def test_another_file_in_the_cache_is_refused(seen: Path) -> None:
    """A file that was exchanged or damaged after the first build is refused, and stays to be looked at."""
    seen.write_bytes(OTHER)
    with pytest.raises(WeightsChangedError, match=f"an earlier build saw {sha256(FIRST)}") as caught:
        weights.resolve(MODEL)
    assert str(seen) in caught.value.hint
    assert seen.read_bytes() == OTHER


def test_the_users_number_wins(mirror: FileServer, seen: Path) -> None:
    """WEIGHTS_SHA256 accepts what it names, which later builds then expect; what it does not name stays out."""
    seen.unlink()
    mirror.files[FILE] = OTHER
    with pytest.raises(WeightsError, match="WEIGHTS_SHA256 is"):
        weights.resolve(MODEL, sha256=sha256(FIRST))
    weights.remember(weights.resolve(MODEL, sha256=sha256(OTHER)), QUIET)
    assert weights.resolve(MODEL).sha256 == sha256(OTHER)
    seen.write_bytes(FIRST)
    with pytest.raises(WeightsChangedError):
        weights.resolve(MODEL)


def test_what_could_not_be_used_is_not_remembered(mirror: FileServer, cache: Path, tmp_path: Path) -> None:
    """A web page in the place of the weights, which no build can use, does not shut out the right file."""
    mirror.files[FILE] = b"<html>log in first</html>"
    for _ in range(2):
        assert cli.main(["--model", "slowfast_r50", "--store", str(tmp_path / "store")]) == 1
    assert [path.name for path in cache.iterdir()] == [FILE]


@pytest.mark.parametrize("content", ["", "no checksum", "0" * 63])
def test_a_damaged_checksum(seen: Path, content: str) -> None:
    """A checksum that is none is an error that says how to go on; the user's number makes it whole again."""
    checksum.file_of(seen).write_text(content)
    with pytest.raises(WeightsError, match="holds no SHA-256"):
        weights.resolve(MODEL)
    weights.remember(weights.resolve(MODEL, sha256=sha256(FIRST)), QUIET)
    assert weights.resolve(MODEL).sha256 == sha256(FIRST)


def test_a_cache_that_cannot_be_written(
    mirror: FileServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the checksum cannot be kept the build goes on and says so."""

    def full(path: Path, digest: str) -> Path:
        raise OSError(30, "Read-only file system", f"{path} {digest}")

    found = weights.resolve(MODEL)
    monkeypatch.setattr(checksum, "write", full)
    weights.remember(found, Console())
    assert "could not be kept (Read-only file system)" in " ".join(capsys.readouterr().out.split())
    assert mirror.files


def test_only_published_weights_are_remembered(mirror: FileServer, cache: Path, tmp_path: Path) -> None:
    """The user's own files and addresses may change as they like, and nothing is written beside them."""
    own = tmp_path / "my.pth"
    own.write_bytes(FIRST)
    for wanted in (str(own), f"{mirror.url}{FILE}"):
        weights.remember(weights.resolve(MODEL, wanted), QUIET)
    assert not [path for folder in (tmp_path, cache) for path in folder.glob("*.sha256")]


@pytest.mark.server
def test_from_build_to_build(
    mirror: FileServer,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A whole build writes the checksum; the next one, offered others, fails with the code and builds nothing,
    by MODEL=auto too, which does not take the bundled model instead.
    """
    monkeypatch.setattr(parity, "CLIPS", 2)
    buffer = io.BytesIO()
    torch.save({"model_state": MODEL.build(MODEL.spec, 400).state_dict()}, buffer)
    mirror.files[FILE] = buffer.getvalue()
    store = tmp_path / "store"
    built = build.build(Order(runtime="torchscript", model="slowfast_r50", crop_pixels=32, store=store), QUIET)
    digest = sha256(buffer.getvalue())
    assert built.manifest.weights == f"sha256:{digest}"
    assert checksum.file_of(cache / FILE).read_text() == f"{digest}  {FILE}\n"
    before = built.path.read_bytes()

    (cache / FILE).unlink()
    mirror.files[FILE] = OTHER
    for arguments in (["--model", "slowfast_r50"], []):
        assert cli.main([*arguments, "--store", str(store)]) == 1
        printed = capsys.readouterr().err
        assert "(WEIGHTS_CHANGED)" in printed
        assert digest in printed
    assert built.path.read_bytes() == before
    assert not (store / "motion.mar").exists()
