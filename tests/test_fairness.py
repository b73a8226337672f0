"""Promise: a request that takes long costs its sender time, and others next to none."""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from actionrec import jobs
from actionrec.allowance import Allowance
from actionrec.errors import ClipError
from actionrec.gate import Gate
from actionrec.limits import Limits
from actionrec.manifest import Manifest
from actionrec.model.running import Part, Running
from actionrec.pipeline import Classifier
from actionrec.reply import Prediction
from actionrec.request import ClipRequest
from actionrec.sampling import Selection
from actionrec.spec import ClipSpec
from actionrec.video.decoded import Decoded

SPEC = ClipSpec(pathways=(1, 4), short_side=8, crop=8)
MANIFEST = Manifest("m", "1.0", SPEC, "random", (), ("a", "b"), limits=Limits())


class Model:
    """In the place of a Runtime: each view's score is the first pixel of its first frame."""

    max_batch = 1
    in_flight = 1
    head = None  # nobody asks for an embedding or an explanation
    seconds = 0.0

    def __init__(self) -> None:
        self.seen: list[int] = []

    def transform(self, frames: Sequence[Any]) -> Any:  # noqa: ANN401
        return frames

    def compute(self, clips: Sequence[Any], _: Collection[int]) -> Running:
        time.sleep(self.seconds)
        self.seen += [int(frames.flat[0]) for frames in clips]
        return Running([Part(torch.tensor([[float(frames.flat[0]), 0.0] for frames in clips]))])


class Videos:
    """In the place of decoding: a video's bytes say what it is, and a test says when a slow one is ready."""

    def __init__(self) -> None:
        self.ready: dict[bytes, threading.Event] = {}
        self.begun: list[bytes] = []

    def windows(self, data: bytes, spec: ClipSpec, selection: Selection, _: Limits) -> Iterator[Decoded]:
        """One window for each that is asked for."""
        self.begun.append(data)
        event = self.ready.get(data)
        if event is not None:
            assert event.wait(60)
        for number in range(selection.views):
            frames = np.full((spec.num_frames, spec.crop, spec.crop, 3), data[0], dtype=np.int16)
            yield Decoded(frames, 0.0, 1.0, 4, 30.0, 8, 8, window=number)

    def slow(self, data: bytes) -> threading.Event:
        """From now on these bytes take until the event is set."""
        return self.ready.setdefault(data, threading.Event())


@pytest.fixture
def videos() -> Videos:
    """Decoding that waits for a test."""
    return Videos()


@pytest.fixture
def classifier(videos: Videos, monkeypatch: pytest.MonkeyPatch) -> Iterator[Classifier]:
    """Four requests at once, on two cores, nobody with an allowance to have others wait."""
    own = Classifier(MANIFEST, Model(), 2, open_clips=4, decoder=videos.windows)  # type: ignore[arg-type]
    own.allowance = Spent()
    monkeypatch.setattr(jobs, "LATE_SECONDS", 0.05)
    yield own
    for event in videos.ready.values():
        event.set()
    own.close()


class Spent(Allowance):
    """No client has any left."""

    def left(self, client: str) -> bool:  # noqa: ARG002
        return False


def request(name: bytes, client: str = "", views: int = 1) -> ClipRequest:
    """A request for a video that is its name."""
    return ClipRequest(name, 1, Selection(views=views), client=client)


def classify(
    classifier: Classifier, requests: Sequence[ClipRequest], others_wait: Callable[[], bool] = lambda: False
) -> list[Prediction | ClipError]:
    """As a server does it, whose queue is empty unless a test says something else."""
    return classifier.classify(requests, others_wait)


def codes(answers: Sequence[Prediction | ClipError]) -> list[str]:
    """The code of each error; ``""`` for an answer."""
    return [answer.code if isinstance(answer, ClipError) else "" for answer in answers]


