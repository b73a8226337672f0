"""Promise: links, paths, names and tables of the documents are those of the project; a site comes of them."""

from __future__ import annotations

import re
import subprocess
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from actionrec import problems, request
from actionrec.limits import Limits
from actionrec.sandbox import confine

from actionrec_client.cli import app
from export import zoo
from tests.answers import FRONT, HANDLER, TORCHSERVE, TORCHSERVE_FORMS
from tests.conftest import PROJECT
from tests.documents import DOCUMENTS, anchors, links, read, table, without_code
from tests.hostile import CASES, REFUSED_BY_SERVER

MOST_README_LINES = 200
SITE = PROJECT / "build" / "site"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links(document: str) -> None:
    """Each link to a file leads to one, and each anchor to a heading."""
    for target, anchor in links(document):
        path = (PROJECT / document).parent / target if target else PROJECT / document
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path.read_text(encoding="utf-8")), f"{target}#{anchor}"


@pytest.mark.parametrize("document", [document for document in DOCUMENTS if document != "CHANGELOG.md"])
def test_paths(document: str) -> None:
    """Each path of the repository that a document names in code is there; the changelog has older ones."""
    rooms = "|".join(path.name for path in PROJECT.iterdir() if path.is_dir() and not path.name.startswith("."))
    for path in re.findall(rf"`((?:{rooms})/[\w./-]+)`", without_code(read(document))):
        made = path.startswith(("build/", "logs/", "model_store/"))
        assert made or (PROJECT / path).exists(), path


def test_the_readme_is_short() -> None:
    """The README is read in five minutes."""
    assert len(read("README.md").splitlines()) <= MOST_README_LINES


def test_the_readme_leads_to_every_document() -> None:
    """Whoever has read the README knows where each document is."""
    linked = {target for target, _ in links("README.md")}
    assert {document for document in DOCUMENTS if document.startswith("docs/")} <= linked


def test_make_targets() -> None:
    """`make` lists every target that a document names."""
    listed = subprocess.run(
        ["make", "help"], cwd=PROJECT, capture_output=True, text=True, timeout=60, check=True
    )
    named = {
        target
        for document in DOCUMENTS
        for target in re.findall(r"(?:`|^|&& )make ([a-z][a-z0-9-]+)", read(document), re.M)
    }
    assert len(named) > 20
    for target in named:
        assert re.search(rf"^{target}\b", listed.stdout, re.M), target


def test_the_checks_of_a_change() -> None:
    """What runs before a change is taken is what the README and CONTRIBUTING tell people to run."""
    commands = re.findall(r"^make [a-z-]+$", (PROJECT / ".ci" / "run").read_text(encoding="utf-8"), re.M)
    assert commands == ["make lint", "make test"]
    assert re.search(r"^make test\b", read("README.md"), re.M)
    for command in commands:
        assert f"`{command}`" in read("CONTRIBUTING.md"), command


def test_options() -> None:
    """The table of options has those that a request may have, and no others."""
    assert [row[0].strip("`") for row in table("docs/requests.md", "option")] == list(request._OPTIONS)


def test_answers() -> None:
    """The table of codes has those of the handler, of nginx and of TorchServe, and no others."""
    rows = {
        (int(status), code)
        for status, codes, _ in table("docs/requests.md", "status")
        for code in re.findall(r"`(\w+)`", codes)
    }
    assert {row for row in rows if row[1].isupper()} == HANDLER | FRONT
    assert rows >= TORCHSERVE
    assert {(case.status, case.code) for case in CASES if case.status != 200} <= rows
    theirs = {int(row[0]) for row in table("docs/requests.md", "status") if row[1].startswith("TorchServe's")}
    refused = {refusal.status for refusal in REFUSED_BY_SERVER if refusal.says != "NO_VIDEO"}
    assert theirs >= TORCHSERVE_FORMS | refused
    front = read("docs/production.md").split("of its own.")[0].rsplit("errors, with", 1)[1]
    assert set(re.findall(r"`([A-Z_]+)`", front)) <= {code for _, code in FRONT}


