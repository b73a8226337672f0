"""Promise: what an image is made of does its part: pinned packages, JSON logs, archives fetched and checked.

The image itself is built and run by `make test-image` (tests/test_image.py).
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from actionrec_gateway.contracts import container
from deploy import logs
from deploy.checksums import check_archives
from deploy.container import fetch
from tests.conftest import PROJECT, pack
from tests.helpers_http import FileServer, serve
from tests.helpers_supervisor import DEADLINE_SECONDS, eventually

CONTAINERFILE = (PROJECT / "deploy" / "container" / "Containerfile").read_text()
LOCK = (PROJECT / "requirements" / "image.txt").read_text()
ARCHIVE = bytes(range(256)) * 20_000
DIGEST = hashlib.sha256(ARCHIVE).hexdigest()


def test_packages_are_pinned() -> None:
    """Every package of the image stands in one version with its hash, and all that is asked for is there."""
    entries = dict(re.findall(r"^([a-z0-9.-]+)==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}\n", LOCK, re.M))
    assert len(entries) == len(re.findall(r"^\S", LOCK, re.M))
    assert "://" not in LOCK
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for asked in (line for extra in ("serve", "gateway", "kserve", "tracing") for line in extras[extra]):
        name, version = re.sub(r"\[.*?\]", "", asked).split("==")
        assert entries[name.lower().replace("_", "-").replace(".", "-")] == version, asked


def test_the_containerfile() -> None:
    """Packages are installed by their hashes and from no network; a user that is not root runs `serve`."""
    assert CONTAINERFILE.count("pip install") == CONTAINERFILE.count("--no-index") == 2
    assert "--require-hashes" in CONTAINERFILE
    last = CONTAINERFILE.rsplit("\nFROM ", 1)[1]
    assert "pip install" not in last
    assert "apt-get" not in last
    assert re.search(r"^USER 10001:10001$", last, re.M)
    assert re.search(r'^CMD \["serve"\]$', last, re.M)
    assert re.search(r"^HEALTHCHECK ", last, re.M)
    assert last.index("chown 10001:10001 /var/lib/actionrec") < last.index("VOLUME"), "later changes are lost"
    assert "ACTIONREC_SANDBOX=require" in last
    assert str(container.FOLDERS[0]) in last, "where serve looks for archives"


@pytest.fixture
def files() -> Iterator[FileServer]:
    with serve(FileServer({"models/motion.mar": ARCHIVE, "models/readme.txt": b"text"})) as found:
        yield found


def test_an_archive_is_fetched(files: FileServer, tmp_path: Path) -> None:
    """It lies in the folder with its checksum, so that the server takes it."""
    environment = {"MODEL_URL": f"{files.url}models/motion.mar", "MODEL_SHA256": DIGEST.upper()}
    assert fetch.main({**environment, "MODEL_FOLDER": str(tmp_path)}) == 0
    assert (tmp_path / "motion.mar").read_bytes() == ARCHIVE
    assert {path.name for path in tmp_path.iterdir()} == {"motion.mar", "motion.mar.sha256"}
    check_archives([tmp_path / "motion.mar"])


def test_from_an_object_store(tmp_path: Path) -> None:
    """The same from a store; here it is one of files."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "motion.mar").write_bytes(ARCHIVE)
    (tmp_path / "here").mkdir()
    found = fetch.fetch(f"file://{tmp_path}/there/motion.mar", DIGEST, tmp_path / "here")
    assert found.read_bytes() == ARCHIVE


@pytest.mark.parametrize(
    ("path", "digest", "says"),
    [
        ("models/motion.mar", "0" * 64, f"has the sha256 {DIGEST}"),
        ("models/missing.mar", DIGEST, "cannot be had"),
        ("models/readme.txt", DIGEST, "must name an archive"),
    ],
)
def test_another_archive_is_refused(
    files: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str, digest: str, says: str
) -> None:
    """One with other bytes, one that is missing, and what is none: exit code 1, one line, and nothing stays."""
    environment = {"MODEL_URL": files.url + path, "MODEL_SHA256": digest, "MODEL_FOLDER": str(tmp_path)}
    assert fetch.main(environment) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert says in said
    assert list(tmp_path.iterdir()) == []


