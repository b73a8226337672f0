"""Promise: a model is ready when it predicts; a busy one stays so, one that is wrong or silent is not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from actionrec_gateway import watch
from actionrec_gateway.engine import Answer
from actionrec_gateway.watch import Watch


def saying(label: str, status: int = 200) -> Answer:
    body = {"predictions": [{"label": label, "class_index": 0, "score": 0.9}]}
    return Answer(status, json.dumps(body).encode())


class Model:
    """A model whose answers a test decides, and which counts how often it is asked."""

    def __init__(self, answer: Answer) -> None:
        self.answer: Answer | None = answer
        self.asked = 0
        self.free = asyncio.Event()
        self.free.set()

    async def __call__(
        self, model: str, video: bytes, options: dict[str, object], *, request_id: str
    ) -> Answer:
        assert model
        assert (options, request_id) == ({}, "probe")
        assert video[4:8] == b"ftyp"
        self.asked += 1
        await self.free.wait()
        assert self.answer is not None
        return self.answer


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("_ASKER", 0.2), ("_PROBE", 0.6), ("_REMEMBERED", 0.3), ("_FORGIVEN", 0.1)):
        monkeypatch.setattr(watch, f"{name}_SECONDS", seconds)


@pytest.mark.parametrize(
    ("model", "answer", "ready"),
    [
        ("motion", saying("moving right"), True),
        ("motion", saying("moving left"), False),
        ("other", saying("moving left"), True),
        ("other", saying("moving left", 503), False),
        ("other", Answer(200, b'{"predictions": []}'), False),
        ("other", Answer(200, b"no JSON"), False),
        ("other", Answer(200, b'{"predictions": [{"label": "x", "score": NaN}]}'), False),
    ],
)
def test_answers(model: str, answer: Answer, ready: bool) -> None:
    """Only a prediction counts, and of the bundled model only the right one."""

    async def test() -> None:
        assert await Watch(Model(answer)).predicts(model) is ready

    run(test)


def test_one_clip_for_many() -> None:
    """A hundred that ask at once, and again at once, cost one clip."""

    async def test() -> None:
        counted = Model(saying("x"))

        async def predict(model: str, video: bytes, options: dict[str, object], *, request_id: str) -> Answer:
            found = await counted(model, video, options, request_id=request_id)
            asked.answered(model)  # as `TorchServe.forward` says of each answer
            return found

        asked = Watch(predict)
        for _ in range(2):
            assert all(await asyncio.gather(*(asked.predicts("m") for _ in range(100))))
        assert counted.asked == 1

    run(test)


def test_answers_to_others_are_enough() -> None:
    """A model that has just answered somebody is not asked."""

    async def test() -> None:
        model = Model(saying("x"))
        asked = Watch(model)
        asked.answered("m")
        assert await asked.predicts("m")
        assert model.asked == 0

    run(test)


def test_a_busy_model_stays_ready() -> None:
    """While its answer is on its way, what was found last holds; for ever it does not."""

    async def test() -> None:
        model = Model(saying("x"))
        asked = Watch(model)
        asked.answered("m")
        await asyncio.sleep(0.4)
        model.free.clear()
        assert await asked.predicts("m")  # no answer yet
        await asyncio.sleep(0.6)
        assert not await asked.predicts("m")  # and then none at all
        await asked.close()

    run(test)


def test_a_busy_model_that_answers_others() -> None:
    """Where the clip waits for too long behind others that are answered, the model is ready."""

    async def test() -> None:
        model = Model(saying("x"))
        model.free.clear()
        asked = Watch(model)
        assert not await asked.predicts("m")  # never heard of
        asked.answered("m")
        await asyncio.sleep(0.7)
        assert await asked.predicts("m")
        await asked.close()

    run(test)


def test_it_comes_back() -> None:
    """A model that was wrong is asked again soon."""

    async def test() -> None:
        model = Model(saying("moving left"))
        asked = Watch(model)
        assert not await asked.predicts("motion")
        model.answer = saying("moving right")
        assert not await asked.predicts("motion")  # not at once
        await asyncio.sleep(0.2)
        assert await asked.predicts("motion")

    run(test)
