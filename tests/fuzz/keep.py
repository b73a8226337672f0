"""An input that is worth keeping in git: as small as it can be made, with its outcome, in tests/seeds/found."""

from __future__ import annotations

import json
from pathlib import Path

from actionrec.sandbox import Sandbox

from .apart import observe_apart
from .case import Case
from .loop import through
from .seeds import COMMITTED, found
from .shrink import shrink

OUTCOMES = COMMITTED / "found" / "outcomes.json"
_SECONDS = 20.0


def keep(given: bytes, name: str, showing: str, sandbox: Sandbox) -> Path:
    """Shrink an input and put it where `tests/test_fuzz.py` tries it.

    Args:
        given: the input.
        name: what it shows, as ``mp4-stsc-outside-trak``.
        showing: a part of the messages of FFmpeg that it must still cause.
        sandbox: tells the outcome.

    Raises:
        ValueError: it does not cause such a message.
    """
    was = observe_apart(given)

    def keeps(smaller: bytes) -> bool:
        now = observe_apart(smaller)
        same = all(
            getattr(now, field) == getattr(was, field)
            for field in ("outcome", "finding", "demuxer", "codec", "warnings")
        )
        return same and any(showing in shape for shape in now.shapes)

    if showing and not keeps(given):
        raise ValueError(f"no message has {showing!r}; there are: {', '.join(sorted(was.shapes)) or 'none'}")
    small = shrink(given, keeps, _SECONDS) if showing else given
    path = OUTCOMES.with_name(f"{name}.bin")
    path.write_bytes(small)
    write_outcomes(sandbox)
    return path


def write_outcomes(sandbox: Sandbox) -> None:
    """Write down what becomes of each input that is kept, where a change of it is meant."""
    outcomes = {name: through(sandbox, Case.parse(given)) for name, given in found().items()}
    OUTCOMES.write_text(json.dumps(outcomes, indent=1) + "\n", encoding="utf-8")
