"""Promise: an update, a scale-down and a lost pod cost nobody an answer.

Played on one machine: pods are the processes that the image runs (``python -m actionrec_gateway serve``), with
the manifests' own preStop, grace and probes; nginx, which sends nothing twice, is the Service; this file is the
kubelet.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import requests

from actionrec_client import ActionClient
from deploy.preflight import free_ports
from motion.clips import random_clip
from tests.conftest import DEADLINE_SECONDS, PROJECT
from tests.helpers_gateway import _ENVIRONMENT
from tests.helpers_supervisor import eventually
from tests.test_kubernetes import container, pod

pytestmark = pytest.mark.slow

CLIP = random_clip(11, "moving left").data
PRE_STOP_SECONDS = float(container("cpu")["lifecycle"]["preStop"]["exec"]["command"][1])
GRACE_SECONDS = pod("cpu")["terminationGracePeriodSeconds"]
READINESS = container("cpu")["readinessProbe"]
SLOW_NODE_SECONDS = 5.0
"""After the end of a pod has begun, a slow node still sends it requests for so long."""
CONFIG = """
{user}
daemon off;
pid {home}/nginx.pid;
error_log {home}/nginx.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
    upstream pods {{ {pods} }}
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://pods; proxy_next_upstream off; proxy_read_timeout 120s; }}
    }}
}}
"""


@dataclass
class Pod:
    """One running image."""

    home: Path
    archives: Path
    port: int = field(default_factory=lambda: free_ports("127.0.0.1"))
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.home.mkdir()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_ENVIRONMENT)}
        own = {"SM_MODEL_DIR": str(self.archives), "AIP_HTTP_PORT": str(self.port), "TMPDIR": str(self.home)}
        with (self.home / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "actionrec_gateway", "serve"],
                cwd=PROJECT,
                env={**inherited, **own},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def ready(self) -> bool:
        try:
            url = f"http://127.0.0.1:{self.port}{READINESS['httpGet']['path']}"
            return requests.get(url, timeout=READINESS["timeoutSeconds"]).ok
        except requests.RequestException:
            return False

    def family(self) -> list[psutil.Process]:
        """All its processes: those that the first one has started, and theirs."""
        with suppress(psutil.Error):
            main = psutil.Process(self.process.pid)
            return [main, *main.children(recursive=True)]
        return []

    def kill(self) -> None:
        """Its node is gone."""
        family = self.family()
        for process in family:
            with suppress(psutil.Error):
                process.send_signal(signal.SIGSTOP)  # so that nothing is started anew meanwhile
        for process in family:
            with suppress(psutil.Error):
                process.kill()
        self.process.wait(DEADLINE_SECONDS)


class Cluster:
    """A Deployment and its Service."""

    def __init__(self, home: Path, archives: Path) -> None:
        self.home, self.archives = home, archives
        self.port = free_ports("127.0.0.1")
        self.pods: list[Pod] = []
        self.made = 0
        self._nginx: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add(self) -> Pod:
        """A new pod, which gets requests when it is ready."""
        self.made += 1
        new = Pod(self.home / f"pod{self.made}", self.archives)
        try:
            eventually(new.ready, f"{new.home.name} is not ready")
        except BaseException:
            new.kill()
            raise
        self.pods.append(new)
        self.route()
        return new

    def remove(self, old: Pod) -> None:
        """End a pod as a kubelet does: it still gets requests for a while, preStop, SIGTERM, and no SIGKILL."""
        began = time.monotonic()
        self.pods.remove(old)
        time.sleep(SLOW_NODE_SECONDS)
        self.route()
        time.sleep(max(0.0, began + PRE_STOP_SECONDS - time.monotonic()))
        old.process.terminate()
        assert old.process.wait(began + GRACE_SECONDS - time.monotonic()) == 0
        assert not [process for process in old.family() if process.is_running()]

    def route(self) -> None:
        """Tell every node where requests go."""
        servers = " ".join(f"server 127.0.0.1:{pod.port} max_fails=0;" for pod in self.pods)
        config = self.home / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""  # else its workers may not write to this folder
        config.write_text(CONFIG.format(user=user, home=self.home, pods=servers, port=self.port))
        if self._nginx is None:
            self._nginx = subprocess.Popen(["nginx", "-c", str(config)], stderr=subprocess.DEVNULL)
        else:
            self._nginx.send_signal(signal.SIGHUP)

    def close(self) -> None:
        for each in self.pods:
            each.kill()
        if self._nginx:
            self._nginx.terminate()
            self._nginx.wait(DEADLINE_SECONDS)


@pytest.fixture
def cluster(tmp_path: Path, motion_archive: Path) -> Iterator[Cluster]:
    """Two pods."""
    cluster = Cluster(tmp_path, motion_archive.parent)
    try:
        cluster.add()
        cluster.add()
        yield cluster
    finally:
        cluster.close()


class Load:
    """Senders that go on until they are told to end."""

    def __init__(self, senders: int) -> None:
        self._end = threading.Event()
        self._pool = ThreadPoolExecutor(senders)
        self._senders = senders
        self._futures: list[Future[None]] = []
        self.answers: list[str] = []
        """Of each request: the label, or what went wrong."""

    def start(self, cluster: Cluster, *, again: bool) -> Load:
        """Begin.

        Args:
            cluster: where to.
            again: use the project's client, which sends a request again that had no answer; else each is sent
                once.
        """
        client = ActionClient(cluster.url, model="motion")

        def once() -> str:
            try:
                if again:
                    return client.classify(CLIP).label
                reply = requests.post(f"{cluster.url}/predictions/motion", CLIP, timeout=DEADLINE_SECONDS)
                return str(reply.json()["predictions"][0]["label"]) if reply.ok else reply.text[:300]
            except Exception as error:
                return repr(error)

        def send() -> None:
            while not self._end.is_set():
                self.answers.append(once())

        self._futures = [self._pool.submit(send) for _ in range(self._senders)]
        return self

    def more(self, count: int) -> None:
        """Wait until so many more answers have come."""
        wanted = len(self.answers) + count
        eventually(lambda: len(self.answers) >= wanted, "no answers come")
        assert set(self.answers) == {"moving left"}

    def end(self) -> set[str]:
        """What was answered, and nothing else."""
        self._end.set()
        self._pool.shutdown()
        for future in self._futures:
            future.result()
        return set(self.answers)


def test_a_rolling_update_and_a_scale_down(cluster: Cluster) -> None:
    """Two pods are replaced one by one, and one is taken away: each request, sent once, has its answer."""
    load = Load(3).start(cluster, again=False)
    load.more(20)
    for old in list(cluster.pods):
        cluster.add()  # maxSurge 1, maxUnavailable 0
        cluster.remove(old)
        load.more(20)
    cluster.remove(cluster.pods[0])
    load.more(20)
    assert load.end() == {"moving left"}
    print(f"{len(load.answers)} requests while two pods were replaced and one was taken away; none lost")  # noqa: T201


def test_a_lost_pod(cluster: Cluster) -> None:
    """A pod is gone at once, with what it was working on: the client sends that again, and nobody sees it."""
    load = Load(3).start(cluster, again=True)
    load.more(20)
    lost = cluster.pods.pop(0)
    lost.kill()
    time.sleep(READINESS["periodSeconds"] * READINESS["failureThreshold"])  # until the probes say so
    cluster.route()
    load.more(20)
    cluster.add()
    load.more(20)
    assert load.end() == {"moving left"}
    print(f"{len(load.answers)} requests while a pod was lost; none lost")  # noqa: T201
