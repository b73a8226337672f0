"""Promise: an address that is not on the list, not public, or can be read in two ways is refused unasked."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from actionrec.errors import ClipError

from actionrec_gateway.fetch.addresses import may_connect
from actionrec_gateway.fetch.place import AllowList, Place
from tests.helpers_fetch import refused


def test_nothing_is_fetched_unless_it_is_allowed() -> None:
    """Without a list nothing is fetched; with one, only what is on it."""
    refused("FETCH_OFF", "https://example.org/clip.mp4", ())
    allowed = (
        "https://clips.example.org/a/",
        "s3://bucket/day",
        "https://*.example.com/",
        "https://exact.org/x.mp4",
    )
    for url in (
        "https://clips.example.org/b/clip.mp4",
        "https://clips.example.org/abc.mp4",
        "http://clips.example.org/a/clip.mp4",
        "https://clips.example.org:8443/a/clip.mp4",
        "https://clips.example.org.evil.org/a/clip.mp4",
        "https://evil-clips.example.org/a/clip.mp4",
        "https://example.com/clip.mp4",
        "https://evilexample.com/clip.mp4",
        "https://exact.org/x.mp4x",
        "s3://bucket/days/clip.mp4",
        "s3://bucket2/day/clip.mp4",
        "gs://bucket/day/clip.mp4",
    ):
        refused("FETCH_NOT_ALLOWED", url, allowed)
    rules = AllowList(allowed)
    for url in (
        "https://clips.example.org/a/clip.mp4?sig=1",
        "HTTPS://CLIPS.example.org.:443/a/clip.mp4",
        "https://cdn.example.com/x",
        "https://exact.org/x.mp4",
        "s3://bucket/day/clip.mp4",
    ):
        rules.check(Place.parse(url))


@pytest.mark.parametrize(
    "url",
    [
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.1/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://127.0.0.01/",
        "http://1.2.3.4.5/",
        "http://[fe80::1%25eth0]/",
        "http://[::1",
        "http://１２７.０.０.１/",
        "http://exa mple.org/",
        "http://example.org\\@127.0.0.1/",
        "http://example.org/\r\nHost: other",
        "http:///clip.mp4",
        "http://example.org:0/",
        "http://example.org:99999/",
        "http://a..b/",
        "https://example.org/a/../b",
        "https://example.org/a/%2e%2e/b",
        "https://example.org/a/%252e%252e/b",
        "https://example.org/a/..%2fb",
        "https://example.org/a%5c..%5cb",
        "s3://bucket/day/../night.mp4",
        "s3://bucket:80/x",
        "s3://bucket/x?versionId=1",
        "file:///etc/passwd",
        "ftp://example.org/x",
        "gopher://example.org/x",
        "//example.org/x",
        "clip.mp4",
        "",
        7,
        None,
        ["http://example.org"],
        "http://example.org/" + "a" * 5000,
    ],
)
def test_an_address_that_can_be_read_in_two_ways_is_refused(url: object) -> None:
    """Decimal, octal and hexadecimal hosts, steps out of a folder, and what is no address are refused."""
    with pytest.raises(ClipError) as caught:
        Place.parse(url)
    assert (caught.value.code, caught.value.status) == ("BAD_URL", 400)


PRIVATE = """127.0.0.1 127.255.255.254 10.0.0.1 172.16.0.1 192.168.1.1 100.64.0.1 ::1 fc00::1 fd12:3456::1
    ::ffff:127.0.0.1 ::ffff:10.0.0.1 64:ff9b::7f00:1 2002:7f00:1:: ::127.0.0.1 ::ffff:0:127.0.0.1
    2001:4860::5efe:10.0.0.1""".split()
NEVER = """0.0.0.0 0.1.2.3 169.254.169.254 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 :: fe80::1
    ff02::1 fec0::1 ::ffff:169.254.169.254 ::ffff:0.0.0.0 64:ff9b::a9fe:a9fe 2002:a9fe:a9fe:: 64:ff9b:1::1
    2001:0:1234::1 5f00::1 fe80::1%eth0 ff0e::1 ::ffff:224.0.0.1 2001:4860::200:5efe:169.254.169.254""".split()


def test_only_public_addresses_are_connected_to() -> None:
    """Loopback, private, link-local and multicast addresses are refused, also inside an IPv6 address."""
    assert [a for a in [*PRIVATE, *NEVER] if may_connect(ip_address(a))] == []
    public = ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
    assert [a for a in public if not may_connect(ip_address(a))] == []


def test_private_addresses_can_be_allowed_but_those_of_credentials_never() -> None:
    """With `fetch_private` private networks are open; a cloud's metadata service stays closed."""
    assert [a for a in PRIVATE if not may_connect(ip_address(a), private=True)] == []
    assert [a for a in NEVER if may_connect(ip_address(a), private=True)] == []


def test_a_wrong_entry_of_the_settings_is_told_at_the_start() -> None:
    """A gateway with an entry that means nothing does not start."""
    for entry in ("example.org", "https://user:pass@example.org/", "https://", "*", "https://example.org/?a=1"):
        with pytest.raises(ValueError, match=r"fetch|query"):
            AllowList([entry])
