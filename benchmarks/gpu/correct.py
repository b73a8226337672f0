"""``correct``: the tests that need a GPU, and every runtime and precision against the eager model.

Each form is exported and loaded as a worker loads it. Its scores are compared with the eager float32 model's,
each batch size with single clips, and on a GPU each batch size must be replayed from a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from benchmarks.gpu import goals, tests
from benchmarks.gpu.forms import Form
from benchmarks.gpu.plan import MOTION
from benchmarks.gpu.record import FAILED, Row
from benchmarks.gpu.stage import Stage
from export import parity

_COLLECTED = "tests collected"


def run(stage: Stage) -> list[Row]:
    """Run the stage; returns the goals that it answers."""
    first = [form for precision in stage.plan.precisions for form in stage.forms(stage.plan.models, precision)]
    # What the bundled model's tests say is said again by these rows, with figures: they come last.
    forms = sorted(first, key=lambda form: form.model == MOTION)
    stage.record.plan([_row(form) for form in forms] + [_row(form) for form in _others(stage, forms)])
    if not all(map(stage.prepare, stage.plan.models)):
        return goals.of_correct({})
    work: list[Callable[[], object]] = [partial(_compare, stage, form) for form in forms]
    try:
        names = tests.collect(stage)
    except (RuntimeError, OSError) as error:
        stage.record.put(_COLLECTED, FAILED, reason=str(error))
        names = []
    stage.record.plan(map(tests.row, names))
    # The full-size network in the best precision, then tests, then the rest: the least is what the time cuts
    # off.
    best = sum(form.precision == stage.plan.precisions[0] and form.model != MOTION for form in forms)
    stage.run([*work[:best], *tests.jobs(stage, names), *work[best:]])
    return goals.of_correct(stage.record.rows())


def _row(form: Form) -> str:
    return f"parity {form.name}"


def _others(stage: Stage, forms: list[Form]) -> list[Form]:
    """The best forms on each GPU but the first, which the others run on."""
    best = [form for form in forms if form.precision == stage.plan.precisions[0]]
    return [
        replace(form, device=f"cuda:{index}") for form in best for index in range(1, len(stage.host["gpus"]))
    ]


def _compare(stage: Stage, form: Form) -> None:
    """A form's rows: on the first GPU, and on the others."""
    here = [form, *(other for other in _others(stage, [form]) if other.folder == form.folder)]
    for each in here:
        clips = parity.clips_of(each.precision)
        stage.attempt(_row(each), partial(stage.compared, each, clips, stage.deadline))
