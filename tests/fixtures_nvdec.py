"""A GPU that decodes, played, for videos that are quickly made."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
import torch
from actionrec.nvdec import GpuDecoder, check, decoder

from tests.helpers_nvdec import SIZE, SPEC, PlayedNvdec

_GENERATED = cache(check.generated)


@pytest.fixture
def small_videos(monkeypatch: pytest.MonkeyPatch) -> None:
    """Videos count as large that are quickly made."""
    monkeypatch.setattr(decoder, "LEAST_PIXELS", SIZE[0] * SIZE[1])
    monkeypatch.setattr(check, "_SIZE", (192, 128))
    monkeypatch.setattr(check, "generated", _GENERATED)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Frames are this small that threads of torch's would wait for each other most of the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def played() -> PlayedNvdec:
    return PlayedNvdec()


@pytest.fixture
def gpu(played: PlayedNvdec) -> GpuDecoder:
    """A GPU that has passed its check."""
    return GpuDecoder(SPEC, played)
