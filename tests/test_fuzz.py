"""Promise: however a file is broken, the answer is a result or an error that says so, and in time."""

import importlib.util
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
from actionrec.sampling import FIRST_WINDOW
from actionrec.sandbox import Sandbox
from rich.console import Console

from tests.fuzz import case, mutations
from tests.fuzz.apart import limit_time, observe_apart
from tests.fuzz.blind import LIMITS, REGRESSIONS, SPEC, broken, outcome
from tests.fuzz.case import SELECTIONS, Case
from tests.fuzz.feedback import Behaviour
from tests.fuzz.keep import OUTCOMES
from tests.fuzz.layout import format_of, split
from tests.fuzz.loop import Loop, through
from tests.fuzz.pieces import Piece, crc32, dump
from tests.fuzz.seeds import COMMITTED, KINDS, found, seeds, valid
from tests.fuzz.shrink import shrink
from tests.fuzz.store import Store

SEED = 1000
COUNT = 300
EXPECTED: dict[str, str] = json.loads(OUTCOMES.read_text(encoding="utf-8"))


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
    answers = [outcome(sandbox, SEED, number) for number in range(COUNT)]
    assert "200" in answers
    assert len(set(answers)) > 4, "they are all broken alike"


@pytest.mark.parametrize(("seed", "number"), REGRESSIONS)
def test_what_was_found_once(seed: int, number: int, sandbox: Sandbox) -> None:
    """Files that did harm once do none any more."""
    assert outcome(sandbox, seed, number)


@pytest.mark.parametrize("name", sorted(found()))
def test_what_the_fuzzer_kept(name: str, sandbox: Sandbox) -> None:
    """Each input in tests/seeds/found has its outcome, and only decoders that are let in run."""
    given = found()[name]
    assert through(sandbox, Case.parse(given)) == EXPECTED[name]
    assert observe_apart(given).uninvited == frozenset()


def test_what_is_kept_is_small() -> None:
    """Seeds in git are small, and none is without its outcome."""
    sizes = [path.stat().st_size for path in COMMITTED.rglob("*") if path.is_file()]
    assert max(sizes) < 30_000
    assert sum(sizes) < 600_000
    assert set(EXPECTED) == set(found())


def test_the_same_number_is_the_same_file() -> None:
    """A failure can be told by two numbers."""
    assert broken(3, 7) == broken(3, 7)
    assert broken(3, 7).data != broken(3, 8).data


