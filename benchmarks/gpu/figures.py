"""``figures``: speed and memory in every runtime and precision, beside eager torch and the roofline.

All forms are exported, loaded and compared with the eager float32 model, side by side. Then those of one
precision after the other take turns at each batch size, with clips of noise. What a device can do at most is
measured in the same run.
"""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from functools import cache, partial

from actionrec.model.runtime import DTYPES

from benchmarks.claims import CLAIMS
from benchmarks.gpu import goals, roofline
from benchmarks.gpu.child import Child, ChildError
from benchmarks.gpu.forms import Form, zoo_model
from benchmarks.gpu.plan import EAGER, Deadline
from benchmarks.gpu.record import DONE, FAILED, Row
from benchmarks.gpu.stage import Stage
from benchmarks.measure import gpu_state
from export import parity

_SHARE_OF_CLAIMS = 0.2
"""Of the stage's time."""
_SHARE_OF_BUILDING = 0.45
"""The same."""
_COPY = "copy in memory"


def run(stage: Stage) -> list[Row]:
    """Run the stage; returns the goals that it answers."""
    plan, model = stage.plan, stage.plan.models[0]
    waves = {precision: stage.forms([model], precision, EAGER) for precision in plan.precisions}
    stage.record.plan([_COPY, *map(_product, plan.precisions)])
    stage.record.plan(_load(form) for forms in waves.values() for form in forms)
    stage.record.plan(map(_claim, CLAIMS))
    _peaks(stage)
    if not stage.prepare(model):
        return goals.of_figures({})
    building = stage.deadline.within(_SHARE_OF_BUILDING)
    stage.run([partial(_build, stage, form, building) for forms in waves.values() for form in forms])
    for_claims = stage.deadline.left * _SHARE_OF_CLAIMS
    for number, (precision, forms) in enumerate(waves.items()):
        seconds = max(0.0, stage.deadline.left - for_claims) / (len(waves) - number)
        _wave(stage, precision, forms, Deadline(seconds))
    _claims(stage)
    return goals.of_figures(stage.record.rows())


def _peaks(stage: Stage) -> None:
    plan = stage.plan
    with Child("benchmarks.gpu.peaks", "--device", plan.device, log=stage.places.log("peaks")) as child:
        left = stage.deadline.left
        stage.attempt(_COPY, partial(child.ask, "copy", left, size=plan.copied_bytes))
        for precision in plan.precisions:
            ask = partial(child.ask, "product", left, precision=precision, edge=plan.matrix)
            stage.attempt(_product(precision), ask)


def _claims(stage: Stage) -> None:
    """The tutorial's claims, each a row."""
    crop = zoo_model(stage.plan.models[0], stage.plan.crop).spec.crop
    arguments = ["--serve", "--device", stage.plan.device, "--crop", str(crop)]
    with Child("benchmarks.claims", *arguments, log=stage.places.log("claims")) as child:
        for claim in CLAIMS:
            stage.attempt(_claim(claim), partial(child.ask, "measure", stage.deadline.left, claim=claim))


def _build(stage: Stage, form: Form, deadline: Deadline) -> None:
    """A form's first row: it is exported, loaded and compared. What is wrong, or late, is not timed."""
    there = form.runtime == EAGER or (stage.places.work / form.folder).exists()
    stage.attempt(_load(form), lambda: stage.compared(form, parity.CLIPS, deadline), again=not there)


def _wave(stage: Stage, precision: str, forms: list[Form], deadline: Deadline) -> None:
    """The forms of one precision, all of them loaded, take turns."""
    wanted = [form for form in forms if stage.record.row(_load(form))["state"] == DONE]
    stage.record.plan(_timed(form, batch) for form in wanted for batch in stage.plan.batches)
    wanted = [form for form in wanted if not _all_timed(stage, form)]
    if not wanted or not deadline.left:
        return
    with ExitStack() as stack:
        processes = {form: stack.enter_context(stage.process(form)) for form in wanted}
        stage.run([partial(_reload, stage, form, process, deadline) for form, process in processes.items()])
        for batch in stage.plan.batches:
            _turns(stage, processes, batch, deadline)
    stage.record.put(f"GPU after {precision}", DONE, states=gpu_state())


def _all_timed(stage: Stage, form: Form) -> bool:
    """Whether a form has all of its figures."""
    return all(stage.record.settled(_timed(form, batch)) for batch in stage.plan.batches)


def _reload(stage: Stage, form: Form, process: Child, deadline: Deadline) -> None:
    """Load a form before its first turn. Where that fails, its first turn says so."""
    try:
        process.ask("load", deadline.left)
    except ChildError as error:
        stage.record.put(f"reload {form.name}", FAILED, reason=str(error), log=error.log)


def _turns(stage: Stage, ready: dict[Form, Child], batch: int, deadline: Deadline) -> None:
    """All forms at one batch size, turn by turn. Where a process ends, its next turn has a new one."""
    taken: dict[Form, list[Row]] = {form: [] for form in ready if not stage.record.settled(_timed(form, batch))}
    values = {"batch": batch, "seconds": stage.plan.turn_seconds}
    for _ in range(stage.plan.rounds):
        for form in list(taken):
            if not deadline.left:
                return
            try:
                taken[form].append(ready[form].ask("time", deadline.left, **values))
            except ChildError as error:
                del taken[form]
                if deadline.left:
                    stage.failed(_timed(form, batch), error)
    for form, turns in taken.items():
        stage.record.put(_timed(form, batch), DONE, **_figures(stage, form, batch, turns))


def _figures(stage: Stage, form: Form, batch: int, turns: list[Row]) -> Row:
    """A row: medians over the turns, and shares of what the device can do."""
    model, copy, whole = (statistics.median(turn[key] for turn in turns) for key in ("model", "copy", "whole"))
    cost = _cost(form.model, form.crop)
    row: Row = {
        "form": form.name,
        "runtime": form.runtime,
        "precision": form.precision,
        "batch": batch,
        "ms": model,
        "clips/s": batch / model * 1e3,
        "copy ms": copy,
        "clips/s with frames": batch / whole * 1e3,
        "parts": turns[0]["parts"],
        "peak GB": turns[-1]["peak GB"],
        "warnings": [text for turn in turns for text in turn["warnings"]],
    }
    peak = stage.record.row(_product(form.precision)).get("TFLOP/s")
    memory = stage.record.row(_COPY).get("GB/s")
    if peak and memory:
        flop = sum(layer.flop for layer in cost) * batch
        floor = roofline.seconds(cost, batch, peak * 1e12, memory * 1e9, DTYPES[form.precision].itemsize)
        row["of the matrix product"] = flop / (peak * 1e12) / (model / 1e3)
        row["of the roofline"] = floor / (model / 1e3)
    return row


@cache
def _cost(model: str, crop: int | None) -> list[roofline.Layer]:
    zoo = zoo_model(model, crop)
    return roofline.layers(zoo.build(zoo.spec, len(zoo.labels())), zoo.spec)


def _load(form: Form) -> str:
    return f"load {form.name}"


def _timed(form: Form, batch: int) -> str:
    return f"time {form.name} batch {batch}"


def _product(precision: str) -> str:
    return f"matrix product {precision}"


def _claim(claim: str) -> str:
    return f"claim: {claim}"