def test_one_that_breaks_off(files: FileServer, tmp_path: Path) -> None:
    """A download that is cut is refused, and nothing of it stays."""
    files.cut_after_bytes, files.cuts = 1000, 1
    with pytest.raises(fetch.RefusedError):
        fetch.fetch(f"{files.url}models/motion.mar", DIGEST, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_ports(tmp_path: Path) -> None:
    """Gateway and engine listen where the platform says; without a word, the engine takes free ports."""
    said = container.command(tmp_path, [], {"AIP_HTTP_PORT": "8000", "ENGINE_PORT": "8080"})
    assert said[said.index("--port") + 1] == "8080"
    assert said[said.index("--gateway-port") + 1] == "8000"
    said = container.command(tmp_path, [], {})
    assert said[said.index("--port") + 1] == "0"


def test_the_sandbox_is_insisted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the image says of the sandbox goes before the archive; without a word, the archive's holds."""
    monkeypatch.syspath_prepend(PROJECT / "handler")
    from actionrec.service import _insisted

    assert [_insisted(said) for said in (True, False)] == [True, False]
    monkeypatch.setenv("ACTIONREC_SANDBOX", "require")
    assert _insisted(False) == "require"
    monkeypatch.setenv("ACTIONREC_SANDBOX", "off")
    with pytest.raises(ValueError, match="must be require or not set, got 'off'"):
        _insisted(True)


def test_a_record_as_json() -> None:
    """A log record is one line with its time in UTC, level and text, and with a traceback where it has one."""
    try:
        raise ValueError('a "quoted"\nreason')
    except ValueError:
        record = logging.LogRecord("deploy.x", logging.ERROR, "", 1, "It %s", ("failed",), sys.exc_info())
    (line,) = logs.JsonFormatter().format(record).splitlines()
    said = json.loads(line)
    assert (said["event"], said["level"], said["logger"]) == ("It failed", "error", "deploy.x")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", said["time"])
    assert 'a "quoted"\nreason' in said["exception"]


@pytest.mark.server
def test_a_containers_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Server, supervisor and gateway write an object a line; the JVM's few lines at its start are text."""
    handler = (
        "def handle(data, context):\n    print('a \"quoted\" line')\n    return [b'{}'] * len(data or [])\n"
    )
    archive = pack("quoting", handler, tmp_path / "store")
    monkeypatch.setenv(logs.VARIABLE, "json")
    command = [sys.executable, "-m", "deploy", "start", "--foreground", "--gateway", "--gateway-port", "0"]
    command += ["--port", "0", "--run-dir", str(tmp_path / "run"), "--log-dir", str(tmp_path / "logs")]
    output = tmp_path / "output"
    with output.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--model-store", str(archive.parent)], cwd=PROJECT, stdout=out, stderr=out
        )
    try:
        eventually(lambda: '"event": "ready"' in output.read_text(), "it does not start")
        eventually(lambda: "quoted" in output.read_text(), "the supervisor asks for nothing")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(DEADLINE_SECONDS)
    lines = [line for line in output.read_text().splitlines() if line.strip()]
    said = [json.loads(line) for line in lines if line.startswith("{")]
    assert len(lines) - len(said) <= 8, [line for line in lines if not line.startswith("{")]
    loggers = {line.get("logger", "") for line in said}
    assert {"deploy.supervisor", "uvicorn.error", "ACCESS_LOG", "MODEL_LOG"} <= loggers
    assert [line for line in said if line["event"] == 'a "quoted" line']
    assert all({"time", "event", "level"} <= line.keys() for line in said)
    assert said[-1]["event"] == "Stopped."
