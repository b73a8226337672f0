"""Promise: a request gets its answer through resets, silence and full queues, and one at fault is sent once."""

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from actionrec_client import (
    ActionClient,
    BadReply,
    Busy,
    NoReply,
    Refused,
    ServerError,
    ServerFailed,
    Unreachable,
    patience,
)
from tests.helpers_misbehave import GOOD, HANG, QUEUE_FULL, RAISED, RESET, WORKER_DIED, Answer, misbehaving

FILE = b"the bytes of a file"
OK = Answer()
PROXY = Answer(502, "<html>bad gateway</html>")
REFUSED = Answer(
    422, {"error": {"code": "NO_FRAMES", "status": 422, "message": "none", "hint": "more"}, "request_id": "1"}
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of the same shape as in life, a tenth as long."""
    import tenacity

    quick = tenacity.wait_random_exponential(multiplier=patience.FIRST_WAIT_SECONDS / 10, max=1)
    monkeypatch.setattr(patience, "_JITTER", quick)


def client(url: str, timeout: float = 30, attempt: float | None = None) -> ActionClient:
    return ActionClient(url, model="m", timeout=timeout, attempt_timeout=attempt)


@pytest.mark.parametrize(
    "before",
    [
        [QUEUE_FULL, QUEUE_FULL],
        [RESET],
        [WORKER_DIED],
        [PROXY, Answer(504, ""), Answer(429, "slow down")],
        [RESET, QUEUE_FULL, RESET],
        [Answer(cut_after=20), Answer(stall_after=20)],
    ],
    ids=["queue full twice", "reset", "worker died", "proxy", "mixed", "half a reply"],
)
def test_it_tries_again(before: list[Answer]) -> None:
    """What may succeed later is sent again, whole, until it has its answer."""
    with misbehaving([*before, OK]) as server:
        assert client(server.url, attempt=2).classify(FILE, top_k=3).label == "archery"
    assert len(server.bodies) == len(before) + 1
    assert all(FILE in body and b"top_k" in body for body in server.bodies)


def test_a_form_goes_as_bytes() -> None:
    """A form with a video does not say that it is one: TorchServe would take it apart, slowly."""
    with misbehaving([OK]) as server:
        client(server.url).classify(FILE, top_k=3)
        client(server.url).classify(FILE)
    assert server.headers[0]["Content-Type"] == "application/octet-stream"
    assert server.bodies[0].startswith(b"--")
    assert server.bodies[1] == FILE


@pytest.mark.parametrize(
    ("answer", "kind", "code", "status"),
    [
        (REFUSED, Refused, "NO_FRAMES", 422),
        (Answer(404, {"code": 404, "type": "ModelNotFoundException", "message": "m"}), Refused, None, 404),
        (Answer(401, "who?"), Refused, "HTTP_401", 401),
        (RAISED, ServerFailed, "InternalServerException", 503),
        (
            Answer(507, {"code": 507, "type": "OutOfMemory", "message": "CUDA"}),
            ServerFailed,
            "OutOfMemory",
            507,
        ),
        (Answer(500, "oops"), ServerFailed, "HTTP_500", 500),
        (Answer(200, "<html>hello</html>"), BadReply, "BAD_REPLY", 200),
        (Answer(200, {"label": "archery"}), BadReply, "BAD_REPLY", 200),
        (Answer(200, [1]), BadReply, "BAD_REPLY", 200),
        (Answer(302, "", (("Location", "http://127.0.0.1:1/"),)), BadReply, None, 302),
    ],
)
def test_it_does_not_try_again(answer: Answer, kind: type[ServerError], code: str | None, status: int) -> None:
    """A refused file, a handler that raised and an answer of something else are errors at once."""
    with misbehaving([answer, OK]) as server, pytest.raises(kind) as caught:
        client(server.url).classify(FILE)
    assert len(server.bodies) == 1
    assert caught.value.status == status
    assert caught.value.code == (code or caught.value.code)


def test_an_attempt_that_is_never_answered_is_given_up_before_the_deadline() -> None:
    """A reply that never comes costs one attempt's time; the next gets the answer."""
    with misbehaving([HANG, HANG, OK]) as server:
        assert client(server.url, timeout=60, attempt=0.5).classify(FILE).label == "archery"
    assert len(server.bodies) == 3


@pytest.mark.parametrize("answer", [HANG, Answer(drip_seconds=0.2), QUEUE_FULL], ids=["hang", "drip", "full"])
def test_the_deadline_holds(answer: Answer) -> None:
    """Silence, a reply that drips in for ever, and a queue that stays full all end at the deadline."""
    with misbehaving([answer]) as server, pytest.raises((NoReply, Busy)) as caught:
        client(server.url, timeout=1.5, attempt=0.7).classify(FILE)
    assert len(server.bodies) >= 2
    assert server.times[-1] - server.times[0] < 20
    assert caught.value.code in ("DEADLINE", "ServiceUnavailableException")


def test_retry_after_is_honoured() -> None:
    """The next try comes no earlier than the server asked for, and not at all where that is too late."""
    wait = Answer(503, {"error": {"code": "DRAINING", "status": 503, "message": ""}}, (("Retry-After", "1"),))
    with misbehaving([wait, OK]) as server:
        client(server.url).classify(FILE)
    assert server.times[1] - server.times[0] >= 1
    late = Answer(503, "", (("Retry-After", "600"),))
    with misbehaving([late, OK]) as server, pytest.raises(Busy):
        client(server.url, timeout=20).classify(FILE)
    assert len(server.bodies) == 1


def test_nobody_is_there() -> None:
    """An address where nothing listens is `Unreachable`, with a hint."""
    with misbehaving([OK]) as server:
        pass
    with pytest.raises(Unreachable) as caught:
        client(server.url, timeout=0.5).classify(FILE)
    assert caught.value.code == "UNREACHABLE"
    assert "refused" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("url", ["", "ftp://x", "http://", "http://h:port", "http://h:99999", "http://h/?a=1"])
def test_a_bad_address(url: str) -> None:
    """What is no address is refused before anything is sent."""
    with pytest.raises(Refused) as caught:
        ActionClient(url)
    assert caught.value.code == "BAD_URL"


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("http://h:8080", "http://h:8080/predictions/m"),
        ("h:8080/", "http://h:8080/predictions/m"),
        ("https://h/api/predictions/other", "https://h/api/predictions/m"),
        ("http://[::1]:8080", "http://[::1]:8080/predictions/m"),
    ],
)
def test_addresses(url: str, where: str) -> None:
    """With and without a model, a path before it, or a scheme."""
    assert ActionClient(url, model="m").url == where


