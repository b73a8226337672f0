"""`panels` as Grafana's JSON, by Grafana's own library."""

from __future__ import annotations

import json

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef

from .panels import BOARDS, Board, Panel

_SOURCE = DataSourceRef(type_val="prometheus", uid="${source}")
_WIDTH, _HEIGHT = 12, 8
"""Of a panel; Grafana counts 24 across."""


def texts() -> dict[str, str]:
    """Name of a board -> its JSON."""
    return {
        board.name: json.dumps(_drawn(board).build(), cls=JSONEncoder, indent=1, sort_keys=True) + "\n"
        for board in BOARDS
    }


def _drawn(board: Board) -> dashboard.Dashboard:
    source = dashboard.DatasourceVariable("source").label("Prometheus").type("prometheus")
    drawn = (
        dashboard.Dashboard(board.title)
        .uid(f"actionrec-{board.name}")
        .tags(["actionrec"])
        .timezone("browser")
        .time("now-1h", "now")
        .refresh("30s")
        .with_variable(source)
        .link(dashboard.DashboardLink("Action recognition").tags(["actionrec"]).as_dropdown(True))
    )
    for panel in board.panels:
        drawn = drawn.with_panel(_panel(panel))
    return drawn


def _panel(panel: Panel) -> stat.Panel | timeseries.Panel:
    made: stat.Panel | timeseries.Panel = stat.Panel() if panel.number else timeseries.Panel().min(0)
    made = made.title(panel.title).description(panel.says).unit(panel.unit)
    made = made.datasource(_SOURCE).span(_WIDTH).height(_HEIGHT)
    for expression, legend in panel.queries:
        made = made.with_target(
            prometheus.Dataquery().expr(expression).legend_format(legend).datasource(_SOURCE).range()
        )
    return made
