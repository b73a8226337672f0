"""Promise: every decoder and every demuxer that is let in is fuzzed, from a file that was good before."""

from __future__ import annotations

import av
import pytest
from actionrec.spec import ClipSpec
from actionrec.video import container
from actionrec.video.decode import decode

from tests.fuzz import seeds
from tests.fuzz.seeds import COMMITTED, committed, without_seed

SPEC = ClipSpec(short_side=64, crop=64)


def test_whatever_is_let_in_has_a_seed() -> None:
    """A name in CODECS or CONTAINERS without a file to start from fails here."""
    assert without_seed() == []
    assert av.codecs_available >= container.CODECS, "a name that this FFmpeg does not know lets nothing in"


def test_a_name_without_a_seed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was let in once without a file, and would be again, is told by its name."""
    monkeypatch.setattr(seeds, "CODECS", container.CODECS | {"wmv3", "vc1", "msmpeg4v1"})
    monkeypatch.setattr(seeds, "CONTAINERS", container.CONTAINERS + ",nut")
    assert without_seed() == ["msmpeg4v1", "nut", "vc1", "wmv3"]


@pytest.mark.parametrize("name", committed())
def test_kept_seeds_are_good_and_small(name: str) -> None:
    """Each kept file is decoded without damage, and stands in the table that says how it was made."""
    data = committed()[name]
    assert len(data) < 30_000
    clip = decode(data, SPEC)
    assert clip.source_frames > 20
    assert "CORRUPT_FRAMES" not in [warning.code for warning in clip.warnings]
    (path,) = COMMITTED.glob(f"{name}.*")
    assert f"| `{path.name}` | `ffmpeg " in (COMMITTED / "README.md").read_text(encoding="utf-8")
