"""Prometheus' rules: the objective, what is recorded for it, and the alerts.

    python -m deploy.observability make -> rules/actionrec.yml for Prometheus, the same for its operator

Each alert has a paragraph of its name in docs/operations.md, and a unit test in rules/tests.yml.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

OBJECTIVE = 0.995
"""Share of the requests of 30 days that the server answers without a fault of its own (5xx)."""
FAST_BURN, SLOW_BURN = 14.4, 6.0
"""Times too fast: the first uses 2 % of a month's budget in an hour, the second 5 % in six hours."""
_LOOKS = "none|/health|/ready|/metrics|/ping|/v2|/v2/health/.*|/page.*|/docs.*|/openapi.json"
"""Routes that are no work: what machines ask every few seconds, the page's files, unknown addresses."""
REQUESTS = f'actionrec_request_seconds_count{{route!~"{_LOOKS}"}}'
"""Requests for work."""
SECONDS = f'actionrec_request_seconds_bucket{{route!~"{_LOOKS}"}}'
_FAULTS = REQUESTS.replace("{", '{status=~"5..",')
_WINDOWS = ("5m", "30m", "1h", "6h")


@dataclass(frozen=True, slots=True)
class Alert:
    """What somebody has to look at."""

    name: str
    expression: str
    """PromQL; the alert is for each series that it gives."""
    lasts: str
    """For how long it has to hold: ``5m``."""
    page: bool
    """Whether somebody is woken. Otherwise it has time until the next working day."""
    says: str
    """With Prometheus' templates."""


def alerts() -> list[Alert]:
    """All alerts."""
    return [
        Alert(
            "ErrorBudgetBurnsFast",
            _burn(FAST_BURN, "1h", "5m"),
            "2m",
            True,
            f"{{{{ $value | humanizePercentage }}}} of the requests fail: {FAST_BURN} times the budget.",
        ),
        Alert(
            "ErrorBudgetBurnsSlowly",
            _burn(SLOW_BURN, "6h", "30m"),
            "15m",
            False,
            f"{{{{ $value | humanizePercentage }}}} of the requests fail: {SLOW_BURN} times the budget.",
        ),
        Alert("GatewayDown", 'up{job="actionrec"} == 0', "2m", True, "{{ $labels.instance }} does not answer."),
        Alert(
            "EngineSilent",
            "actionrec_engine_up == 0",
            "2m",
            True,
            "The gateway {{ $labels.instance }} answers, and the engine behind it does not.",
        ),
        Alert(
            "ModelWithoutWorkers",
            "actionrec_workers_ready == 0",
            "1m",
            True,
            "{{ $labels.model }} at {{ $labels.instance }} has no worker: every request to it fails.",
        ),
        Alert(
            "WorkersMissing",
            "actionrec_workers_ready < actionrec_workers_wanted and actionrec_workers_ready > 0",
            "10m",
            False,
            "{{ $labels.model }} at {{ $labels.instance }} has {{ $value }} workers, fewer than wanted.",
        ),
        Alert(
            "WorkersRestartOften",
            "changes(actionrec_worker_started_seconds[1h]) > 5",
            "0m",
            False,
            "Worker {{ $labels.worker }} of {{ $labels.model }} was started {{ $value }} times in an hour.",
        ),
        Alert(
            "RequestsWait",
            "max by (model) (avg_over_time(actionrec_requests_waiting[5m])) > 4",
            "10m",
            False,
            "{{ $value | humanize }} requests to {{ $labels.model }} wait for a worker, on average.",
        ),
        Alert(
            "CandidateFails",
            'sum by (model, served) (rate(actionrec_canary_seconds_count{status=~"5.."}[10m]))'
            " / sum by (model, served) (rate(actionrec_canary_seconds_count[10m])) > 0.02",
            "5m",
            True,
            "{{ $labels.served }} fails {{ $value | humanizePercentage }} of its share of {{ $labels.model }}.",
        ),
        Alert(
            "SandboxDefencesMissing",
            "actionrec_sandbox_defences_missing > 0",
            "0m",
            True,
            "{{ $labels.ModelName }} at {{ $labels.instance }} decodes without {{ $value }} of its defences.",
        ),
        Alert(
            "ChildrenReplacedOften",
            "increase(actionrec_sandbox_children_replaced_total[15m]) > 10",
            "0m",
            False,
            "{{ $value | humanize }} decoding children of {{ $labels.ModelName }} died in 15 minutes.",
        ),
        Alert(
            "MemoryGrows",
            # The least of an hour: a large video's memory comes and goes, and what leaks stays.
            "min_over_time(actionrec_worker_memory_bytes[1h])"
            " - min_over_time(actionrec_worker_memory_bytes[1h] offset 6h) > 512 * 1024 * 1024",
            "30m",
            False,
            "Worker {{ $labels.worker }} of {{ $labels.model }} has {{ $value | humanize1024 }}B more in 6 h.",
        ),
        Alert(
            "GpuIdleWhileRequestsWait",
            "avg_over_time(DCGM_FI_DEV_GPU_UTIL[10m]) < 10"
            " and on () sum(avg_over_time(actionrec_requests_waiting[10m])) > 4",
            "5m",
            False,
            "GPU {{ $labels.gpu }} of {{ $labels.Hostname }}: {{ $value | humanize }} % busy; requests wait.",
        ),
    ]


def text() -> str:
    """The rules as Prometheus reads them."""
    return _yaml(_groups())


def for_operator() -> str:
    """The same for the Prometheus operator of a cluster."""
    kind = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "actionrec"},
    }
    return _yaml({**kind, "spec": _groups()})


def _groups() -> dict[str, Any]:
    recorded = [{"record": "actionrec:requests:rate5m", "expr": f"sum(rate({REQUESTS}[5m]))"}]
    recorded += [
        {
            "record": f"actionrec:errors:ratio{window}",
            "expr": f"(sum(rate({_FAULTS}[{window}])) or vector(0)) / (sum(rate({REQUESTS}[{window}])) > 0)",
        }
        for window in _WINDOWS
    ]
    shown = [
        {
            "alert": alert.name,
            "expr": alert.expression,
            "for": alert.lasts,
            "labels": {"severity": "page" if alert.page else "ticket"},
            "annotations": {"summary": alert.says, "runbook": f"docs/operations.md#{alert.name.lower()}"},
        }
        for alert in alerts()
    ]
    return {
        "groups": [
            {"name": "actionrec-objective", "rules": recorded},
            {"name": "actionrec-alerts", "rules": shown},
        ]
    }


def _yaml(value: dict[str, Any]) -> str:
    made: str = yaml.safe_dump(value, sort_keys=False, width=1000)
    return f"# Made by `make panels` from deploy/observability/rules.py.\n{made}"


def _burn(times: float, long: str, short: str) -> str:
    """Of both windows: the long one says that it matters, the short one that it still goes on."""
    limit = f"{times} * {1 - OBJECTIVE:.3f}"
    return f"actionrec:errors:ratio{short} > {limit} and actionrec:errors:ratio{long} > {limit}"
