"""Promise: what a user knows and others must not know goes to the server that it is for, and nowhere else."""

from __future__ import annotations

import pickle
import traceback
from pathlib import Path

import pytest

from actionrec_client import ActionClient, BadReply, Redirected, Refused, ServerError
from actionrec_client.bearer import hide_password, is_loopback
from tests.helpers_cli import actionrec
from tests.helpers_misbehave import GOOD, Answer, Misbehaving, misbehaving

FILE = b"the bytes of a file"
OK = Answer()
TOKEN = "0123456789abcdef" * 4
FAR = "http://clips.example:8080"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has set, none of it counts here."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of passwords for every host there is."""
    path = tmp_path / "netrc"
    path.write_text(
        "machine 127.0.0.1 login me password hunter2\n"
        "machine clips.example login me password hunter2\n"
        "default login me password hunter2\n",
        encoding="ascii",
    )
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))


def authorizations(server: Misbehaving) -> list[str | None]:
    """What each request proved itself with."""
    return [headers.get("Authorization") for headers in server.headers]


@pytest.mark.usefixtures("netrc")
@pytest.mark.parametrize("token", [None, "", TOKEN])
def test_netrc_is_not_read(token: str | None) -> None:
    """A password in .netrc is not sent, neither in the place of the token nor where there is none."""
    with misbehaving([OK]) as server:
        client = ActionClient(server.url, model="m", token=token, management_url=server.url)
        client.classify(FILE)
        client.reach()
        with pytest.raises((ServerError, KeyError)):
            client.ready()
    assert authorizations(server) == [f"Bearer {TOKEN}" if token else None] * 3


@pytest.mark.usefixtures("netrc")
def test_netrc_is_not_read_by_commands(tmp_path: Path) -> None:
    """The same of the command line, whose token comes from its variable."""
    (tmp_path / "clip.mp4").write_bytes(FILE)
    for token, wanted in ((TOKEN, f"Bearer {TOKEN}"), ("", None)):
        with misbehaving([OK]) as server:
            done = actionrec(
                "predict",
                "clip.mp4",
                "--model",
                "m",
                "--url",
                server.url,
                cwd=tmp_path,
                variables={"ACTIONREC_TOKEN": token},
            )
        assert done.returncode == 0, done.stderr
        assert set(authorizations(server)) == {wanted}


@pytest.mark.parametrize(
    "url", [FAR, "http://10.0.0.1:8080", "http://[2001:db8::1]", "http://127.0.0.1.evil.example"]
)
def test_no_token_over_plain_http(url: str) -> None:
    """A token for another machine over http is refused before anything is sent; over https it is not."""
    with pytest.raises(Refused) as caught:
        ActionClient(url, token=TOKEN)
    assert caught.value.code == "INSECURE_TOKEN"
    assert "https" in caught.value.hint
    assert "--insecure-token" in caught.value.hint
    ActionClient(url)
    ActionClient(url.replace("http:", "https:"), token=TOKEN)
    ActionClient(url, token=TOKEN, insecure_token=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "LOCALHOST.", "a.localhost", "::1"])
def test_this_machine(host: str) -> None:
    """Addresses that never leave the machine."""
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "localhost.example", "127.0.0.1.example", "::2", "1", "notlocalhost"]
)
def test_other_machines(host: str) -> None:
    """Addresses that do leave it, or may, however they look."""
    assert not is_loopback(host)


def test_the_management_address_counts_too() -> None:
    """A management address of its own gets the token only where it may have it."""
    client = ActionClient("https://clips.example", token=TOKEN, management_url="http://clips.example:8081")
    with pytest.raises(Refused) as caught:
        client.models()
    assert caught.value.code == "INSECURE_TOKEN"


def test_the_command_says_how(tmp_path: Path) -> None:
    """A command refuses with code, message and hint, exit code 2; its switch and its variable make it try."""
    (tmp_path / "clip.mp4").write_bytes(FILE)
    # Nothing listens at this proxy, so what would be sent goes nowhere.
    variables = {"ACTIONREC_TOKEN": TOKEN, "http_proxy": "http://127.0.0.1:1"}
    command = ("predict", "clip.mp4", "--model", "m", "--url", FAR, "--json")
    for arguments in (
        command,
        ("models", "--url", FAR),
        ("ready", "--url", FAR),
        ("stream", "clip.mp4", "--url", FAR),
    ):
        refused = actionrec(*arguments, cwd=tmp_path, variables=variables)
        assert refused.returncode == 2, (arguments, refused.stderr)
        assert "INSECURE_TOKEN" in refused.stderr
        assert "--insecure-token" in refused.stderr
        assert TOKEN not in refused.stdout + refused.stderr
    for words, extra in (((*command, "--insecure-token"), "0"), (command, "1")):
        more = {**variables, "ACTIONREC_INSECURE_TOKEN": extra}
        tried = actionrec(*words, cwd=tmp_path, variables=more)
        assert tried.returncode == 3, tried.stderr
        assert TOKEN not in tried.stdout + tried.stderr


