"""Promise: however a file is broken, the answer is a result or an error that says so, and in time."""

from collections.abc import Iterator

import pytest
from actionrec.sampling import FIRST_WINDOW
from actionrec.sandbox import Sandbox

from tests.fuzz.blind import LIMITS, REGRESSIONS, SPEC, broken, outcome
from tests.fuzz.seeds import KINDS, valid

SEED = 1000
COUNT = 300


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """Real children."""
    with Sandbox(SPEC, LIMITS, 1) as running:
        yield running


@pytest.mark.parametrize("kind", KINDS, ids="/".join)
def test_the_files_were_good_before(kind: tuple[str, str], sandbox: Sandbox) -> None:
    """What is broken here is a video that is classified as long as it is whole."""
    clip = next(sandbox.windows(valid(*kind), SPEC, FIRST_WINDOW, LIMITS))
    assert clip.source_frames >= 30
    assert (clip.frames.min(), clip.frames.max()) != (0, 0)


def test_broken_files(sandbox: Sandbox) -> None:
    """Hundreds of broken files: each has its result or its 4xx, and the process that asks lives."""
    found = [outcome(sandbox, SEED, number) for number in range(COUNT)]
    assert "200" in found
    assert len(set(found)) > 4, "they are all broken alike"


@pytest.mark.parametrize(("seed", "number"), REGRESSIONS)
def test_what_was_found_once(seed: int, number: int, sandbox: Sandbox) -> None:
    """Files that did harm once do none any more."""
    assert outcome(sandbox, seed, number)


def test_the_same_number_is_the_same_file() -> None:
    """A failure can be told by two numbers."""
    assert broken(3, 7) == broken(3, 7)
    assert broken(3, 7).data != broken(3, 8).data
