"""METHOD=head: the network stays as it is, and its last layer is learned anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from actionrec.head import Head
from actionrec.model.runtime import Runtime
from actionrec.pipeline import Classifier
from actionrec.reply import Scores
from scipy.special import softmax

from .cache import Arrays, cache_folder
from .data import Example
from .embed import Embedded, Embedder
from .fit import Layer, Samples, fit, fold_count, steps
from .measure import measure
from .method import Outcome, Task
from .put_head import put_head

_CHECKED = 4
"""Examples whose scores the finished archive must give."""
_HOW = (
    "cross-validation in {folds} folds, with no video on both sides of one; the strength of regularisation is "
    "chosen inside each fold. An answer is that of a plain request: the first window of an example"
)


def learn(task: Task) -> Outcome:
    """Learn a head for a base archive; see `method`.

    Raises:
        ExportError: the videos that can be read are too few, or the model failed.
    """
    listing, tell = task.listing, task.tell
    runtime = Runtime(task.directory, task.manifest, task.device)

    def load() -> Classifier:
        runtime.warm_up()
        return Classifier(task.manifest, runtime, sandbox=True)

    cache = Arrays(cache_folder() / "embeddings")
    embedder = Embedder(load, task.manifest, task.directory, runtime.artifact, cache)
    try:
        with tell.counted("embedded", "looking at the videos", len(listing.examples)) as step:
            found, unreadable = embedder.embed(listing.examples, lambda _: step())
    finally:
        embedder.close()
    known = len(listing.left_out)
    listing = listing.without(unreadable)
    for one in listing.left_out[known:]:
        tell.say("left_out", f"left out: {one.path}: {one.reason}", path=str(one.path), reason=one.reason)
    listing.check()
    samples = samples_of(listing.examples, found, listing.labels)
    with tell.counted("fitted", "learning", steps(samples)) as step:
        fitted = fit(samples, step)
    measured = measure(samples, fitted.out_of_fold, fitted.halved, listing.labels)
    old = runtime.head
    head = Head(
        weight=fitted.layer.weight.astype(np.float32),
        bias=fitted.layer.bias.astype(np.float32),
        maps=old.maps,
        window=old.window,
    )
    put_head(head, task.directory)
    return Outcome(
        listing=listing,
        artifacts=tuple(replace(artifact, parity={}) for artifact in task.manifest.artifacts),
        weights=task.manifest.weights,
        measured=measured,
        how=_HOW.format(folds=fold_count(samples)),
        settings={"strength": fitted.strength, "temperature": round(fitted.temperature, 4)},
        expected=tuple((one, _scores(fitted.layer, found[one])) for one in _spread(listing.examples)),
    )


def samples_of(
    examples: tuple[Example, ...], found: dict[Example, Embedded], labels: tuple[str, ...]
) -> Samples:
    """The windows of examples as one array, with their labels."""
    counts = [len(found[example].embeddings) for example in examples]
    videos = {digest: number for number, digest in enumerate(dict.fromkeys(one.sha256 for one in examples))}
    return Samples(
        features=np.concatenate([found[example].embeddings for example in examples]).astype(np.float64),
        classes=np.repeat([labels.index(example.label) for example in examples], counts),
        examples=np.repeat(np.arange(len(examples)), counts),
        videos=np.repeat([videos[example.sha256] for example in examples], counts),
        count=len(labels),
    )


def _scores(layer: Layer, embedded: Embedded) -> Scores:
    scores: Scores = softmax(layer.logits(embedded.embeddings.astype(np.float64)), axis=1).astype(np.float32)
    return scores


def _spread(examples: tuple[Example, ...]) -> list[Example]:
    """Some examples, of different labels where there are."""
    places = np.linspace(0, len(examples) - 1, min(_CHECKED, len(examples))).astype(int)
    return [examples[place] for place in dict.fromkeys(places.tolist())]