def test_a_late_row_does_not_hold_its_batch(classifier: Classifier, videos: Videos) -> None:
    """Three quick requests have their answers while the slow one among them is put aside."""
    slow = videos.slow(b"slow")
    answers = classify(classifier, [request(b"1"), request(b"slow"), request(b"2"), request(b"3")])
    assert codes(answers) == ["", "STILL_WORKING", "", ""]
    assert not slow.is_set()
    (answer,) = [a for a in answers if isinstance(a, ClipError)]
    assert answer.status == 503
    assert answer.hint


def test_the_same_request_goes_on_with_its_work(classifier: Classifier, videos: Videos) -> None:
    """A request that was put aside and is sent again has its answer, and its video is decoded once."""
    slow = videos.slow(b"slow")
    classify(classifier, [request(b"1"), request(b"slow")])
    slow.set()
    (answer,) = classify(classifier, [request(b"slow")])
    assert isinstance(answer, Prediction)
    assert videos.begun.count(b"slow") == 1


def test_a_program_waits_for_all(classifier: Classifier, videos: Videos) -> None:
    """Without a server, where nobody else waits for anything, no request is put aside."""
    slow = videos.slow(b"slow")
    threading.Timer(0.3, slow.set).start()
    assert codes(classifier.classify([request(b"1"), request(b"slow"), request(b"L", views=9)])) == ["", "", ""]


def test_alone_it_is_waited_for(classifier: Classifier, videos: Videos) -> None:
    """Where nobody waits a slow request is not put aside, and has its answer at the first try."""
    slow = videos.slow(b"slow")
    threading.Timer(0.3, slow.set).start()
    assert codes(classify(classifier, [request(b"slow")])) == [""]


def test_those_in_the_queue_count(classifier: Classifier, videos: Videos) -> None:
    """A slow request that is alone in its batch makes way for those that wait in the server's queue."""
    videos.slow(b"slow")
    waiting = iter([False] * 5)
    answers = classify(classifier, [request(b"slow")], lambda: next(waiting, True))
    assert codes(answers) == ["STILL_WORKING"]


def test_an_occasional_one_is_waited_for(classifier: Classifier, videos: Videos) -> None:
    """With an allowance left, others wait a moment for a large clip, and it has its answer at the first try."""
    classifier.allowance = Allowance()
    slow = videos.slow(b"slow")
    threading.Timer(0.3, slow.set).start()
    assert codes(classify(classifier, [request(b"1"), request(b"slow")])) == ["", ""]


def test_an_allowance_is_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has others wait uses up its own allowance and not another's, until time has filled it again."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    allowance = Allowance()
    allowance.spend("greedy", 0.3)
    assert not allowance.left("greedy")
    assert allowance.left("patient")
    now[0] += 60
    assert allowance.left("greedy")
    for number in range(40):
        allowance.spend(f"client {number}", 0.1)
    assert not allowance.left("patient"), "all together"


def test_many_windows_take_turns_with_others(classifier: Classifier, videos: Videos) -> None:
    """A request of 64 windows does not hold up the one beside it, is put aside, and is answered in the end."""
    classifier.runtime.seconds = 0.01  # type: ignore[attr-defined]
    long = request(b"L", views=64)
    answers = classify(classifier, [long, request(b"1")])
    assert codes(answers) == ["STILL_WORKING", ""]
    tries = 0
    while codes(answers) != [""]:
        answers = classify(classifier, [long], lambda: True)
        tries += 1
        assert tries < 100
    assert videos.begun.count(b"L") == 1
    (answer,) = answers
    assert isinstance(answer, Prediction)
    assert len(answer.windows) == 64


def test_what_was_put_aside_gets_on_among_others(classifier: Classifier) -> None:
    """While others are answered, work that was put aside has every eighth turn at the model: it does not
    starve.
    """
    model = classifier.runtime
    assert isinstance(model, Model)
    model.seconds = 0.01
    classify(classifier, [request(b"L", views=64), request(b"1")])
    model.seen.clear()
    for _ in range(10):
        classify(classifier, [request(bytes([number])) for number in range(1, 5)])
    assert model.seen.count(ord("L")) >= 4
    assert len(model.seen) - model.seen.count(ord("L")) == 40


