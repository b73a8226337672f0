"""Promise: who has no token gets nothing, who is no administrator changes nothing; no other page may ask."""

from __future__ import annotations

import hmac
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests

from actionrec_gateway.access import Tokens
from deploy.nginx import add_token
from motion.clips import random_clip
from tests.helpers_gateway import Guarded, RunningGateway
from tests.test_gateway_through import error_of

pytest_plugins = ("tests.fixtures_gateway",)

CLIP = random_clip(11, "moving left").data
PATH = "/predictions/motion"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


def test_the_file_that_nginx_reads(path: Path) -> None:
    """Each token that `python -m deploy token` writes names its client, in any case, as with nginx."""
    ada, bob = add_token(path, "ada"), add_token(path, "bob")
    path.write_text(f"# of this host\n\n{path.read_text()}")
    tokens = Tokens(path)
    assert [tokens.client(f"Bearer {token}") for token in (ada, bob)] == ["ada", "bob"]
    assert tokens.client(f"bearer {ada.upper()}") == "ada"
    for wrong in (
        "",
        ada,
        f"Bearer {ada[:-1]}",
        f"Bearer {ada}0",
        f"Basic {ada}",
        f"Bearer  {ada}",
        "Bearer \u00e4",
    ):
        assert tokens.client(wrong) is None, wrong


def test_a_changed_file_holds_at_once(path: Path) -> None:
    """A token works when its line is there, and no more when it is not; a damaged file changes nothing."""
    ada = add_token(path, "ada")
    tokens = Tokens(path)
    bob = add_token(path, "bob")
    assert tokens.client(f"Bearer {bob}") == "bob"
    whole = path.read_text()
    path.write_text(whole + "nonsense\n")
    assert tokens.client(f"Bearer {ada}") == "ada"
    path.write_text("".join(line for line in whole.splitlines(keepends=True) if '"ada"' not in line))
    assert tokens.client(f"Bearer {ada}") is None
    assert tokens.client(f"Bearer {bob}") == "bob"
    path.unlink()
    assert tokens.client(f"Bearer {bob}") == "bob"


@pytest.mark.parametrize("text", ["nonsense", '"Bearer short" "ada";', '"Bearer 0123456789abcdef" ada;'])
def test_a_damaged_file_is_refused_at_the_start(path: Path, text: str) -> None:
    """A file that is not of tokens starts no gateway that would let nobody in, or everybody."""
    path.write_text(text)
    with pytest.raises(ValueError, match="line 1"):
        Tokens(path)


def test_every_token_is_compared_in_constant_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work is the same for each token and for none: all are compared, as digests of one length."""
    names = [f"client{number}" for number in range(5)]
    sent = [add_token(path, name) for name in names]
    tokens = Tokens(path)
    compared: list[tuple[int, int]] = []

    def counting(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr("actionrec_gateway.access.hmac", SimpleNamespace(compare_digest=counting))
    for text in (f"Bearer {sent[0]}", f"Bearer {sent[-1]}", "Bearer nobody", "", "x" * 5000):
        compared.clear()
        tokens.client(text)
        assert compared == [(32, 32)] * len(names)


@pytest.mark.server
def test_a_token_is_asked_for(guarded: Guarded) -> None:
    """Without a known token there is no prediction, metric or other route; what shows life is open."""
    gateway = guarded.gateway
    wrong = {"Authorization": "Bearer 0000"}
    for path in (PATH, "/metrics", "/management/models", "/jobs", "/nowhere"):
        for headers in ({}, wrong):
            reply = gateway.get(path, headers=headers)
            assert error_of(reply) == (401, "UNAUTHORIZED")
            assert reply.headers["www-authenticate"] == "Bearer"
    assert gateway.post(PATH, CLIP, headers=guarded.bob).status_code == 200
    assert gateway.get("/metrics", headers=guarded.bob).status_code == 200
    for path in ("/health", "/ready", "/docs", "/openapi.json", "/docs/files/swagger-ui.css"):
        assert gateway.get(path).status_code == 200, path


@pytest.mark.server
def test_two_tokens_are_none(guarded: Guarded) -> None:
    """Of two `Authorization` headers neither counts: doors could take one and engines the other."""
    request = requests.Request("POST", guarded.gateway.url + PATH, data=CLIP).prepare()
    both = [("Authorization", guarded.bob["Authorization"]), ("Authorization", "Bearer other")]
    request.headers = Several(both)  # type: ignore[assignment]
    reply = requests.Session().send(request, timeout=60)
    assert error_of(reply) == (401, "UNAUTHORIZED")


class Several(dict[str, str]):
    """Headers of which one comes twice."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        super().__init__({"Content-Length": str(len(CLIP))})
        self._pairs = pairs

    def items(self) -> list[tuple[str, str]]:  # type: ignore[override]
        return [*super().items(), *self._pairs]


