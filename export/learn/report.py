"""The report beside an archive: one HTML file that needs nothing else, for a telephone and for a desk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from .data import LEAST_VIDEOS, Example, Listing
from .measure import COUNTED, SURE_SHARE, Measured, Share
from .picture import bars, confusion

_SHOWN = 30
"""Wrong answers and videos left out that are named; the others are counted."""

_STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 62rem; padding: 1rem; font: 16px/1.5 system-ui, sans-serif; color: #1b1f24; }
h1 { font-size: 1.6rem; margin: .5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 1.6rem 0 .4rem; }
.verdict { border-left: .4rem solid #1f5ea8; background: #eef4fb; padding: .6rem 1rem; }
.verdict.good { border-color: #1a7f37; background: #eaf7ee; }
.verdict.chance, .verdict.fine-tune { border-color: #b35900; background: #fdf3e7; }
.figure { font-size: 2rem; font-weight: 600; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; } .pictures > div { flex: 1 1 20rem; min-width: 0; }
svg { max-width: 100%; height: auto; }
.wide { overflow-x: auto; } table { border-collapse: collapse; }
td, th { padding: .25rem .7rem .25rem 0; text-align: left; border-bottom: 1px solid #d0d7de; }
td.path { overflow-wrap: anywhere; min-width: 10rem; } td.number, th.number { text-align: right; }
pre { background: #f6f8fa; padding: .6rem; overflow-x: auto; } small, .quiet { color: #57606a; }
"""


def page(
    name: str,
    listing: Listing,
    measured: Measured,
    learned: dict[str, Any],
) -> str:
    """The report as HTML.

    Args:
        name: of the archive.
        listing: what was learned from.
        measured: how good it is.
        learned: what the archive says of it: `Manifest.learned`.
    """
    low, high = measured.plain.interval()
    base = learned["base"]
    sections = [
        f"<h1>{escape(name)}</h1>",
        f'<div class="verdict {measured.verdict.replace(" ", "-")}">{escape(measured.words)}</div>',
        f'<p><span class="figure">{measured.plain.value:.1%}</span> of the videos are recognised. '
        f"Of as many new ones like these it will be {low:.1%} to {high:.1%}.</p>",
        f"<p>Measured by {escape(learned['accuracy']['how'])}. The 95 % interval is Wilson's, {COUNTED} of the "
        f"{measured.plain.of} videos as one: the answers of a cross-validation depend on each other, and new "
        "videos have luck of their own. The archive has learned from all of the videos.</p>",
        _figures(measured),
        '<div class="pictures">',
        f"<div><h2>What is taken for what</h2>{confusion(listing.labels, measured.confusion)}</div>",
        f"<div><h2>Each label</h2>{bars(listing.labels, measured.labels)}</div>",
        "</div>",
        _labels(listing, measured.labels),
        _wrong(listing.examples, measured, listing.labels),
        _unsure(measured),
        _left_out(listing),
        "<h2>What it is</h2>",
        f"<p>{learned['method']} on <code>{escape(base['name'])}</code> ({escape(base['network'])}, weights "
        f"<code>{escape(base['weights'])}</code>), {escape(learned['date'])}. The list of what was learned has "
        f"sha256 <code>{escape(learned['data']['sha256'])}</code>. "
        f"{', '.join(f'{escape(key)} {value}' for key, value in learned['settings'].items())}.</p>",
        f"<pre>make serve\ncurl -T clip.mp4 http://127.0.0.1:8080/predictions/{escape(name)}</pre>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(name)}: what it has learned</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(section for section in sections if section)
        + "\n</body></html>\n"
    )


def _figures(measured: Measured) -> str:
    rows = [
        ("a plain request: one window", measured.plain),
        ("the mean of several windows (<code>views=3</code>)", measured.views),
    ]
    if measured.halved is not None:
        rows.append(("a plain request, learned from half of the videos", measured.halved))
    return _table(
        ("accuracy of", "", "95 % interval"),
        [[text, f"{share.value:.1%}", _interval(share)] for text, share in rows]
        + [["always the most frequent label", f"{measured.chance:.1%}", ""]],
    )


def _labels(listing: Listing, shares: Sequence[Share]) -> str:
    videos = listing.videos()
    examples = {label: sum(example.label == label for example in listing.examples) for label in listing.labels}
    rows = [
        [escape(label), str(videos[label]), str(examples[label]), f"{share.value:.0%}", _interval(share)]
        for label, share in zip(listing.labels, shares, strict=True)
    ]
    return _table(("label", "videos", "examples", "recognised", "95 % interval"), rows)


def _wrong(examples: Sequence[Example], measured: Measured, names: Sequence[str]) -> str:
    if not measured.wrong:
        return ""
    rows = []
    for number, answer, score in measured.wrong[:_SHOWN]:
        example = examples[number]
        span = "" if example.whole else f" from {example.start_seconds:.2f} s"
        rows.append(
            [f"{escape(str(example.path))}{span}", escape(example.label), escape(names[answer]), f"{score:.2f}"]
        )
    return (
        "<h2>Wrong answers</h2><p>The surest come first: those are the ones whose label may be wrong.</p>"
        + _table(("video", "label", "answer", "score"), rows)
        + _more(len(measured.wrong))
    )


def _unsure(measured: Measured) -> str:
    return (
        "<h2>None of these</h2>"
        f"<p>A reply whose best score is below <b>{measured.unsure_below:.3f}</b> has the warning "
        f"<code>UNSURE</code>: the video may show none of the labels. The number is chosen so that "
        f"{1 - SURE_SHARE:.0%} of the right answers are below; so are {measured.unsure_wrong:.0%} of the wrong "
        "ones.</p>"
    )


def _left_out(listing: Listing) -> str:
    parts = []
    if listing.left_out:
        rows = [[escape(str(one.path)), escape(one.reason)] for one in listing.left_out[:_SHOWN]]
        parts += ["<h2>Left out</h2>", _table(("video", "why"), rows), _more(len(listing.left_out))]
    if listing.notes:
        parts += ["<h2>Notes</h2><ul>", *(f"<li>{escape(note)}</li>" for note in listing.notes), "</ul>"]
    few = [label for label, count in listing.videos().items() if count < 2 * LEAST_VIDEOS]
    if few:
        parts.append(f'<p class="quiet">Few videos: {escape(", ".join(few))}.</p>')
    return "".join(parts)


def _interval(share: Share) -> str:
    low, high = share.interval()
    return f"{low:.0%} to {high:.0%}"


def _more(count: int) -> str:
    return f'<p class="quiet">{count - _SHOWN} more.</p>' if count > _SHOWN else ""


def _table(titles: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{title}</th>" for title in titles)
    body = "".join(
        "<tr>"
        + "".join(f"<td{' class=path' if column == 0 else ''}>{cell}</td>" for column, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
