"""Promise: a video by address comes from where the settings allow it, and no trick leads anywhere else."""

from __future__ import annotations

import asyncio
import logging
import socket
from ipaddress import ip_address
from typing import Any

import pytest
from actionrec.errors import ClipError
from aiohttp import web

from actionrec_gateway.fetch import Fetcher, fetch
from actionrec_gateway.fetch import addresses as addresses_module
from actionrec_gateway.fetch import web as web_module
from actionrec_gateway.fetch.addresses import may_connect
from actionrec_gateway.settings import Settings
from tests.helpers_fetch import SECRET, VIDEO, Handler, refused, serving, video


def test_a_video_comes_whole_from_an_allowed_address() -> None:
    """What lies at an allowed address arrives byte for byte."""

    async def run() -> bytes:
        async with serving(video) as url:
            return await fetch(f"{url}/a/clip.mp4", Settings(fetch=(f"{url}/a/",), fetch_private=True))

    assert asyncio.run(run()) == VIDEO


def test_a_name_of_a_private_address_is_refused() -> None:
    """The address that a name has decides, whatever the name is."""
    refused("FETCH_REFUSED", "http://localhost/clip.mp4")
    refused("FETCH_REFUSED", "http://127.0.0.1/clip.mp4")
    refused("FETCH_REFUSED", "http://[::ffff:7f00:1]/clip.mp4")
    refused("FETCH_REFUSED", "http://169.254.169.254/latest/meta-data/", private=True)


def _names(monkeypatch: pytest.MonkeyPatch, answers: list[list[str]]) -> list[str]:
    """Have each look-up of a name give the next answer; returns a list of the names that are looked up."""
    asked: list[str] = []

    async def getaddrinfo(_self: object, host: str, port: int, **_: object) -> list[Any]:
        asked.append(host)
        found = answers[min(len(asked), len(answers)) - 1]
        kinds = {4: socket.AF_INET, 6: socket.AF_INET6}
        return [(kinds[ip_address(a).version], socket.SOCK_STREAM, 6, "", (a, port)) for a in found]

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return asked


def test_one_bad_address_among_good_ones_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with a public and a private address is refused: else chance decides which is connected to."""
    _names(monkeypatch, [["93.184.216.34", "127.0.0.1"]])
    refused("FETCH_REFUSED", "http://both.example.org/clip.mp4")


def test_a_name_that_changes_its_address_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: a name is looked up once, and what was checked is what is connected to."""
    asked = _names(monkeypatch, [["93.184.216.34"], ["127.0.0.1"]])
    connected: list[str] = []

    async def start_connection(addr_infos: list[Any], **_: object) -> socket.socket:
        connected.extend(info[4][0] for info in addr_infos)
        raise OSError("not in a test")

    monkeypatch.setattr("aiohttp.connector.aiohappyeyeballs.start_connection", start_connection)
    refused("FETCH_FAILED", "http://rebinding.example.org/clip.mp4")
    assert asked == ["rebinding.example.org"]
    assert set(connected) == {"93.184.216.34"}


def _redirects(to: str) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path == "/again":
            return web.Response(status=302, headers={"Location": "/again"})
        return web.Response(status=302, headers={"Location": to})

    return answer


def _this_host_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.1 plays a public host; all other addresses are as they are."""
    monkeypatch.setattr(
        addresses_module,
        "may_connect",
        lambda a, private: str(a) == "127.0.0.1" or may_connect(a, private=private),
    )


@pytest.mark.parametrize(
    ("to", "code"),
    [
        ("http://127.0.0.2/clip.mp4", "FETCH_REFUSED"),
        ("//127.0.0.2/clip.mp4", "FETCH_REFUSED"),
        ("http://[::1]/clip.mp4", "FETCH_REFUSED"),
        ("http://[::ffff:127.0.0.2]/", "FETCH_REFUSED"),
        ("http://169.254.169.254/latest", "FETCH_REFUSED"),
        ("http://2130706434/", "NOT_FETCHED"),
        ("file:///etc/passwd", "NOT_FETCHED"),
        ("http://user:pass@127.0.0.1/", "NOT_FETCHED"),
        ("https://127.0.0.1/", "FETCH_NOT_ALLOWED"),
        ("s3://bucket/key", "FETCH_NOT_ALLOWED"),
        ("/again", "NOT_FETCHED"),
    ],
)
def test_every_redirect_is_checked_again(monkeypatch: pytest.MonkeyPatch, to: str, code: str) -> None:
    """A redirect to a private address, another scheme, an address off the list, or for ever leads nowhere."""
    _this_host_is_public(monkeypatch)

    async def run() -> bytes:
        async with serving(_redirects(to)) as url:
            return await fetch(f"{url}/clip.mp4", Settings(fetch=("http://*/", *ports(url))))

    def ports(url: str) -> list[str]:
        return [f"http://*:{url.rpartition(':')[2]}/"]

    with pytest.raises(ClipError) as caught:
        asyncio.run(run())
    assert caught.value.code == code


def test_a_redirect_to_an_allowed_address_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store's redirect to its own servers works where those are allowed too."""
    _this_host_is_public(monkeypatch)

    async def run() -> bytes:
        async with serving(video) as target, serving(_redirects(f"{target}/x")) as url:
            return await fetch(f"{url}/clip.mp4", Settings(fetch=(f"{url}/", f"{target}/")))

    assert asyncio.run(run()) == VIDEO


