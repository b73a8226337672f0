"""One attacker, who sends files that are slow to decode, without a pause and none twice; eight honest clients
beside it.

Each kind of attack takes turns with quiet, so that both are measured on the same machine at the same time of
day.
"""

from __future__ import annotations

import itertools
import random
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import requests

from testing.media import encode, textured_frames

from .harness import Answer, Clip, Verdict, after, as_client, clips, closed_loop, percentile, send, serving

RATE_SHARE = 0.7
"""Of the honest clients' rate, that is left to them..."""
RATE_SHARE_BESIDE_LARGE = 0.5
"""... and beside bodies of 19 MB. Where these are refused at once ("large bodies"), taking them in leaves 0.68
to 0.8 of two cores."""
P99_FACTOR = 3.0
"""Of their p99 in quiet..."""
P99_FACTOR_BESIDE_FORMS = 5.0
"""... and beside large forms that come without a front: TorchServe takes one apart in 0.6 s, during which it
serves none of the connections that share its thread."""
_HONEST = 8
_ROUNDS = 3
"""Of quiet and of each attack, one after the other."""

Attack = tuple[bytes, Mapping[str, str]]
"""A file and the options that go with it."""


def _crc(data: bytes) -> int:
    """CRC-32 as MPEG-2 has it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1) & 0xFFFFFFFF
    return crc


@cache
def many_programs(tables: int = 205, programs: int = 40) -> bytes:
    """An MPEG-TS whose clip comes after tables of thousands of programs: 10 s of opening, in 54 KB."""
    packets = []
    for table in range(tables):
        entries = b"".join(
            struct.pack(
                ">HH",
                1 + (table * programs + number) % 65_535,
                0xE000 | 32 + (table * programs + number) % 8_000,
            )
            for number in range(programs)
        )
        head = struct.pack(">BHHBBB", 0, 0xB000 | len(entries) + 9, 1, 0xC1 | (table % 32) << 1, 0, 0)
        section = head + entries
        section += struct.pack(">I", _crc(section))
        packets.append(
            (struct.pack(">BHB", 0x47, 0x4000, 0x10 | table % 16) + b"\0" + section).ljust(188, b"\xff")
        )
    return b"".join(packets) + encode(textured_frames(160, 120, 64), container="mpegts")


@cache
def many_frames(count: int = 100_000) -> bytes:
    """A GIF of so many frames of one pixel, a hundredth of a second each."""
    frame = (
        b"\x21\xf9\x04\x00\x01\x00\x00\x00"
        + b"\x2c"
        + struct.pack("<HHHHB", 0, 0, 1, 1, 0)
        + b"\x02\x02\x44\x01\x00"
    )
    screen = struct.pack("<HHBBB", 320, 240, 0x80, 0, 0) + bytes([0, 0, 0, 255, 255, 255])
    return b"GIF89a" + screen + frame * count + b"\x3b"


@cache
def empty_tags(count: int = 1_000_000) -> bytes:
    """An FLV of so many tags with nothing in them."""
    tag = struct.pack(">BBHI", 9, 0, 0, 0) + b"\0\0\0" + struct.pack(">I", 11)
    return b"FLV\x01\x01\x00\x00\x00\x09\x00\x00\x00\x00" + tag * count


@cache
def large(width: int = 3840, height: int = 2160) -> bytes:
    """An honest clip, but of 4K, and with noise in it."""
    noise = np.random.default_rng(0).integers(0, 256, (8, height // 8, width // 8, 3), dtype=np.uint8)
    frames = np.repeat(np.repeat(noise, 8, axis=1), 8, axis=2)
    return encode(np.tile(frames, (8, 1, 1, 1)), options={"preset": "ultrafast", "crf": "45"})


ATTACKS: dict[str, Callable[[], Attack]] = {
    "programs": lambda: (many_programs(), {}),
    "frames": lambda: (many_frames(), {}),
    "frames, all of them": lambda: (many_frames(), {"views": "10"}),
    "tags": lambda: (empty_tags(), {}),
    "large bodies": lambda: (bytes(19_000_000), {}),
    "4K": lambda: (large(), {}),
    "64 windows": lambda: (large(1280, 720), {"views": "64"}),
}
"""Name -> what the attacker sends."""
_LARGE = ("large bodies", "4K")
"""Those of 19 MB."""


def attackers(
    archive: Path,
    seconds: float,
    seed: int,
    names: tuple[str, ...] = tuple(ATTACKS),
    fronts: tuple[bool, ...] = (True, False),
) -> Verdict:
    """An attack of each kind beside honest clients: these keep their rate and their times.

    Args:
        archive: of the motion model.
        seconds: of quiet, and of each attack.
        seed: of the clips.
        names: of the attacks.
        fronts: whether requests come with their clients' names, as nginx gives them; each in its turn.
    """
    figures: dict[str, float | int | str] = {}
    verdict = Verdict(figures)
    with serving(archive, workers=1) as (state, _):
        url = state.predict_url()
        known = clips(url, seed)
        _load(url, known, 2.0, seed, named=False)  # Java warms up
        for name, named in itertools.product(names, fronts):
            file, options = ATTACKS[name]()
            quiet: list[Answer] = []
            attacked: list[Answer] = []
            outcomes: list[str] = []
            for turn in range(_ROUNDS):
                quiet += _load(url, known, seconds / _ROUNDS, seed + turn, named)
                with_attack = _Attacker(url, file, options, seed + turn, named)
                attacked += _load(url, known, seconds / _ROUNDS, seed + turn, named)
                outcomes += with_attack.stop()
            _judge(verdict, name, named, quiet, attacked, outcomes)
    return verdict


def _judge(
    verdict: Verdict, name: str, named: bool, quiet: list[Answer], attacked: list[Answer], outcomes: list[str]
) -> None:
    attack = f"{name}, {'named' if named else 'nameless'}"
    share = len(attacked) / len(quiet)
    before, beside = (percentile([answer.seconds for answer in answers], 99) for answers in (quiet, attacked))
    told = ", ".join(f"{outcomes.count(outcome)} x {outcome}" for outcome in sorted(set(outcomes)))
    verdict.figures |= {
        f"{attack}: honest answers, quiet": len(quiet),
        f"{attack}: of these, attacked": round(share, 2),
        f"{attack}: p99, quiet": round(before, 2),
        f"{attack}: of this, attacked": round(beside / before, 2),
        f"{attack}: the attacker was told": told,
    }
    for answers in (quiet, attacked):
        right = all(answer.status == 200 and answer.right for answer in answers)
        verdict.expect(right, f"{attack}: every honest clip has its right answer")
    least = RATE_SHARE_BESIDE_LARGE if name in _LARGE else RATE_SHARE
    most = P99_FACTOR_BESIDE_FORMS if name in _LARGE and not named else P99_FACTOR
    verdict.expect(share >= least, f"{attack}: honest clients keep {least} of their rate")
    verdict.expect(beside <= most * before, f"{attack}: their p99 is below {most} x its quiet value")


def _load(url: str, known: list[Clip], seconds: float, seed: int, named: bool) -> list[Answer]:
    """What honest clients get, each of whom asks again when it has its answer."""

    def ask(clip: Clip) -> Answer:
        return as_client(url, clip, f"client {threading.get_ident()}" if named else "")

    return closed_loop(ask, known, _HONEST, after(seconds), seed)


class _Attacker:
    """Sends a file without a pause until it is stopped; each time with other bytes at its end."""

    def __init__(self, url: str, file: bytes, options: Mapping[str, str], seed: int, named: bool) -> None:
        self._url, self._file, self._options = url, file, options
        self._name = "attacker" if named else ""
        self._tails = self._different(seed)
        self._stopped = threading.Event()
        self._outcomes: list[str] = []
        self._thread = threading.Thread(target=self._attack)
        self._thread.start()

    @staticmethod
    def _different(seed: int) -> Iterator[bytes]:
        dice = random.Random(seed)
        for number in itertools.count():
            yield dice.randbytes(8) + str(number).encode()

    def _attack(self) -> None:
        while not self._stopped.is_set():
            body = self._file + next(self._tails)
            try:
                reply = send(self._url, body, self._options, self._name)
                told = reply.json()
                self._outcomes.append(f"{reply.status_code} {told.get('error', {}).get('code', '')}".strip())
            except (requests.RequestException, ValueError) as error:
                self._outcomes.append(type(error).__name__)

    def stop(self) -> list[str]:
        """What the attacker was told, each time."""
        self._stopped.set()
        self._thread.join()
        return self._outcomes
