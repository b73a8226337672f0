"""Weights: fetched whole or not at all, the right ones or an error that says what is wrong."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from export import download, weights, zoo
from export.errors import WeightsError, WeightsUnavailableError
from export.weights import load_into, load_state, resolve
from tests.helpers_http import FileServer, download_cache, serve

MODEL = zoo.get("slowfast_r50")
CONTENT = bytes(range(256)) * 4096  # 1 MiB
CHUNK = download.CHUNK_BYTES
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FILE = MODEL.published_file


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty download folder."""
    return download_cache(tmp_path, monkeypatch)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A mirror of the published weights that has one file."""
    with serve(FileServer({FILE: CONTENT})) as state:
        monkeypatch.setenv(zoo.ZOO_URL_VARIABLE, state.url)
        yield state


def test_download_lands_in_the_cache_of_torch_hub(server: FileServer, cache: Path) -> None:
    """Published weights are fetched once, under the name that torch.hub gives them, with their checksum."""
    found = resolve(MODEL)
    assert found.path == cache / FILE
    assert found.path.read_bytes() == CONTENT
    assert found.sha256 == SHA256
    assert resolve(MODEL, sha256=SHA256) == found
    assert len(server.requested_ranges) == 1
    assert [path.name for path in cache.iterdir()] == [FILE]


def test_cut_connection_is_resumed(server: FileServer) -> None:
    """A download that breaks off goes on from where it was, and is whole in the end."""
    server.cut_after_bytes, server.cuts = 5 * CHUNK, 2
    assert resolve(MODEL, sha256=SHA256).path.read_bytes() == CONTENT
    assert server.requested_ranges == ["", f"bytes={5 * CHUNK}-", f"bytes={10 * CHUNK}-"]


def test_next_run_goes_on_where_the_last_one_gave_up(server: FileServer, cache: Path) -> None:
    """A download that breaks off too often says how far it came, and the next run continues it."""
    server.cut_after_bytes, server.cuts = CHUNK + 100, download.ATTEMPTS
    come = download.ATTEMPTS * CHUNK  # a chunk is kept whole or not at all
    with pytest.raises(
        WeightsUnavailableError, match=f"broke off {download.ATTEMPTS} times, at {come:,} bytes"
    ):
        resolve(MODEL)
    assert not (cache / FILE).exists()
    assert resolve(MODEL).path.read_bytes() == CONTENT
    assert server.requested_ranges[-1] == f"bytes={come}-"


def test_part_of_another_file_is_not_continued(server: FileServer, cache: Path) -> None:
    """Bytes of a file that the server has replaced since are thrown away, not mixed with the new one's."""
    server.cut_after_bytes, server.cuts = 100_000, download.ATTEMPTS
    with pytest.raises(WeightsUnavailableError):
        resolve(MODEL)
    server.files[FILE] = CONTENT[::-1]
    assert resolve(MODEL).path.read_bytes() == CONTENT[::-1]
    assert (cache / FILE).stat().st_size == len(CONTENT)


def test_server_without_ranges_starts_again(server: FileServer) -> None:
    """Where the server cannot resume, the file is fetched from its beginning and is right all the same."""
    server.ranges, server.cut_after_bytes, server.cuts = False, 300_000, 1
    assert resolve(MODEL).path.read_bytes() == CONTENT


def test_part_that_was_whole_already_is_taken(server: FileServer, cache: Path) -> None:
    """A run that ended between the last byte and the rename costs no second download."""
    cache.mkdir(parents=True)
    (cache / f"{FILE}.part").write_bytes(CONTENT)
    (cache / f"{FILE}.part.tag").write_text(f'"{hashlib.md5(CONTENT).hexdigest()}"')
    assert resolve(MODEL, sha256=SHA256).path.read_bytes() == CONTENT
    assert server.requested_ranges == [f"bytes={len(CONTENT)}-"]


def test_busy_server_is_asked_again(server: FileServer) -> None:
    """A 503 is a reason to wait, not to give up."""
    server.failures = 2
    assert resolve(MODEL).path.read_bytes() == CONTENT


def test_wrong_checksum_leaves_nothing_in_the_cache(server: FileServer, cache: Path) -> None:
    """A download with another checksum is an error with both sums, and the file is gone."""
    with pytest.raises(WeightsError, match=f"has sha256 {SHA256}, but WEIGHTS_SHA256 is {'0' * 64}"):
        resolve(MODEL, sha256="0" * 64)
    assert server.requested_ranges == [""]
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


def test_missing_file_on_the_server(server: FileServer, cache: Path) -> None:
    """404 is an error at once, with the address and what to do instead; nothing is left behind."""
    server.files.clear()
    with pytest.raises(WeightsUnavailableError, match=f"{server.url}{FILE} answers 404") as caught:
        resolve(MODEL)
    assert "MODEL=motion" in caught.value.hint
    assert len(server.requested_ranges) == 1
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


def test_two_urls_of_one_file_name_do_not_meet(server: FileServer) -> None:
    """WEIGHTS=URL: files of different addresses that end alike are kept apart."""
    server.files |= {"a/model.pth": b"a", "b/model.pth": b"b"}
    found = [resolve(MODEL, f"{server.url}{folder}/model.pth") for folder in "ab"]
    assert [one.path.read_bytes() for one in found] == [b"a", b"b"]