def test_the_model_of_the_address() -> None:
    """An address that names a model needs no question to the server."""
    assert ActionClient("http://127.0.0.1:1/predictions/motion").model == "motion"


def test_the_token_is_sent() -> None:
    """Every request carries the token; none is sent where none is given."""
    with misbehaving([OK]) as server:
        ActionClient(server.url, model="m", token="secret").classify(FILE)
        ActionClient(server.url, model="m").classify(FILE)
    assert [headers.get("Authorization") for headers in server.headers] == ["Bearer secret", None]


def test_errors_travel() -> None:
    """An error goes through pickle, so through process pools, and is the same as a dict of the server's."""
    error = Refused("NO_FRAMES", 422, "none", "more")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is Refused
    assert again.to_dict() == {"code": "NO_FRAMES", "status": 422, "message": "none", "hint": "more"}
    assert str(again) == "NO_FRAMES (422): none more"


def test_many_are_lazy_and_bounded(tmp_path: Path) -> None:
    """No more requests at a time, and no more files read ahead, than asked for; each item comes back once."""
    taken = 0

    def files() -> Iterator[Path]:
        nonlocal taken
        for number in range(12):
            taken += 1
            path = tmp_path / f"{number}.mp4"
            path.write_bytes(FILE)
            yield path

    with misbehaving([REFUSED, OK], seconds_each=0.05) as server:
        seen: dict[Path, object] = {}
        for count, (path, answer) in enumerate(client(server.url).classify_many(files(), in_flight=3)):
            assert taken <= count + 1 + 3
            assert path not in seen
            seen[path] = answer
        assert server.most_at_once == 3
    assert len(seen) == 12
    assert sum(isinstance(answer, ServerError) for answer in seen.values()) == 1


def test_many_may_be_left_early() -> None:
    """An endless iterable is all right, and leaving the loop ends the work."""

    def endless() -> Iterator[bytes]:
        while True:
            yield FILE

    with misbehaving([OK]) as server:
        for number, (_, answer) in enumerate(client(server.url).classify_many(endless(), in_flight=2)):
            assert not isinstance(answer, ServerError)
            assert answer.to_dict() == GOOD
            if number == 5:
                break
    assert len(server.bodies) <= 9


def test_files_that_cannot_be_sent(tmp_path: Path) -> None:
    """A missing file, an empty one and one beyond the limit are refused here, with a code each."""
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "large.mp4").write_bytes(FILE)
    with (tmp_path / "large.mp4").open("r+b") as large:
        large.truncate(200_000_000)  # sparse: it takes no space
    with misbehaving([OK]) as server:
        for name, code in (("none", "UNREADABLE_FILE"), ("empty", "EMPTY_BODY"), ("large", "TOO_LARGE")):
            with pytest.raises(Refused) as caught:
                client(server.url).classify(tmp_path / f"{name}.mp4")
            assert caught.value.code == code
    assert not server.bodies


def test_the_client_needs_no_torch() -> None:
    """Nothing of the client imports torch, TorchServe or what builds archives."""
    code = (
        "import sys, pkgutil, importlib, actionrec_client\n"
        "for m in pkgutil.walk_packages(actionrec_client.__path__, 'actionrec_client.'):\n"
        "    if not m.name.endswith('__main__'): importlib.import_module(m.name)\n"
        "assert 'actionrec_client.commands.stream' in sys.modules\n"
        "print([m for m in ('torch', 'torchvision', 'ts', 'pytorchvideo', 'export') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"
