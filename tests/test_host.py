"""Promise: what a host has is found out, not guessed, and a wish that it cannot fulfil is refused."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

import pytest
import torch

from deploy import choices, host
from deploy.__main__ import main
from deploy.host import cores, device_ids, look, mps_runs
from deploy.preflight import DeployError
from deploy.server import Settings
from tests.helpers_gpus import Nvidia

H100 = "NVIDIA H100"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A host that nothing speaks for a GPU on, whatever this machine has."""
    for name in ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setattr(host, "_DRIVER", tmp_path / "driver")


@pytest.fixture
def nvidia(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nvidia:
    """Three GPUs."""
    found = Nvidia(tmp_path / "nvidia", [H100, H100, "NVIDIA T4"], mps=True)
    monkeypatch.setenv("PATH", f"{found.folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return found


def numbers(python: Path, wanted: tuple[int, ...] | None = None) -> list[int]:
    return [gpu.number for gpu in look(python, wanted).gpus]


def test_all_that_torch_sees(nvidia: Nvidia) -> None:
    """The GPUs are those that the server's own torch sees, with names and memory; MPS is found."""
    seen = look(nvidia.python)
    assert [gpu.name for gpu in seen.gpus] == [H100, H100, "NVIDIA T4"]
    assert [gpu.number for gpu in seen.gpus] == [0, 1, 2]
    assert seen.gpus[0].gib == pytest.approx(79.6, abs=0.01)
    assert seen.mps


def test_without_a_sign_of_a_gpu_torch_is_not_asked(tmp_path: Path) -> None:
    """A host without nvidia-smi, driver and CUDA_VISIBLE_DEVICES starts without waiting for torch."""
    seen = look(tmp_path / "an interpreter that is not there")
    assert (seen.gpus, seen.mps) == ((), False)


@pytest.mark.parametrize("sign", ["driver", "variable"])
def test_without_nvidia_smi(tmp_path: Path, nvidia: Nvidia, monkeypatch: pytest.MonkeyPatch, sign: str) -> None:
    """GPUs are found without nvidia-smi too, which many containers lack."""
    (nvidia.folder / "nvidia-smi").unlink()
    if sign == "driver":
        (tmp_path / "driver").mkdir()
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    assert numbers(nvidia.python) == [0, 1, 2]


def test_the_environment_limits(nvidia: Nvidia, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA_VISIBLE_DEVICES is obeyed as CUDA obeys it, and DEVICE_IDS chooses among what it leaves."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    assert [(gpu.number, gpu.name) for gpu in look(nvidia.python).gpus] == [(2, "NVIDIA T4"), (0, H100)]
    assert numbers(nvidia.python, (0,)) == [0]
    with pytest.raises(DeployError, match=r"no GPU 1 \(this host has: 2 NVIDIA T4, 0 NVIDIA H100\)"):
        look(nvidia.python, (1,))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,7,0")
    assert numbers(nvidia.python) == [1], "CUDA ignores a GPU that is not there, and all after it"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8f6d,MIG-12")
    with pytest.raises(
        DeployError, match=r"CUDA_VISIBLE_DEVICES=GPU-8f6d,MIG-12: .*numbers only; set it to numbers"
    ):
        look(nvidia.python)


def test_chosen_gpus(nvidia: Nvidia) -> None:
    """DEVICE_IDS=2,0 gives these GPUs in this order: ``cuda:0`` is the first of them."""
    assert [gpu.name for gpu in look(nvidia.python, (2, 0)).gpus] == ["NVIDIA T4", H100]


def test_a_gpu_that_is_not_there(nvidia: Nvidia) -> None:
    """A wrong number is refused with what was received, what there is, and what to do."""
    with pytest.raises(DeployError) as refused:
        look(nvidia.python, (0, 3))
    assert str(refused.value) == (
        "DEVICE_IDS=0,3: there is no GPU 3 (this host has: 0 NVIDIA H100, 1 NVIDIA H100, 2 NVIDIA T4); "
        "name some of those"
    )


def test_where_torch_sees_none(nvidia: Nvidia, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver without a torch for it is no GPU: the CPU serves, and a wish for a GPU is refused."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    seen = look(nvidia.python)
    assert (seen.gpus, seen.mps) == ((), False)
    with pytest.raises(
        DeployError, match=r"DEVICE_IDS=0: .*\(torch 2\.14\.1 sees none\); leave DEVICE_IDS out"
    ):
        look(nvidia.python, (0,))


def test_this_torch_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The question is one that the installed torch answers, not only a played one."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert look(Path(sys.executable)).gpus == ()
    with pytest.raises(DeployError, match=re.escape(f"torch {torch.__version__} sees none")):
        look(Path(sys.executable), (0,))


def test_an_interpreter_without_torch(nvidia: Nvidia) -> None:
    """Where torch cannot be asked, the line has its last words and a command to try."""
    nvidia.python.write_text("#!/bin/sh\necho 'ImportError: libcudnn.so.9' >&2\nexit 1\n")
    with pytest.raises(
        DeployError, match=r"torch does not say .*: ImportError: libcudnn\.so\.9; try it: .*python -c"
    ):
        look(nvidia.python)


@pytest.mark.parametrize("text", ["0;2", "0,,2", "x", "-1", "0,0", " ", "0x1", "٣", "GPU-8f6d"])
def test_no_list_of_gpus(text: str) -> None:
    """DEVICE_IDS that are no numbers, or name a GPU twice, are refused with an example of what is right."""
    with pytest.raises(DeployError) as refused:
        device_ids(text)
    assert str(refused.value).startswith(f"DEVICE_IDS={text} is no list of GPUs; ")
    assert str(refused.value).endswith("DEVICE_IDS=0,2")


def test_lists_of_gpus() -> None:
    """Numbers with commas between them, and blanks, are GPUs."""
    assert device_ids("0") == (0,)
    assert device_ids("7, 0") == (7, 0)


@pytest.mark.parametrize(
    ("quota", "count"),
    [("max 100000", 8), ("150000 100000", 2), ("50000 100000", 1), ("9900000 100000", 8), ("", 8)],
)
def test_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, count: int) -> None:
    """A container's share of the CPUs counts, not those of the machine."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(host, "_QUOTA", tmp_path / "cpu.max")
    assert cores() == 8
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert cores() == count


@pytest.mark.parametrize("there", [True, False])
def test_mps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    """MPS is used where it runs. It is asked, and never started."""
    assert not mps_runs()
    nvidia = Nvidia(tmp_path / "nvidia", mps=there)
    monkeypatch.setenv("PATH", f"{nvidia.folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    assert mps_runs() == there
    assert not (nvidia.folder / "asked").exists()


@pytest.mark.usefixtures("nvidia")
def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong values end the command with one line, or argparse's, and start nothing."""
    start = ["start", "--run-dir", str(tmp_path / "run"), "--log-dir", str(tmp_path / "logs")]
    assert main([*start, "--device-ids", "0;2"]) == 1
    assert "error: DEVICE_IDS=0;2 is no list of GPUs; " in capsys.readouterr().err
    for option, wrong in (("--batch", "0"), ("--decode-threads", "x"), ("--workers", "-1")):
        with pytest.raises(SystemExit):
            main([*start, f"{option}={wrong}"])
        assert f"argument {option}: '{wrong}' is no whole number from" in capsys.readouterr().err


def test_the_supervisor_chooses_the_same() -> None:
    """What a server was started with is what its supervisor starts it with again."""
    parser = argparse.ArgumentParser()
    choices.add(parser)
    for settings in (Settings(), Settings(workers=0, batch=16, decode_threads=3, device_ids=(2, 0))):
        again = choices.chosen(parser.parse_args(choices.as_arguments(settings)))
        assert again == {name: getattr(settings, name) for name in again}
