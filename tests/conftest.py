"""Real servers, real archives, and the clips they are tried on."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import psutil
import pytest
import requests

from deploy import server as deploy_server
from export.archive import write_checksum

# No example has a deadline: machines that run tests are busy, and no test is about time.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

PROJECT = Path(__file__).parent.parent
SHARED_DATA = PROJECT.parent / "shared" / "data"
BUILD_SECONDS = 900
DEADLINE_SECONDS = 120


_SLOW_FIXTURES = {
    *("server", "motion_server", "motion_archive", "up", "checkout", "wheel"),
    *("motion", "motion_net", "r50", "user_file", "parts", "front", "outside", "clean_python"),
}
"""Those that start a server, build an archive or install something."""


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Mark what needs a server or a built archive: `make test-fast` leaves it out."""
    for item in items:
        if _SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.server)


def pytest_collection_finish() -> None:
    """Let garbage collection pass over all that was imported: it takes 0.2 to 1 s with torch, each time."""
    gc.freeze()


_MOST_MB = 256
"""That memory may grow by before unused memory goes back to the system."""
_least_mb = float("inf")
"""In use after the last time."""


@pytest.fixture(autouse=True)
def _give_back_memory() -> Iterator[None]:
    """What a test's models and clips took is not kept: the run as a whole needs 3 GB at most."""
    yield
    global _least_mb
    process = psutil.Process()
    if process.memory_info().rss / 2**20 > _least_mb + _MOST_MB:
        gc.collect()
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)
        _least_mb = process.memory_info().rss / 2**20
    _least_mb = min(_least_mb, process.memory_info().rss / 2**20)


@dataclass(frozen=True)
class RunningServer:
    """A TorchServe that answers, on ports of its own."""

    state: deploy_server.State
    run_dir: Path

    @property
    def inference_url(self) -> str:
        return self.state.inference_url

    @property
    def management_url(self) -> str:
        return self.state.management_url

    @property
    def metrics_url(self) -> str:
        return self.state.metrics_url

    @property
    def log_dir(self) -> Path:
        return Path(self.state.log_dir)

    def predict(self, data: bytes, model: str | None = None, /, **options: str | float) -> requests.Response:
        """POST a clip as a multipart form; the reply as it came, whatever its status."""
        return requests.post(
            self.state.predict_url(model),
            data={name: str(value) for name, value in options.items()},
            files={"video": ("clip", data)},
            timeout=DEADLINE_SECONDS,
        )


StartServer = Callable[..., RunningServer]
"""Called with archives (``.mar`` paths of one directory) and `Settings` fields as keywords."""


@contextmanager
def _server_starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    with ExitStack() as stack:

        def start(
            *archives: Path,
            workers: int | None = None,
            config: Path | None = None,
            python: Path | None = None,
        ) -> RunningServer:
            home = tmp_path_factory.mktemp("server")
            state = deploy_server.start(
                deploy_server.Settings(
                    model_store=archives[0].parent,
                    models=tuple(path.stem for path in archives),
                    config=config or PROJECT / "config.properties",
                    run_dir=home / "run",
                    log_dir=home / "logs",
                    port=0,
                    workers=workers,
                    python=python or Path(sys.executable),
                )
            )
            stack.callback(deploy_server.stop, home / "run")
            return RunningServer(state, home / "run")

        yield start


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Starts real servers; they are stopped when the module's tests are done."""
    with _server_starter(tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="session")
def motion_server(tmp_path_factory: pytest.TempPathFactory, motion_archive: Path) -> Iterator[RunningServer]:
    """One server of the `motion` model for all tests that only ask it something."""
    with _server_starter(tmp_path_factory) as start:
        yield start(motion_archive)


@pytest.fixture(scope="session")
def motion_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of the `motion` model, built as `make archive MODEL=motion` builds it."""
    store = tmp_path_factory.mktemp("model_store")
    _run([sys.executable, "-m", "export", "--model", "motion", "--store", str(store)])
    return store / "motion.mar"


@pytest.fixture(scope="session")
def motion_unpacked(tmp_path_factory: pytest.TempPathFactory, motion_archive: Path) -> Path:
    """That archive, unpacked as TorchServe unpacks it; a test that changes files takes a copy."""
    directory = tmp_path_factory.mktemp("unpacked")
    zipfile.ZipFile(motion_archive).extractall(directory)
    return directory


def pack(name: str, handler: str, store: Path, config: str = "") -> Path:
    """Make a small archive from a handler's source code.

    Args:
        name: of the model.
        handler: Python source; one class, or a function ``handle``.
        store: where the archive goes.
        config: YAML of the ``model-config.yaml``, if any.
    """
    source = store.parent / f"{store.name}-{name}"
    source.mkdir(parents=True)
    store.mkdir(exist_ok=True)
    (source / f"{name}_handler.py").write_text(handler, encoding="utf-8")
    command = [sys.executable, "-m", "model_archiver.model_packaging", "--model-name", name, "--version", "1.0"]
    command += ["--handler", str(source / f"{name}_handler.py"), "--export-path", str(store)]
    if config:
        (source / "model-config.yaml").write_text(config, encoding="utf-8")
        command += ["--config-file", str(source / "model-config.yaml")]
    _run(command)
    archive = store / f"{name}.mar"
    write_checksum(archive)
    return archive


def _run(command: Sequence[str]) -> None:
    result = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, timeout=BUILD_SECONDS, stdin=subprocess.DEVNULL
    )
    if result.returncode:
        pytest.fail(f"{' '.join(command)} failed:\n{result.stdout}\n{result.stderr}", pytrace=False)
