"""``python -m deploy.observability make|observe``."""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from .. import gateway
from ..preflight import DeployError
from ..state import running
from . import dashboards, rules

HERE = Path(__file__).parent
_GRAFANA = ("grafana-server", "grafana")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.observability", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("make", help="write the rules and the dashboards anew")
    look = commands.add_parser(
        "observe", help="start Prometheus, and Grafana where it is installed, for a look"
    )
    look.add_argument("--run-dir", type=Path, default=Path("run"), help="folder of the server's state")
    look.add_argument("--port", type=int, default=9090, help="Prometheus' own; Grafana has 3000")
    options = parser.parse_args(arguments)
    if options.command == "make":
        for path, text in made().items():
            (HERE.parent / path).write_text(text, encoding="utf-8")
        return 0
    try:
        return _observe(options.run_dir, options.port)
    except DeployError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


def made() -> dict[str, str]:
    """Path below ``deploy`` -> text, of all that is made of the code here."""
    return {
        "observability/rules/actionrec.yml": rules.text(),
        "kubernetes/components/monitoring/rules.yaml": rules.for_operator(),
        **{f"observability/dashboards/{name}.json": text for name, text in dashboards.texts().items()},
    }


def configuration(gateway_url: str, metrics_url: str, *, scrape: str = "5s") -> dict[str, Any]:
    """`prometheus.yml` for a server at other addresses.

    Args:
        gateway_url: the gateway's address.
        metrics_url: TorchServe's metrics.
        scrape: how often: ``5s``.
    """
    config: dict[str, Any] = yaml.safe_load((HERE / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": scrape, "evaluation_interval": scrape}
    config["rule_files"] = [str(HERE / "rules" / "actionrec.yml")]
    for job, url in zip(config["scrape_configs"], (gateway_url, metrics_url), strict=True):
        job["static_configs"] = [{"targets": [url.split("/")[2]]}]
    return config


def command(config: Path, data: Path, port: int) -> list[str]:
    """The command that runs Prometheus.

    Args:
        config: its configuration.
        data: folder of what it has scraped.
        port: to listen on, at 127.0.0.1.

    Raises:
        DeployError: it is not installed.
    """
    program = shutil.which("prometheus")
    if program is None:
        raise DeployError("Prometheus is not installed", "apt-get install prometheus")
    return [
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={data}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]


def _observe(run_dir: Path, port: int) -> int:
    """Stay until Ctrl-C or a signal. What was scraped goes with it.

    Raises:
        DeployError: there is no server, no gateway or no Prometheus.
    """
    state, beside = running(run_dir), gateway.load(run_dir)
    if beside is None:
        raise DeployError("the server has no gateway, whose metrics the panels show", "make serve GATEWAY=1")
    with tempfile.TemporaryDirectory(prefix="actionrec-observe-") as home:
        config = Path(home) / "prometheus.yml"
        config.write_text(yaml.safe_dump(configuration(beside.url, state.metrics_url)), encoding="utf-8")
        processes = [subprocess.Popen(command(config, Path(home) / "data", port))]
        print(f"Prometheus  http://127.0.0.1:{port}  (alerts: http://127.0.0.1:{port}/alerts)")  # noqa: T201
        if program := next(filter(None, map(shutil.which, _GRAFANA)), None):
            processes.append(_grafana(program, Path(home), port))
            print("Grafana     http://127.0.0.1:3000")  # noqa: T201
        else:
            print(f"Grafana is not installed; its dashboards are in {HERE / 'dashboards'}")  # noqa: T201
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            return processes[0].wait()
        except KeyboardInterrupt:
            return 0
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()


def _grafana(program: str, home: Path, port: int) -> subprocess.Popen[bytes]:
    """Grafana with the dashboards, open to look at for whoever is on this host."""
    provisioning = home / "provisioning"
    source = {"name": "Prometheus", "type": "prometheus", "url": f"http://127.0.0.1:{port}", "isDefault": True}
    boards = {"name": "actionrec", "type": "file", "options": {"path": str(HERE / "dashboards")}}
    for folder, key, value in (("datasources", "datasources", source), ("dashboards", "providers", boards)):
        (provisioning / folder).mkdir(parents=True)
        text = yaml.safe_dump({"apiVersion": 1, key: [value]})
        (provisioning / folder / "actionrec.yml").write_text(text, encoding="utf-8")
    settings = {
        "paths.data": home / "grafana",
        "paths.provisioning": provisioning,
        "server.http_addr": "127.0.0.1",
        "auth.anonymous.enabled": "true",
    }
    chosen = " ".join(f"cfg:default.{name}={value}" for name, value in settings.items())
    arguments = ["server"] if Path(program).name == "grafana" else []
    return subprocess.Popen([program, *arguments, "--homepath", "/usr/share/grafana", *chosen.split()])


if __name__ == "__main__":
    sys.exit(main())
