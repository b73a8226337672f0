"""What TorchServe's metrics say of the decoding sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actionrec.service import Service
from ts.metrics.metric_type_enum import MetricTypes

if TYPE_CHECKING:
    from ts.context import Context

_MISSING = "actionrec_sandbox_defences_missing"
_REPLACED = "actionrec_sandbox_children_replaced_total"


class SandboxMetrics:
    """What the sandbox lacks, and how many of its children were replaced.

    Every worker of a model adds to one counter; the gauge is the same for all of them, which share a host.

    Args:
        service: whose sandbox it is.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._replaced = 0

    def add_to(self, context: Context) -> None:
        """Say how the sandbox is, and what was replaced since the last time."""
        state = self._service.sandbox_state()
        context.metrics.add_metric(_MISSING, state.missing, "count", 0, metric_type=MetricTypes.GAUGE)
        context.metrics.add_counter(_REPLACED, state.replaced - self._replaced, 0)
        self._replaced = state.replaced