def test_warnings() -> None:
    """The table of warnings has those that a reply may have, and no others."""
    codes = {warning.code for warning in problems._WARNINGS.values()} | {problems._MISSING, problems.UNSURE}
    assert {row[0].strip("`") for row in table("docs/requests.md", "warning")} == codes


def test_limits() -> None:
    """Every limit stands in its table with its default."""
    listed = {row[0].strip("`"): float(row[1]) for row in table("docs/limits-and-sandbox.md", "limit")}
    assert listed == {limit.name: float(str(limit.default)) for limit in fields(Limits)}


def test_defences() -> None:
    """The table of defences has those that a sandbox may insist on, and its words for all of them."""
    listed = " ".join(row[0] for row in table("docs/limits-and-sandbox.md", "defence"))
    assert {f"`{name}`" for name in confine.REQUIRED} <= set(listed.split())
    source = (PROJECT / "handler/actionrec/sandbox/confine.py").read_text(encoding="utf-8")
    for name in re.findall(r"`(\w+)`", listed):
        assert f'"{name}"' in source, name


def test_models() -> None:
    """The table of models has those that can be built by name."""
    assert {row[0].strip("`") for row in table("README.md", "`MODEL=`")} == set(zoo.NAMES)


def test_variables_of_a_build() -> None:
    """Every variable that `make archive` passes on has its line."""
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    recipe = makefile.split("\narchive: ")[1].split("\n\n")[0]
    passed = set(re.findall(r"'\$\((\w+)\)'", recipe))
    assert {row[0].strip("`") for row in table("docs/own-models.md", "variable")} == passed


def test_commands() -> None:
    """Every command is named in the table of commands."""
    text = " ".join(" ".join(row) for row in table("docs/command-line.md", "you have"))
    for command in app.registered_commands:
        name = command.name or getattr(command.callback, "__name__", "")
        assert re.search(rf"`(actionrec )?{name}\b", text), name


def test_glossary() -> None:
    """Each word stands in the code where the glossary says."""
    text = read("docs/glossary.md")
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \| `([^`]+)` `([^`]+)` \|$", text, re.M)
    assert len(rows) == sum(line.startswith("| ") for line in text.splitlines()) - text.count("| word |")
    for word, path, name in rows:
        assert re.search(rf"\b{name}\b", (PROJECT / path).read_text(encoding="utf-8")), word


def test_the_picture_of_the_rooms() -> None:
    """The picture has the rooms and layers that import-linter holds, in their order."""
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    picture = re.findall(
        r'class="m big"[^>]*>([^<]+)<', (PROJECT / "docs/rooms.svg").read_text(encoding="utf-8")
    )
    layers = [
        part.strip()
        for contract in settings["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
        for layer in contract["layers"]
        for part in layer.split("|")
    ]
    assert picture == layers


def test_the_picture_of_the_way() -> None:
    """Each file that the picture of a clip's way names is there."""
    files = [
        f"/{path.relative_to(PROJECT)}"
        for room in ("handler", "deploy")
        for path in (PROJECT / room).rglob("*.*")
    ]
    names = re.findall(r"[\w/]+\.(?:py|conf)\b", read("docs/way-of-a-clip.svg"))
    assert len(names) > 20
    for name in names:
        assert any(file.endswith(f"/{name}") for file in files), name


@pytest.mark.slow
def test_the_site() -> None:
    """`make docs` builds every document and the API, with no warning and nothing that comes from elsewhere."""
    done = subprocess.run(
        ["make", "docs"], cwd=PROJECT, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path.name: path.read_text(encoding="utf-8") for path in SITE.glob("*.html")}
    wanted = {Path(document).stem for document in DOCUMENTS if document.startswith("docs/")}
    assert wanted | {"index", "CONTRIBUTING", "SECURITY", "CHANGELOG"} <= {Path(name).stem for name in pages}
    assert 'id="actionrec_client.ActionClient.classify"' in pages["api-client.html"]
    assert 'id="actionrec.service.Service.answer"' in pages["api-actionrec.html"]
    for page in pages.values():
        assert not re.search(r"<(?:script|link|img|iframe|source)[^>]+(?:src|href)=[\"']?(?:https?:)?//", page)
    for style in SITE.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", text), style