def test_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment is used, but not for this machine, whose token it could read."""
    with misbehaving([OK]) as server, misbehaving([OK]) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        ActionClient(server.url, model="m", token=TOKEN).classify(FILE)
        ActionClient(server.url.replace("127.0.0.1", "localhost"), model="m").classify(FILE)
        assert (len(server.bodies), len(proxy.bodies)) == (2, 0)
        ActionClient(FAR, model="m").classify(FILE)
        ActionClient(FAR, model="m", token=TOKEN, insecure_token=True).classify(FILE)
    assert authorizations(proxy) == [None, f"Bearer {TOKEN}"]


@pytest.mark.usefixtures("netrc")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(status: int) -> None:
    """A redirect is an error that says where it points; the other place gets neither token nor video."""
    with misbehaving([OK]) as other:
        location = f"{other.url}/predictions/m?state=secret"
        # Its body drips for ever: nobody reads it.
        moved = Answer(status, "x" * 1000, (("Location", location),), drip_seconds=1)
        with misbehaving([moved]) as server, pytest.raises(Redirected) as caught:
            ActionClient(server.url, model="m", token=TOKEN, timeout=20).classify(FILE)
        assert len(server.bodies) == 1
        assert other.bodies == []
    assert (caught.value.code, caught.value.status) == ("REDIRECTED", status)
    assert f"{other.url}/predictions/m." in caught.value.message
    assert "state" not in caught.value.message
    assert isinstance(caught.value, BadReply)
    assert pickle.loads(pickle.dumps(caught.value)).code == "REDIRECTED"


@pytest.mark.parametrize(("location", "said"), [("/login", "/login"), ("http://[", "another address")])
def test_odd_redirects(location: str, said: str) -> None:
    """A place on the same server, and one that is no address, are errors of the same kind."""
    with (
        misbehaving([Answer(302, "", (("Location", location),))]) as server,
        pytest.raises(Redirected, match=said),
    ):
        ActionClient(server.url, model="m").classify(FILE)


def test_a_command_is_redirected(tmp_path: Path) -> None:
    """A command that is sent elsewhere says where to, and ends with 2: the address is to be changed."""
    moved = Answer(301, "", (("Location", "https://clips.example/models?limit=1000"),))
    with misbehaving([moved]) as server:
        done = actionrec("models", "--url", server.url, "--management-url", server.url, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "https://clips.example/models" in done.stderr
    assert "REDIRECTED" in done.stderr


@pytest.mark.parametrize("status", [200, 401])
def test_an_echo_does_not_show_the_token(status: int) -> None:
    """A server that sends back the headers that it got does not bring the token into messages and results."""
    with misbehaving([Answer(status, {"headers": {"Authorization": f"Bearer {TOKEN}"}})]) as server:
        client = ActionClient(server.url, model="m", token=TOKEN)
        with pytest.raises(ServerError) as caught:
            client.classify(FILE)
    assert "Bearer ***" in str(caught.value)
    assert TOKEN not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("token", [f"{TOKEN}\nHost: evil.example", f"{TOKEN}\x00", f"é{TOKEN}", "a b", " "])
def test_a_token_that_is_none(token: str) -> None:
    """What no header can carry is refused at once, without being shown."""
    with pytest.raises(Refused) as caught:
        ActionClient("https://clips.example", token=token)
    assert caught.value.code == "BAD_TOKEN"
    assert TOKEN not in "".join(traceback.format_exception(caught.value))


def test_a_token_from_a_file() -> None:
    """The line break at the end of a file is no part of the token."""
    with misbehaving([OK]) as server:
        ActionClient(server.url, model="m", token=f"{TOKEN}\n").classify(FILE)
    assert authorizations(server) == [f"Bearer {TOKEN}"]


@pytest.mark.parametrize("which", ["url", "management_url"])
def test_no_password_in_an_address(which: str) -> None:
    """An address with a password is refused, and the message does not show it."""
    addresses = {"url": "https://clips.example", which: "https://me:hunter2@clips.example/?a"}
    with pytest.raises(Refused) as caught:
        ActionClient(addresses["url"], management_url=addresses.get("management_url"))
    assert caught.value.code == "BAD_URL"
    assert "ACTIONREC_TOKEN" in caught.value.hint
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_help_does_not_show_the_token() -> None:
    """--help names the variable and not what is in it."""
    done = actionrec("predict", "--help", variables={"ACTIONREC_TOKEN": TOKEN})
    assert "ACTIONREC_TOKEN" in done.stdout
    assert TOKEN not in done.stdout


def test_passwords_of_sources() -> None:
    """What is shown of a camera's address has neither user and password nor parameters that sound like them."""
    assert hide_password("rtsp://me:pw@cam/live") == "rtsp://***@cam/live"
    shown = hide_password("http://cam/v?channel=1&user=me&Password=hunter2&auth_token=x&size=2")
    assert shown == "http://cam/v?channel=1&user=me&Password=***&auth_token=***&size=2"


def test_results_do_not_have_the_token(tmp_path: Path) -> None:
    """Neither the file of a batch nor what it prints has the token."""
    (tmp_path / "clip.mp4").write_bytes(FILE)
    echo = {**GOOD, "request": {"authorization": TOKEN}}
    with misbehaving([Answer(body=echo)]) as server:
        done = actionrec(
            *("batch", "clip.mp4", "-o", "r.jsonl", "--model", "m", "--url", server.url, "--json"),
            cwd=tmp_path,
            variables={"ACTIONREC_TOKEN": TOKEN},
        )
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr + (tmp_path / "r.jsonl").read_text(encoding="utf-8")
