"""Promise: weights are fetched whole or not at all, and are those that were asked for."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

import pytest

from export import download, weights, zoo
from export.errors import WeightsError, WeightsUnavailableError
from export.weights import resolve
from tests.helpers_http import FileServer
from tests.helpers_weights import CONTENT, FILE, MODEL

pytest_plugins = ("tests.fixtures_weights",)
pytestmark = pytest.mark.usefixtures("cache")


CHUNK = download.CHUNK_BYTES
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def test_download_lands_in_the_cache_of_torch_hub(mirror: FileServer, cache: Path) -> None:
    """Published weights are fetched once, under the name that torch.hub gives them, with their checksum."""
    found = resolve(MODEL)
    assert found.path == cache / FILE
    assert found.path.read_bytes() == CONTENT
    assert found.sha256 == SHA256
    assert resolve(MODEL, sha256=SHA256) == found
    assert len(mirror.requested_ranges) == 1
    assert [path.name for path in cache.iterdir()] == [FILE]


def test_cut_connection_is_resumed(mirror: FileServer) -> None:
    """A download that breaks off goes on from where it was, and is whole in the end."""
    mirror.cut_after_bytes, mirror.cuts = 5 * CHUNK, 2
    assert resolve(MODEL, sha256=SHA256).path.read_bytes() == CONTENT
    assert mirror.requested_ranges == ["", f"bytes={5 * CHUNK}-", f"bytes={10 * CHUNK}-"]


def test_next_run_goes_on_where_the_last_one_gave_up(mirror: FileServer, cache: Path) -> None:
    """A download that breaks off too often says how far it came, and the next run continues it."""
    mirror.cut_after_bytes, mirror.cuts = CHUNK + 100, download.ATTEMPTS
    come = download.ATTEMPTS * CHUNK  # a chunk is kept whole or not at all
    with pytest.raises(
        WeightsUnavailableError, match=f"broke off {download.ATTEMPTS} times, at {come:,} bytes"
    ):
        resolve(MODEL)
    assert not (cache / FILE).exists()
    assert resolve(MODEL).path.read_bytes() == CONTENT
    assert mirror.requested_ranges[-1] == f"bytes={come}-"


def test_part_of_another_file_is_not_continued(mirror: FileServer, cache: Path) -> None:
    """Bytes of a file that the server has replaced since are thrown away, not mixed with the new one's."""
    mirror.cut_after_bytes, mirror.cuts = 100_000, download.ATTEMPTS
    with pytest.raises(WeightsUnavailableError):
        resolve(MODEL)
    mirror.files[FILE] = CONTENT[::-1]
    assert resolve(MODEL).path.read_bytes() == CONTENT[::-1]
    assert (cache / FILE).stat().st_size == len(CONTENT)


def test_server_without_ranges_starts_again(mirror: FileServer) -> None:
    """Where the server cannot resume, the file is fetched from its beginning and is right all the same."""
    mirror.ranges, mirror.cut_after_bytes, mirror.cuts = False, 300_000, 1
    assert resolve(MODEL).path.read_bytes() == CONTENT


def test_part_that_was_whole_already_is_taken(mirror: FileServer, cache: Path) -> None:
    """A run that ended between the last byte and the rename costs no second download."""
    cache.mkdir(parents=True)
    (cache / f"{FILE}.part").write_bytes(CONTENT)
    (cache / f"{FILE}.part.tag").write_text(f'"{hashlib.md5(CONTENT).hexdigest()}"')
    assert resolve(MODEL, sha256=SHA256).path.read_bytes() == CONTENT
    assert mirror.requested_ranges == [f"bytes={len(CONTENT)}-"]


def test_busy_server_is_asked_again(mirror: FileServer) -> None:
    """A 503 is a reason to wait, not to give up."""
    mirror.failures = 2
    assert resolve(MODEL).path.read_bytes() == CONTENT


def test_wrong_checksum_leaves_nothing_in_the_cache(mirror: FileServer, cache: Path) -> None:
    """A download with another checksum is an error with both sums, and the file is gone."""
    with pytest.raises(WeightsError, match=f"has sha256 {SHA256}, but WEIGHTS_SHA256 is {'0' * 64}"):
        resolve(MODEL, sha256="0" * 64)
    assert mirror.requested_ranges == [""]
    assert list(cache.iterdir()) == []


def test_wrong_checksum_of_a_file_at_hand(tmp_path: Path) -> None:
    """A user's own file with another checksum is an error, and the file stays."""
    path = tmp_path / "my.pth"
    path.write_bytes(CONTENT)
    with pytest.raises(WeightsError, match=SHA256):
        resolve(MODEL, str(path), "0" * 64)
    assert path.exists()


@pytest.mark.parametrize("text", ["abc", "g" * 64, "sha256:"])
def test_checksum_that_is_none_is_refused(text: str) -> None:
    """What is no SHA-256 is said to be none, and not compared."""
    with pytest.raises(WeightsError, match="is not a SHA-256"):
        weights.parse_sha256(text)


def test_checksum_as_people_write_it() -> None:
    """Upper case and a leading ``sha256:`` are fine."""
    assert weights.parse_sha256(f" sha256:{SHA256.upper()} ") == SHA256


def test_missing_file_on_the_server(mirror: FileServer, cache: Path) -> None:
    """404 is an error at once, with the address and what to do instead; nothing is left behind."""
    mirror.files.clear()
    with pytest.raises(WeightsUnavailableError, match=f"{mirror.url}{FILE} answers 404") as caught:
        resolve(MODEL)
    assert "MODEL=motion" in caught.value.hint
    assert len(mirror.requested_ranges) == 1
    assert list(cache.iterdir()) == []


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network the error says so, and names a file, a URL, a mirror and MODEL=motion as ways on."""
    monkeypatch.setenv(zoo.ZOO_URL_VARIABLE, closed_url())
    with pytest.raises(WeightsUnavailableError, match="Connection refused") as caught:
        resolve(MODEL)
    for way in ("WEIGHTS=file", "WEIGHTS=https://", "PYTORCHVIDEO_ZOO_URL", "MODEL=motion"):
        assert way in caught.value.hint
    assert "Connection refused" in str(weights.why_unavailable(MODEL))


def test_silent_server_does_not_hold_up_auto() -> None:
    """A server that accepts and says nothing counts as unreachable after the time that was given."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        reason = str(download.why_unreachable(url, 0.3))
    assert "does not answer" in reason or "timed out" in reason


def test_two_urls_of_one_file_name_do_not_meet(mirror: FileServer) -> None:
    """WEIGHTS=URL: files of different addresses that end alike are kept apart."""
    mirror.files |= {"a/model.pth": b"a", "b/model.pth": b"b"}
    found = [resolve(MODEL, f"{mirror.url}{folder}/model.pth") for folder in "ab"]
    assert [one.path.read_bytes() for one in found] == [b"a", b"b"]


def test_unwritable_cache(mirror: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder that cannot be made is one clear error that names TORCH_HOME."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match="cannot write") as caught:
        resolve(MODEL)
    assert "TORCH_HOME" in caught.value.hint
    assert mirror.requested_ranges == []


def test_path_that_does_not_exist() -> None:
    """WEIGHTS=typo.pth is an error that repeats the path."""
    with pytest.raises(WeightsError, match=r"typo\.pth do not exist"):
        resolve(MODEL, "typo.pth")


def closed_url() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"
