"""Promise: no child decodes for two clients, and a client that comes again need not wait for a new one."""

import numpy as np
import psutil
import pytest
from actionrec.errors import ClipError
from actionrec.sampling import FIRST_WINDOW
from actionrec.sandbox import Caller, Sandbox, keeper, pool
from actionrec.video.window_reader import new_room

from testing.media import encode, textured_frames
from tests.helpers_sandbox import CLIP, LIMITS, SPEC, until

pytest_plugins = ("tests.fixtures_sandbox",)


def test_a_child_for_each_request(sandbox: Sandbox) -> None:
    """No child that has seen one request's bytes is there for another, and nothing of them stays in shared
    memory.
    """
    seen: set[int] = set()
    for _ in range(4):
        found = sandbox.windows(CLIP, SPEC, FIRST_WINDOW, LIMITS)
        next(found)
        (busy,) = sandbox._keeper.busy
        assert busy.pid not in seen
        seen.add(busy.pid)
        found.close()  # type: ignore[attr-defined]
        assert busy not in sandbox._keeper.busy
        assert busy not in sandbox._keeper.idle
    until(lambda: not any(psutil.pid_exists(pid) for pid in seen))
    until(lambda: not sandbox._keeper.dead)
    slots = [*sandbox._keeper.slots, *(child.slot for child in sandbox._keeper.idle)]
    assert slots
    assert not any(slot.frames((32, 64, 64, 3), new_room).any() for slot in slots)


def served_by(sandbox: Sandbox, client: str, data: bytes = CLIP) -> int:
    """The process id of the child that a request is given to."""
    found = sandbox.windows(data, SPEC, FIRST_WINDOW, LIMITS, Caller(client))
    next(found)
    (busy,) = sandbox._keeper.busy
    found.close()  # type: ignore[attr-defined]
    return busy.pid


def test_a_child_for_each_client(sandbox: Sandbox) -> None:
    """A client with a name has its own child again, which is never another's, nor one without a name."""
    first = served_by(sandbox, "first")
    second = served_by(sandbox, "second")
    nobody = served_by(sandbox, "")
    assert len({first, second, nobody}) == 3
    assert served_by(sandbox, "first") == first
    assert served_by(sandbox, "second") == second
    assert served_by(sandbox, "") not in (first, second, nobody)
    with pytest.raises(ClipError, match="NOT_A_VIDEO"):
        list(sandbox.windows(b"no video", SPEC, FIRST_WINDOW, LIMITS, Caller("first")))
    assert served_by(sandbox, "first") == first
    # As many are kept as are ready: whoever was away for longest begins with a fresh one.
    third = served_by(sandbox, "third")
    assert third not in (first, second)
    assert served_by(sandbox, "first") == first
    assert served_by(sandbox, "second") != second


def test_whose_child_is_not_kept(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child with much memory, or that had to step back, or without a request for long, is not kept."""
    first = served_by(sandbox, "x")
    monkeypatch.setattr(keeper, "_KEPT_BYTES", 1000)
    assert served_by(sandbox, "x") == first
    monkeypatch.undo()
    second = served_by(sandbox, "x")
    assert second != first
    monkeypatch.setattr(pool, "_SLOW_WINDOW_SECONDS", 0.0)
    large = encode(np.repeat(textured_frames(1920, 1080, 1), 64, axis=0), options={"preset": "ultrafast"})
    assert served_by(sandbox, "x", large) == second
    monkeypatch.undo()
    third = served_by(sandbox, "x")
    assert third != second
    monkeypatch.setattr(keeper, "_KEPT_SECONDS", 0.0)
    until(lambda: not sandbox._keeper.kept)
    until(lambda: not psutil.pid_exists(third))