@pytest.mark.parametrize(
    ("name", "data"), list(seeds()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_file_in_pieces_is_whole_again(name: str, data: bytes, sandbox: Sandbox) -> None:
    """Taken apart and put together, with new sizes and checksums, each seed is the same video."""
    pieces = split(data)
    assert sum(1 for _ in _all(pieces)) > 3, name
    before, after = (
        next(sandbox.windows(file, case.SPEC, FIRST_WINDOW, case.LIMITS)) for file in (data, dump(pieces))
    )
    assert after.source_frames == before.source_frames
    np.testing.assert_array_equal(after.frames, before.frames)


def _all(pieces: list[Piece]) -> Iterator[Piece]:
    for piece in pieces:
        yield piece
        yield from _all(piece.children)


def test_checksums_are_those_of_the_formats() -> None:
    """The CRC of MPEG-TS's tables and Ogg's pages: the catalogue's check values."""
    assert crc32(b"123456789", 0xFFFFFFFF) == 0x0376E6E7  # CRC-32/MPEG-2
    assert crc32(b"123456789", 0) == 0x89A1897F  # the same without its start value


def test_mutations() -> None:
    """They depend on their number alone, differ from each other, and keep to the largest size."""
    files = [data for _, data in seeds()]
    made = {
        number: mutations.mutate(files[number % len(files)], files[number // 7 % len(files)], 20_000, number)
        for number in range(600)
    }
    assert mutations.mutate(files[0], files[0], 20_000, 0) == made[0]
    assert len(set(made.values())) > 500
    assert max(map(len, made.values())) <= 20_000
    kept = sum(format_of(file) == format_of(files[number % len(files)]) for number, file in made.items())
    assert kept > 500, "most of them are not what they were any more"
    assert {Case.parse(file).number for file in made.values()} == set(range(len(SELECTIONS)))


def test_a_splice_is_of_both() -> None:
    """Two files of one container give the head of one and the tail of the other."""
    files = dict(seeds())
    crossed = {mutations.splice(files["flv-libx264"], files["flv-flv"], 65_536, number) for number in range(20)}
    assert len(crossed) > 10
    assert any(files["flv-libx264"][:200] in file and files["flv-flv"][-200:] in file for file in crossed)


def test_an_input_that_is_lost() -> None:
    """A process that dies, or goes on too long, is an outcome; neither ends the fuzzer."""
    assert observe_apart(b"", work=_die) == Behaviour("crash", error="SIGSEGV")
    assert observe_apart(b"", 0.5, work=_sleep).finding == "timeout"
    assert observe_apart(b"", work=_spin).finding == "timeout"
    assert observe_apart(dict(seeds())["mp4-libx264"]).outcome == "200"


def _die(given: bytes, results: Connection) -> None:  # noqa: ARG001
    os.kill(os.getpid(), signal.SIGSEGV)


def _sleep(given: bytes, results: Connection) -> None:  # noqa: ARG001
    time.sleep(600)


def _spin(given: bytes, results: Connection) -> None:  # noqa: ARG001
    limit_time(1)
    while True:
        pass


def test_what_is_a_finding() -> None:
    """Crashes, endless ones, errors of the project's own, decoders that are not let in, much memory or time."""
    assert [Behaviour(kind).finding for kind in ("crash", "timeout", "internal", "differs")] == [
        "crash",
        "timeout",
        "internal",
        "differs",
    ]
    assert Behaviour("200", uninvited=frozenset({"aac"})).finding == "uninvited"
    assert Behaviour("200", peak_bytes=1 << 29).finding == "memory"
    assert Behaviour("422 NO_FRAMES", cpu_seconds=2.1).finding == "slow"
    assert Behaviour("200", peak_bytes=1 << 28, cpu_seconds=1.9).finding == ""


def test_shrinking() -> None:
    """Of a file stays what is needed, and a piece that stays has its right size."""
    whole = dict(seeds())["mp4-libx264"]
    needed = next(piece for piece in _all(split(whole)) if piece.head == b"avcC").body

    def keeps(given: bytes) -> bool:
        data = Case.parse(given).data
        return any(piece.head == b"avcC" and needed[:4] in piece.body for piece in _all(split(data)))

    small = shrink(Case(whole, 3).dump(), keeps, 60)
    assert keeps(small)
    assert len(small) < 300
    assert Case.parse(small).number == 0


@pytest.mark.long
def test_the_corpus_grows(tmp_path: Path) -> None:
    """The fuzzer finds inputs that do something new, keeps them, and goes on from them."""
    if importlib.util.find_spec("atheris") is None:
        if os.environ.get("CI") or (sys.platform, platform.machine()) == ("linux", "x86_64"):
            pytest.fail("scripts/setup-tests installs atheris", pytrace=False)
        pytest.skip("atheris has no wheel for this system, and would have to be built with clang")
    store = Store(tmp_path)
    tried = 0
    for inputs in (400, 800):
        loop = Loop(store, Console(quiet=True), seed=5, shrink_seconds=1)
        assert loop.state.counts.tried == tried
        loop.run(None, inputs)
        tried = store.load().counts.tried
        assert tried >= inputs
    corpus = list(store.corpus.iterdir())
    assert len(corpus) > len(list(seeds()))
    assert set(store.load().sandboxed) == {path.name for path in corpus}


def test_a_finding_is_kept(tmp_path: Path) -> None:
    """A candidate that does it again is kept, once and shrunk, with the line to repeat it; no other is."""

    def observe(given: bytes) -> Behaviour:
        return Behaviour("crash" if b"evil" in given else "200", "gif", "gif")

    store = Store(tmp_path)
    loop = Loop(store, Console(quiet=True), 0)
    for given in (b"GIF89a" + bytes(99) + b"evil" + bytes(99), b"GIF89a" + bytes(99), b"GIF89a" + b"evil" * 9):
        loop.look_at(given, observe)
    path, text = sorted(store.findings.iterdir())
    assert path.name.startswith("crash-")
    assert path.read_bytes() == b"evil"
    assert f"python -m tests.fuzz --file {path}" in text.read_text(encoding="utf-8")
    assert loop.state.findings == {"crash gif gif": path.name}
    store.save(loop.state)
    assert store.load() == loop.state
