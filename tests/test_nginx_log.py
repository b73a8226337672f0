"""Promise: the front's log says who asked for what, whatever the answer, and no stranger can fill the disk."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from deploy.nginx import Front
from tests.conftest import PROJECT
from tests.helpers_nginx import Outside, variant
from tests.test_nginx_limits import WRONG, answers

pytestmark = pytest.mark.server

pytest_plugins = ("tests.fixtures_nginx",)


def lines(log: Path, count: int) -> list[dict[str, Any]]:
    """Of a log, as soon as it has so many."""
    deadline = time.monotonic() + 30
    while len(found := log.read_text(encoding="ascii").splitlines()) < count:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return [json.loads(line) for line in found]


def ask(outside: Outside, method: str, path: str, **headers: str) -> int:
    """The status of a request that nothing has tidied up."""
    request = requests.Request(method, outside.url, headers=headers, data=b"x").prepare()
    request.url = outside.url + path
    with requests.Session() as session:
        return session.send(request, verify=str(outside.cert), timeout=60).status_code


def test_the_request_as_it_came(front: Front, tmp_path: Path) -> None:
    """Errors are logged with the method and path that were asked for, without what stands after the '?'."""
    with variant(front, tmp_path) as outside:
        good = {"Authorization": f"Bearer {outside.token}"}
        asked = [
            (200, "POST", "/predictions/behind", good),
            (401, "PUT", "/predictions/behind", {}),
            (404, "DELETE", "/models/behind", {}),
            (405, "PATCH", "/predictions/behind/1.0", {}),
            (404, "POST", "/predictions/nobody", good),
            (404, "GET", "//x/../y", good),
        ]
        for status, method, path, headers in asked:
            assert ask(outside, method, f"{path}?token=secret", **headers) == status
        found = lines(tmp_path / "logs" / "nginx-access.log", len(asked))
    assert [(line["status"], line["method"], line["uri"]) for line in found] == [case[:3] for case in asked]
    assert [line["token"] for line in found] == ["tester", "", "", "", "tester", "tester"]
    assert {line["client"] for line in found} == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("path", "logged"),
    [
        (b'/a"b\\c{}', '/a"b\\c{}'),
        (b"/a\xff\xfe", "/a"),
        (b"/a%22%0a%1b", "/a%22%0a%1b"),
        (b"/" + b"a" * 6000, "/" + "a" * 255),
        (b"/predictions/behind?" + b"a" * 6000, "/predictions/behind"),
    ],
)
def test_no_path_breaks_a_line(front: Front, tmp_path: Path, path: bytes, logged: str) -> None:
    """A line is JSON in ASCII whatever is asked for, and short."""
    with variant(front, tmp_path) as outside:
        token = outside.token.encode()
        outside.raw(
            b"GET "
            + path
            + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer "
            + token,
            b'\r\nUser-Agent: "\n\r\n',
        )
        log = tmp_path / "logs" / "nginx-access.log"
        (line,) = lines(log, 1)
        assert (line["method"], line["uri"]) == ("GET", logged)
        assert log.stat().st_size < 640


def test_a_flood_is_logged_in_part(front: Front, tmp_path: Path) -> None:
    """Of a stranger's requests over the limit few get a line; each of a client with a token does."""
    logs = tmp_path / "logs"
    with variant(front, tmp_path, rate=1, burst=5) as outside:
        for _ in range(10):
            answers(outside, 99, "POST /predictions/behind HTTP/1.1", f"Authorization: {WRONG}")
        token = f"Authorization: Bearer {outside.token}"
        refused = answers(outside, 50, "POST /predictions/behind HTTP/1.1", token)[429]
    found = lines(logs / "nginx-access.log", 50)
    assert refused > 30
    assert sum(line["status"] == 429 and line["token"] == "tester" for line in found) == refused
    assert sum(line["status"] == 429 and not line["token"] for line in found) < 60
    assert (logs / "nginx-error.log").stat().st_size < 1000


def test_rotation(front: Front, tmp_path: Path) -> None:
    """Logrotate moves the logs away, nginx goes on in new ones, and no request is lost."""
    logrotate = shutil.which("logrotate", path=f"{os.environ['PATH']}:/usr/sbin")
    if logrotate is None:
        pytest.fail("logrotate is not installed: apt-get install logrotate", pytrace=False)
    text = (PROJECT / "deploy" / "production" / "actionrec-nginx.logrotate").read_text(encoding="utf-8")
    places = {
        "/var/log/actionrec-nginx": str(tmp_path / "logs"),
        "/var/lib/actionrec-nginx": str(tmp_path / "run"),
    }
    for place, here in places.items():
        assert place in text
        text = text.replace(place, here)
    rules = tmp_path / "logrotate.conf"
    rules.write_text(text, encoding="utf-8")
    rules.chmod(0o644)
    log = tmp_path / "logs" / "nginx-access.log"
    with variant(front, tmp_path) as outside:
        for _ in range(3):
            assert outside.predict().status_code == 200
        lines(log, 3)
        command = [logrotate, "--force", "--state", str(tmp_path / "state"), str(rules)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        deadline = time.monotonic() + 30
        while not log.exists():
            assert time.monotonic() < deadline, "nginx has not opened a new log"
            time.sleep(0.05)
        for _ in range(2):
            assert outside.predict().status_code == 200
        assert len(lines(log, 2)) + len(lines(log.with_name(log.name + ".1"), 3)) == 5


def test_where_the_files_are_put() -> None:
    """The rotation names the directories that the systemd unit has."""
    unit = (PROJECT / "deploy" / "production" / "actionrec-nginx.service").read_text(encoding="utf-8")
    assert "LogsDirectory=actionrec-nginx" in unit
    assert "StateDirectory=actionrec-nginx" in unit
