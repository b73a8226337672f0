"""Promise: the rules and dashboards are what their code makes, and every alert is tested and explained."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml
from actionrec.sandbox.confine import REQUIRED
from actionrec.service import SandboxState, Service

from deploy.config import load_config
from deploy.observability import dashboards, panels, rules
from deploy.observability.__main__ import HERE, configuration, made
from tests.conftest import PROJECT
from tests.documents import anchors, read

RULES = HERE / "rules"


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )


def test_what_is_committed_is_what_is_made() -> None:
    """`make panels` changes nothing: rules and dashboards are those of the code, and there are no others."""
    texts = made()
    assert {path: (HERE.parent / path).read_text() for path in texts} == texts
    kept = {path.name for folder in ("rules", "dashboards") for path in (HERE / folder).iterdir()}
    assert kept == {Path(path).name for path in texts if path.startswith("observability")} | {"tests.yml"}


def test_rules_are_prometheus() -> None:
    """Prometheus takes the rules and its configuration."""
    for arguments in (("rules", RULES / "actionrec.yml"), ("config", HERE / "prometheus.yml")):
        checked = promtool("check", *arguments)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_alerts() -> None:
    """The unit tests of promtool pass: each alert fires when it should, and not before."""
    tested = promtool("test", "rules", RULES / "tests.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("alert", [alert.name for alert in rules.alerts()])
def test_each_alert_is_tested_and_explained(alert: str) -> None:
    """Each has a test in which it fires and one in which it does not, and its own paragraph of the runbook."""
    cases = [
        case
        for test in yaml.safe_load((RULES / "tests.yml").read_text())["tests"]
        for case in test["alert_rule_test"]
        if case["alertname"] == alert
    ]
    assert {bool(case.get("exp_alerts")) for case in cases} == {True, False}
    assert alert.lower() in anchors(read("docs/operations.md"))
    (paragraph,) = re.findall(rf"^### {alert}\n\n(.+?)(?=\n#|\Z)", read("docs/operations.md"), re.M | re.S)
    assert len(paragraph.split()) > 25, "no runbook"


def test_a_test_can_fail(tmp_path: Path) -> None:
    """An alert with another limit fails its test."""
    text = (RULES / "actionrec.yml").read_text()
    for changed in (text.replace("14.4 * 0.005", "30 * 0.005"), text.replace("[15m]) > 10", "[15m]) > 1000")):
        assert changed != text
        (tmp_path / "actionrec.yml").write_text(changed)
        (tmp_path / "tests.yml").write_text((RULES / "tests.yml").read_text())
        assert promtool("test", "rules", tmp_path / "tests.yml").returncode != 0


def test_grafana_has_all_that_a_panel_says() -> None:
    """A dashboard's JSON has each panel with its title, unit, words and queries, at its own place."""
    for board in panels.BOARDS:
        drawn: dict[str, Any] = json.loads(dashboards.texts()[board.name])
        assert drawn["uid"] == f"actionrec-{board.name}"
        found = [
            (
                panel["title"],
                panel["description"],
                panel["fieldConfig"]["defaults"]["unit"],
                tuple((target["expr"], target["legendFormat"]) for target in panel["targets"]),
            )
            for panel in drawn["panels"]
        ]
        assert found == [(panel.title, panel.says, panel.unit, panel.queries) for panel in board.panels]
        places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in drawn["panels"]]
        assert len(set(places)) == len(places)


def test_panels_of_a_gpu() -> None:
    """A panel is called one of a GPU when, and only when, a query of it needs one."""
    for board in panels.BOARDS:
        for panel in board.panels:
            needs = any("DCGM_" in query for query, _ in panel.queries)
            assert panel.title.startswith(panels.GPU) is needs, panel.title


def test_the_configuration_of_a_look() -> None:
    """`make observe` scrapes the two addresses of the server that runs."""
    config = configuration("http://127.0.0.1:8123", "http://127.0.0.1:9082/metrics")
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    assert targets == {"actionrec": ["127.0.0.1:8123"], "actionrec-engine": ["127.0.0.1:9082"]}
    assert all(Path(path).is_file() for path in config["rule_files"])


def test_metrics_are_documented() -> None:
    """Every metric of the gateway and the sandbox stands in a document, and every one that is used exists."""
    said = read("docs/gateway.md") + read("docs/production.md")
    source = (PROJECT / "actionrec_gateway/observe/metrics.py").read_text()
    source += (PROJECT / "actionrec_gateway/observe/content.py").read_text()
    source += (PROJECT / "handler/torchserve_metrics.py").read_text()
    made = set(re.findall(r'"(actionrec_[a-z_]+)"', source)) - {"actionrec_gateway"}
    assert {name for name in made if name not in said} == set()
    used = set(re.findall(r"\bactionrec_[a-z_]+", (RULES / "actionrec.yml").read_text()))
    for board in panels.BOARDS:
        used |= {name for panel in board.panels for query, _ in panel.queries for name in _names(query)}
    bare = {re.sub(r"_(bucket|count|sum|total)$", "", name) for name in used}
    made = {name.removesuffix("_total") for name in made}
    assert {name for name in bare - made if not name.startswith("actionrec_gateway_process_")} == set()


def _names(query: str) -> list[str]:
    return re.findall(r"\bactionrec_[a-z_]+", query)


@pytest.mark.parametrize(
    ("defences", "missing"),
    [
        (dict.fromkeys(REQUIRED, "on") | {"network_namespace": "Operation not permitted"}, 0),
        (dict.fromkeys(REQUIRED, "on") | {"seccomp": "no kernel for it"}, 1),
        ({}, len(REQUIRED)),
    ],
)
def test_missing_defences_are_counted(defences: dict[str, str], missing: int) -> None:
    """Required ones that do not hold: a missing second line wakes nobody; no sandbox lacks all of them."""
    sandbox = SimpleNamespace(defences=defences, replaced=7)
    classifier: Any = SimpleNamespace(sandbox=sandbox)
    assert Service(classifier).sandbox_state() == SandboxState(missing, 7)
    assert Service(cast(Any, SimpleNamespace(sandbox=None))).sandbox_state() == SandboxState(len(REQUIRED), 0)


def test_the_collector() -> None:
    """Its pipeline has parts that are defined, listens where the document says, and waits for whole traces."""
    config = yaml.safe_load((HERE / "collector.yml").read_text())
    (pipeline,) = config["service"]["pipelines"].values()
    for kind, names in pipeline.items():
        assert set(names) == set(config[kind])
    port = config["receivers"]["otlp"]["protocols"]["http"]["endpoint"].split(":")[1]
    assert f":{port}" in read("docs/gateway.md")
    wait = int(config["processors"]["tail_sampling"]["decision_wait"].rstrip("s"))
    assert wait > load_config(PROJECT / "config.properties").response_seconds