@pytest.mark.server
def test_management(guarded: Guarded, gateway: RunningGateway) -> None:
    """An administrator's token opens the management; another's, and no token, do not."""
    path = "/management/models"
    assert error_of(gateway.get(path)) == (403, "FORBIDDEN")
    assert error_of(guarded.gateway.get(path, headers=guarded.bob)) == (403, "FORBIDDEN")
    served = guarded.gateway.get(path, headers=guarded.ada)
    assert [model["modelName"] for model in served.json()["models"]] == ["motion"]
    described = guarded.gateway.get(f"{path}/motion?customized=true", headers=guarded.ada).json()
    assert described[0]["workers"]
    assert "sha256:" in str(described[0]["customizedMetadata"])
    scaled = requests.put(
        f"{guarded.gateway.url}{path}/motion?min_worker=1&synchronous=true", headers=guarded.ada, timeout=120
    )
    assert scaled.status_code == 200, scaled.text
    assert error_of(guarded.gateway.get(f"{path}/nobody", headers=guarded.ada)) == (404, "MODEL_NOT_FOUND")


@pytest.mark.server
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/management/models?url=http://127.0.0.1/x.mar"),
        ("DELETE", "/management/models/motion"),
        ("PUT", "/management/models/motion/1.0/set-default"),
        ("GET", "/management/models/..%2f..%2fworkflows"),
        ("POST", "/management/workflows?url=http://127.0.0.1/x"),
    ],
)
def test_what_management_never_does(guarded: Guarded, method: str, path: str) -> None:
    """Nothing is registered, removed or fetched through the gateway, whoever asks."""
    reply = requests.request(method, guarded.gateway.url + path, headers=guarded.ada, timeout=60)
    assert error_of(reply)[0] in (404, 405, 422)


@pytest.mark.server
def test_no_other_origin(gateway: RunningGateway) -> None:
    """Pages of other origins may read nothing: no reply has a header of CORS, and a preflight is refused."""
    origin = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    replies = [gateway.get(path, headers=origin) for path in ("/health", "/docs", "/openapi.json", "/metrics")]
    replies += [gateway.post(PATH, CLIP, headers=origin)]
    preflight = requests.options(gateway.url + PATH, headers=origin, timeout=60)
    assert preflight.status_code == 405
    for reply in (*replies, preflight):
        assert not [name for name in reply.headers if name.lower().startswith("access-control-")]


@pytest.mark.server
def test_pages_of_others_do_nothing(gateway: RunningGateway) -> None:
    """What a browser sends for a page of another site is refused; for this site's own it is not."""
    for site in ("cross-site", "same-site"):
        for path in (PATH, "/jobs", "/v1/models/motion:predict"):
            refused = gateway.post(
                path, CLIP, headers={"Sec-Fetch-Site": site, "Origin": "https://evil.example"}
            )
            assert error_of(refused) == (403, "FORBIDDEN")
        assert gateway.get("/docs", headers={"Sec-Fetch-Site": site}).status_code == 200  # a link may lead here
    for site in ("same-origin", "none"):
        assert gateway.post(PATH, CLIP, headers={"Sec-Fetch-Site": site}).status_code == 200


@pytest.mark.server
def test_secrets_stay_out_of_the_log(guarded: Guarded) -> None:
    """No token is in the log, used or refused; the client's name is."""
    refused = guarded.gateway.get("/metrics", headers={"Authorization": "Bearer 5ec2e7"})
    reply = guarded.gateway.post(f"{PATH}?top_k=1", CLIP, headers=guarded.bob)
    log = (guarded.gateway.home / "gateway.log").read_text()
    assert guarded.gateway.line_of(reply.headers["x-request-id"])["client"] == "bob"
    assert guarded.gateway.line_of(refused.headers["x-request-id"])["code"] == "UNAUTHORIZED"
    for headers in (guarded.ada, guarded.bob, {"Authorization": "Bearer 5ec2e7"}):
        assert headers["Authorization"].split()[1] not in log
    assert (guarded.gateway.home / "tokens").stat().st_mode & 0o077 == 0
