"""Promise: weights of any kind load, or an error says what is wrong with them; none of them runs code."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from export import weights, zoo
from export.errors import WeightsError
from export.weights import load_into, load_state

MODEL = zoo.get("slowfast_r50")


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
    """A file that ends early, anywhere, is an error with its size, in torch's new format and in its old one."""
    buffer = io.BytesIO()
    torch.save(Tiny().state_dict(), buffer, _use_new_zipfile_serialization=not legacy)
    path = tmp_path / "my.pth"
    for end in range(0, len(buffer.getvalue()), 7):
        path.write_bytes(buffer.getvalue()[:end])
        # Half the name of a function is another function's name.
        with pytest.raises(WeightsError, match=rf": {end:,} bytes|would run code"):
            load_state(path)


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