def test_shares_by_client(classifier: Classifier) -> None:
    """Of two clients, one with three requests and one with one, each has every second turn at the model."""
    greedy = [request(name, "greedy", 8) for name in (b"x", b"y", b"z")]
    classifier.allowance = Allowance()
    classify(classifier, [*greedy, request(b"p", "patient", 8)])
    model = classifier.runtime
    assert isinstance(model, Model)
    last = max(number for number, view in enumerate(model.seen) if view == ord("p"))
    assert last <= 20


def test_put_aside_is_bounded(classifier: Classifier, videos: Videos, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many requests are put aside at most, half of them of one client, and none for long: the oldest are
    given up.
    """
    for number in range(5):
        videos.slow(f"slow {number}".encode())
        classify(classifier, [request(b"1"), request(f"slow {number}".encode())])
    assert len(classifier.aside.running()) == 4
    for number in range(5, 8):
        videos.slow(f"slow {number}".encode())
        classify(classifier, [request(b"1"), request(f"slow {number}".encode(), "greedy")])
    assert sum(job.request.client == "greedy" for job in classifier.aside.running()) == 2
    monkeypatch.setattr(jobs, "_KEPT_SECONDS", 0.0)
    assert classifier.aside.running() == []


def test_another_client_does_not_have_it(classifier: Classifier, videos: Videos) -> None:
    """The same bytes and options of another client are another request: nothing tells one of the other's."""
    slow = videos.slow(b"slow")
    classify(classifier, [request(b"1"), request(b"slow", "one")])
    slow.set()
    classify(classifier, [request(b"slow", "two")])
    assert videos.begun.count(b"slow") == 2


def test_slow_decoding_takes_no_place(classifier: Classifier, videos: Videos) -> None:
    """As many slow videos as there are decoding places keep no other from being decoded."""
    for name in (b"slow 1", b"slow 2"):
        videos.slow(name)
    answers = classify(classifier, [request(b"slow 1"), request(b"slow 2"), request(b"1"), request(b"2")])
    assert codes(answers) == ["STILL_WORKING", "STILL_WORKING", "", ""]


def test_who_has_no_allowance_left_goes_last(
    classifier: Classifier, videos: Videos, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that has had others wait for long enough is not waited for at all, before it is known to be
    slow.
    """
    monkeypatch.setattr(jobs, "LATE_SECONDS", 60.0)
    videos.slow(b"slow")
    answers = classify(classifier, [request(b"slow", "greedy"), request(b"1", "patient")])
    assert codes(answers)[0] == "STILL_WORKING"
    assert codes(classify(classifier, [request(b"2", "greedy")])) == [""], "it is served where nobody waits"


def test_known_to_be_slow_takes_no_place() -> None:
    """A step that is known to be slow goes in beside as many others as there are places."""
    gate = Gate(1)
    with gate.place("one"), gate.place("two", slow=True), gate.place("three", slow=True):
        pass


def test_the_gate() -> None:
    """So many steps are inside at once; a slow one does not count, and one client leaves a place to others."""
    gate, inside, order = Gate(2), threading.Semaphore(0), []
    go = threading.Event()

    def step(client: str, wait: Callable[[], object]) -> None:
        with gate.place(client):
            order.append(client)
            inside.release()
            wait()

    def start(client: str, wait: Callable[[], object]) -> threading.Thread:
        thread = threading.Thread(target=step, args=(client, wait))
        thread.start()
        return thread

    threads = [start("a", go.wait)]
    inside.acquire()
    threads += [start("a", go.wait), start("b", go.wait)]
    inside.acquire()
    inside.acquire()
    assert order[0] == "a"
    go.set()
    for thread in threads:
        thread.join()
    assert sorted(order) == ["a", "a", "b"]