def test_unwritable_cache(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder that cannot be made is one clear error that names TORCH_HOME."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match="cannot write") as caught:
        resolve(MODEL)
    assert "TORCH_HOME" in caught.value.hint
    assert server.requested_ranges == []


def test_path_that_does_not_exist() -> None:
    """WEIGHTS=typo.pth is an error that repeats the path."""
    with pytest.raises(WeightsError, match=r"typo\.pth do not exist"):
        resolve(MODEL, "typo.pth")


class Tiny(nn.Module):
    """Two layers under the names that a SlowFast's last block has."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm3d(2)
        self.blocks = nn.ModuleDict({"6": nn.ModuleDict({"proj": nn.Linear(2, 3)})})


def saved(path: Path, value: object) -> Path:
    """A file that torch.save wrote."""
    torch.save(value, path)
    return path


@pytest.mark.parametrize("wrapper", ["", "model_state", "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module._orig_mod."])
def test_wrappers_of_training_scripts(tmp_path: Path, wrapper: str, prefix: str) -> None:
    """A state dict loads bare or wrapped, and with the prefixes of DataParallel, Lightning and compile."""
    source, target = Tiny(), Tiny()
    state = {prefix + key: value for key, value in source.state_dict().items()}
    path = saved(tmp_path / "my.pth", {wrapper: state, "epoch": 3} if wrapper else state)
    load_into(target, load_state(path), path)
    assert all(torch.equal(value, target.state_dict()[key]) for key, value in source.state_dict().items())


def test_wrong_keys_are_named_and_counted(tmp_path: Path) -> None:
    """Missing and unexpected keys are named, the first few, with their number."""
    state = Tiny().state_dict()
    del state["norm.weight"]
    state |= {f"extra.{index}": torch.zeros(1) for index in range(5)}
    path = saved(tmp_path / "my.pth", state)
    with pytest.raises(WeightsError) as caught:
        load_into(Tiny(), load_state(path), path)
    assert "missing norm.weight" in caught.value.message
    assert "unexpected extra.0, extra.1, extra.2 (5 in all)" in caught.value.message
    assert "slowfast_r101" in caught.value.hint


def test_wrong_shape_is_named_with_both_shapes(tmp_path: Path) -> None:
    """A tensor of another shape is an error with its name and both shapes."""
    state = Tiny().state_dict() | {"norm.bias": torch.zeros(7)}
    path = saved(tmp_path / "my.pth", state)
    with pytest.raises(WeightsError, match=r"norm\.bias \(7,\) instead of \(2,\)"):
        load_into(Tiny(), load_state(path), path)


def test_undefined_numbers_are_refused(tmp_path: Path) -> None:
    """A checkpoint of a training that diverged is an error, not a model that always answers the same."""
    state = Tiny().state_dict() | {"norm.bias": torch.tensor([1.0, float("nan")])}
    path = saved(tmp_path / "my.pth", state)
    with pytest.raises(WeightsError, match=r"infinite or undefined numbers in norm\.bias"):
        load_into(Tiny(), load_state(path), path)


def test_model_of_another_kind(tmp_path: Path) -> None:
    """A state dict without SlowFast's last layer is an error that shows what its keys look like."""
    path = saved(tmp_path / "my.pth", nn.Linear(2, 2).state_dict())
    with pytest.raises(
        WeightsError, match=r"has no blocks\.6\.proj\.weight; its 2 keys begin with weight, bias"
    ):
        weights.head_classes(load_state(path), path, MODEL)


@pytest.mark.parametrize("legacy", [False, True])
def test_truncated_file(tmp_path: Path, legacy: bool) -> None:
    """A file that ends early is an error with its size, in torch's new format and in its old one."""
    buffer = io.BytesIO()
    torch.save(Tiny().state_dict(), buffer, _use_new_zipfile_serialization=not legacy)
    half = buffer.getvalue()[: len(buffer.getvalue()) // 2]
    path = tmp_path / "my.pth"
    path.write_bytes(half)
    with pytest.raises(WeightsError, match=rf"truncated|not a whole.*{len(half):,} bytes") as caught:
        load_state(path)
    assert f"{len(half):,} bytes" in caught.value.message


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html><html>not found</html>", b"\x00" * 1000])
def test_file_that_is_no_weights(tmp_path: Path, content: bytes) -> None:
    """An empty file, a web page and noise are errors with size and first bytes."""
    path = tmp_path / "my.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"not a whole PyTorch weights file: {len(content):,} bytes"):
        load_state(path)


def test_other_things_that_torch_saves(tmp_path: Path) -> None:
    """A list, or a dict of numbers, is an error that says what was found instead of a state dict."""
    with pytest.raises(WeightsError, match="holds a list"):
        load_state(saved(tmp_path / "a.pth", [1, 2]))
    with pytest.raises(WeightsError, match="epoch, loss are no tensors"):
        load_state(saved(tmp_path / "b.pth", {"epoch": 1, "loss": 0.5}))


class Attack:
    """Unpickling it would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("plain", [False, True])
def test_pickles_that_run_code_are_refused(tmp_path: Path, plain: bool) -> None:
    """Code inside a checkpoint is not run, and the error says how to save weights without it."""
    victim, path = tmp_path / "victim", tmp_path / "my.pth"
    if plain:
        path.write_bytes(pickle.dumps({"model_state": Attack(victim)}, protocol=2))
    else:
        torch.save({"model_state": Attack(victim)}, path)
    with pytest.raises(WeightsError, match=r"loading it would run code \(posix\.mkdir\)") as caught:
        load_state(path)
    assert "state_dict()" in caught.value.hint
    assert not victim.exists()


def closed_url() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"