async def _limited(handler: Handler, most_bytes: int, seconds: float) -> None:
    async with serving(handler) as url:
        fetcher = Fetcher(Settings(fetch=(f"{url}/",), fetch_private=True))
        await fetcher.fetch(f"{url}/clip.mp4", most_bytes, seconds)


def test_a_body_without_end_is_cut_off() -> None:
    """A reply that says no length is read to the limit and no further; one that says too much is not read."""
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        reply = web.StreamResponse()
        await reply.prepare(request)
        while True:
            await reply.write(bytes(1 << 16))
            sent += 1 << 16

    async def too_long(request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"Content-Length": "10000000000"})
        await reply.prepare(request)
        await asyncio.sleep(60)
        return reply

    for handler in (endless, too_long):
        with pytest.raises(ClipError) as caught:
            asyncio.run(_limited(handler, 1 << 20, 30))
        assert (caught.value.code, caught.value.status) == ("TOO_LARGE", 413)
    assert sent < 64 << 20


def test_a_body_that_drips_is_given_up() -> None:
    """A reply that never ends ends with its time, however often a byte of it comes."""

    async def drips(request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse()
        await reply.prepare(request)
        while True:
            await reply.write(b"x")
            await asyncio.sleep(0.05)

    with pytest.raises(ClipError) as caught:
        asyncio.run(_limited(drips, 1 << 20, 0.5))
    assert (caught.value.code, caught.value.status) == ("FETCH_TIMEOUT", 504)


def test_silence_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that takes the request and says nothing does not hold the gateway."""
    monkeypatch.setattr(web_module, "IDLE_SECONDS", 0.3)

    async def silent(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    with pytest.raises(ClipError) as caught:
        asyncio.run(_limited(silent, 1 << 20, 30))
    assert caught.value.code == "FETCH_TIMEOUT"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (404, "NOT_FETCHED"),
        (403, "NOT_FETCHED"),
        (204, "NOT_FETCHED"),
        (503, "FETCH_FAILED"),
        (429, "FETCH_FAILED"),
    ],
)
def test_a_refusal_of_the_other_end_says_whether_to_try_again(status: int, code: str) -> None:
    """What would be refused again is an error of the request, what may pass is one of the other end."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text="" if status == 204 else SECRET)

    with pytest.raises(ClipError) as caught:
        asyncio.run(_limited(answer, 1 << 20, 30))
    assert caught.value.code == code
    assert SECRET not in str(caught.value)


def test_a_compressed_body_is_not_unpacked() -> None:
    """A kilobyte that unpacks to gigabytes stays what it is: refused."""

    async def bomb(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})

    with pytest.raises(ClipError) as caught:
        asyncio.run(_limited(bomb, 1 << 20, 30))
    assert caught.value.code == "NOT_FETCHED"


def test_secrets_of_an_address_are_in_no_message_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """Passwords are refused unshown; a signed address is fetched, and its signature shown nowhere."""
    caplog.set_level(logging.DEBUG)
    error = refused("CREDENTIALS_IN_URL", f"https://user:{SECRET}@example.org/clip.mp4")
    assert SECRET not in str(error)
    assert SECRET not in str(refused("FETCH_OFF", f"https://example.org/x?sig={SECRET}", ()))

    async def run(status: int) -> bytes:
        async def answer(request: web.Request) -> web.StreamResponse:
            assert request.query["sig"] == SECRET
            return web.Response(status=status, body=VIDEO)

        async with serving(answer) as url:
            return await fetch(f"{url}/x?sig={SECRET}", Settings(fetch=(url,), fetch_private=True))

    assert asyncio.run(run(200)) == VIDEO
    with pytest.raises(ClipError) as caught:
        asyncio.run(run(500))
    assert SECRET not in str(caught.value)
    gateway = [record for record in caplog.records if record.name.startswith("actionrec")]
    assert not any(SECRET in record.getMessage() for record in gateway)


def test_the_environment_can_send_the_fetch_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy or a password file in the environment is not used."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9/")

    async def run() -> bytes:
        async with serving(video) as url:
            return await fetch(f"{url}/x", Settings(fetch=(url,), fetch_private=True))

    assert asyncio.run(run()) == VIDEO
