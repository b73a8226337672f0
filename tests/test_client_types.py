"""Promise: what can be asked for has a name and a type in the client, and what a server adds breaks nothing."""

import inspect
import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any, get_args, get_type_hints

import mypy.api
import pytest
from actionrec import request
from actionrec.spec import ClipSpec

from actionrec_client import ActionClient, BadReply, Description, Options
from actionrec_client.options import Crops, EmbeddingForm
from tests.conftest import PROJECT
from tests.helpers_cli import actionrec
from tests.helpers_misbehave import Answer, misbehaving

OPTIONS = frozenset(request._OPTIONS)
OF_TIMELINES = frozenset({"stride_seconds"})
OF_CLIPS = frozenset({"views", "explain"})
DESCRIBED: dict[str, Any] = {
    "name": "mine",
    "version": "2.0",
    "spec": ClipSpec(short_side=96, crop=96).describe(),
    "weights": "sha256:00",
    "labels": 3,
    "built_with": {"torch": "2.14.1", "threads": 4},
    "forms": [
        {"runtime": "aoti", "precision": "fp32", "parity": {"max_abs_score_difference": 0.5}},
        {"runtime": "torchscript", "precision": "fp32", "parity": {"max_abs_score_difference": 2e-7}},
    ],
    "serving": {
        "runtime": "torchscript",
        "precision": "fp32",
        "device": "cpu",
        "passed_over": ["aoti: no g++"],
    },
}
NEWER = {**DESCRIBED, "spec": {**DESCRIBED["spec"], "colour": "bt709"}, "embedding": {"size": 2304}}
OLDER = {**DESCRIBED, "spec": {k: v for k, v in DESCRIBED["spec"].items() if k != "pathways"}}


def keywords(method: Callable[..., object]) -> set[str]:
    """The arguments of a method that are options of a request."""
    return set(inspect.signature(method).parameters) & OPTIONS


def test_every_option_has_a_name() -> None:
    """Each option of the server is an argument of `classify`, or of `timeline` where it makes a timeline."""
    assert keywords(ActionClient.classify) == OPTIONS - OF_TIMELINES
    assert keywords(ActionClient.timeline) == OPTIONS - OF_CLIPS
    assert (
        keywords(ActionClient.classify_many) == keywords(ActionClient.classify) == set(Options.__annotations__)
    )


@pytest.mark.parametrize("method", [ActionClient.classify, ActionClient.classify_many, ActionClient.timeline])
def test_every_option_is_explained(method: Callable[..., object]) -> None:
    """Each stands in the docstring's list of arguments."""
    arguments = inspect.getdoc(method).split("Args:")[1].split("Raises:")[0]  # type: ignore[union-attr]
    for name in keywords(method):
        assert name in arguments


def test_a_closed_set_is_a_literal() -> None:
    """Crops and forms of embeddings are those that the server takes, and the types of `Options` those of
    `classify`.
    """
    assert get_args(Crops) == request._CROPS
    assert get_args(EmbeddingForm) == request._EMBEDDINGS
    hints = get_type_hints(ActionClient.classify)
    assert {name: hints[name] for name in keywords(ActionClient.classify)} == get_type_hints(Options)


def test_a_type_checker_sees_a_mistake() -> None:
    """A type checker takes what is right, and says what is wrong with each line that is not."""
    lines = {
        "client.classify('c.mp4', top_k=3, crops=3, views=10, start_seconds=0.5)": None,
        "client.classify('c.mp4', **Options(crops=1))": None,
        "client.classify('c.mp4', embedding='base64', explain=True)": None,
        "client.explain('c.mp4', 'archery').views[0].pathways[0].shares.mean()": None,
        "client.embed('c.mp4') @ client.embed_windows('c.mp4').vectors[0]": None,
        "client.classify('c.mp4', crops=2)": 'incompatible type "Literal[2]"',
        "client.classify('c.mp4', top_k='3')": 'incompatible type "str"',
        "client.classify('c.mp4', topk=3)": 'Unexpected keyword argument "topk"',
        "client.classify('c.mp4', embedding='numpy')": "incompatible type \"Literal['numpy']\"",
        "client.classify('c.mp4', explain=3)": 'incompatible type "Literal[3]"',
        "client.timeline('c.mp4', crops=4)": 'incompatible type "Literal[4]"',
        "client.classify_many(['c.mp4'], views=1.5)": 'incompatible type "float"',
    }
    head = "from actionrec_client import ActionClient, Options\nclient = ActionClient('http://h:1')\n"
    said, errors, _ = mypy.api.run(
        ["--config-file", str(PROJECT / "pyproject.toml"), "-c", head + "\n".join(lines)]
    )
    assert not errors
    found = {int(line.split(":")[1]): line for line in said.splitlines() if ": error:" in line}
    wanted = {number: text for number, text in enumerate(lines.values(), start=3) if text}
    assert found.keys() == wanted.keys(), said
    for number, text in wanted.items():
        assert text in found[number]


@pytest.mark.parametrize(
    "values", [DESCRIBED, NEWER, OLDER], ids=["this version", "a newer one", "an older one"]
)
def test_a_description(values: dict[str, Any]) -> None:
    """What this client needs of a model it finds in descriptions of other versions too; `raw` has all."""
    found = Description.from_dict(values)
    assert found.spec == ClipSpec(short_side=96, crop=96)
    assert (found.name, found.version, found.labels, found.weights) == ("mine", "2.0", 3, "sha256:00")
    assert (found.runtime, found.precision, found.device) == ("torchscript", "fp32", "cpu")
    assert (found.score_difference, found.rejected) == (2e-7, ("aoti: no g++",))
    assert found.built_with == {"torch": "2.14.1"}
    assert found.raw == values


@pytest.mark.parametrize(
    "values", [{}, {"labels": 3}, {**DESCRIBED, "spec": {"fps": 30}}, {**DESCRIBED, "labels": "many"}]
)
def test_a_description_of_something_else(values: dict[str, Any]) -> None:
    """Without a recipe or a number of labels it is a bad reply, and not a KeyError."""
    with pytest.raises(BadReply, match="another version"):
        Description.from_dict(values)


def test_the_command_describes_a_newer_server() -> None:
    """`describe` has its table for people, and with --json what the server says, unknown fields too."""
    with misbehaving([Answer(body=[{"customizedMetadata": NEWER}])]) as server:
        options = ("--url", server.url, "--management-url", server.url, "--model", "mine")
        table = actionrec("describe", *options)
        as_json = actionrec("describe", "--json", *options)
    assert table.returncode == 0, table.stderr
    for text in (
        "mine 2.0",
        "32 frames of 2.1333 s, 96 x 96 pixels",
        "torchscript fp32 cpu",
        "2.0e-07",
        "no g++",
    ):
        assert text in table.stdout
    assert json.loads(as_json.stdout) == NEWER


def test_each_class_has_a_name_of_its_own() -> None:
    """No two classes of the client are called the same."""
    sources = (PROJECT / "actionrec_client").rglob("*.py")
    names = re.findall(r"^class (\w+)", "\n".join(path.read_text(encoding="utf-8") for path in sources), re.M)
    assert len(names) > 60
    assert [name for name, count in Counter(names).items() if count > 1] == []
