"""What a panel and a dashboard are."""

from __future__ import annotations

from dataclasses import dataclass

RATE = "$__rate_interval"
"""Grafana's own: long enough for a rate, whatever the zoom."""
GPU = "GPU"
"""Titles begin so where a query needs a GPU: NVIDIA's dcgm-exporter answers it."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture."""

    title: str
    says: str
    """What it answers, and what is normal."""
    unit: str
    """Grafana's name: ``s``, ``reqps``, ``bytes``, ``percentunit``, ``short``."""
    queries: tuple[tuple[str, str], ...]
    """PromQL and its legend."""
    number: bool = False
    """Show the last value only."""


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard."""

    name: str
    """Of its file, and its address in Grafana: ``actionrec-<name>``."""
    title: str
    panels: tuple[Panel, ...]


def quantiles_of(
    series: str, *by: str, quantiles: tuple[float, ...] = (0.5, 0.95, 0.99)
) -> tuple[tuple[str, str], ...]:
    """Queries and legends of a histogram's quantiles.

    Args:
        series: its ``_bucket``.
        by: labels that are kept apart.
        quantiles: 0 to 1.
    """
    labels = ", ".join((*by, "le"))
    legend = " ".join((*(f"{{{{{label}}}}}" for label in by),))
    return tuple(
        (
            f"histogram_quantile({quantile}, sum by ({labels}) (rate({series}[{RATE}])))",
            f"{legend} p{quantile * 100:g}".strip(),
        )
        for quantile in quantiles
    )
