"""Exports away from all published weights, and the small network that most of them are of."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

from export import artifacts, calibrate, parity, zoo
from export.samples import sample_clips
from motion.scene import LABELS

CLOSED_URL = "http://127.0.0.1:9/"
"""The discard port, where nobody listens."""
TARGET = artifacts.Target("torchscript", "fp32", "cpu")
QUIET = Console(quiet=True)


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights at hand, and no server that has them."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv(zoo.ZOO_URL_VARIABLE, CLOSED_URL)


@pytest.fixture(scope="module")
def motion_net() -> nn.Module:
    """The eager `motion` with calibrated random weights."""
    model = zoo.get("motion")
    net = model.build(model.spec, len(LABELS))
    calibrate.randomise(net, 0)
    calibrate.calibrate(net, model, sample_clips(model.spec, calibrate.CLIPS, 0))
    return net


@pytest.fixture(scope="module")
def clips() -> torch.Tensor:
    """The parity check's clips for `motion`."""
    return sample_clips(zoo.get("motion").spec, parity.CLIPS, parity.SEED)
