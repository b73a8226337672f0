"""Promise: compiled code runs only on a host like its builder's; elsewhere the portable artifact does."""

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from actionrec.manifest import Artifact, Manifest
from actionrec.model import host
from actionrec.model.host import fingerprint, mismatch
from actionrec.model.runtime import Runtime
from actionrec.pipeline import Classifier
from actionrec.reply import Prediction
from actionrec.request import ClipRequest
from actionrec.video.decode import decode
from rich.console import Console

from export.artifacts import choose_targets
from export.build import Order, build
from export.errors import ExportError
from motion.clips import random_clip


def altered(directory: Path, change: Callable[[Artifact], Artifact]) -> Manifest:
    """The archive's manifest with its compiled artifact changed."""
    manifest = Manifest.load(directory)
    first, *rest = manifest.artifacts
    return replace(manifest, artifacts=(change(first), *rest))


def elsewhere(artifact: Artifact) -> Artifact:
    return replace(artifact, built_on={**artifact.built_on, "torch": "2.0.0"})


def test_auto_has_the_compiled_and_the_portable_form(motion_unpacked: Path) -> None:
    """An archive built for this host is served by its compiled artifact, and has the other one too."""
    classifier = Classifier.load(motion_unpacked)
    assert [artifact.runtime for artifact in classifier.manifest.artifacts] == ["aoti", "torchscript"]
    serving = classifier.describe()["serving"]
    assert (serving["runtime"], serving["passed_over"]) == ("aoti", [])


def test_another_host_gets_the_portable_form(motion_unpacked: Path, caplog: pytest.LogCaptureFixture) -> None:
    """On another host the log and the description say why, and the scores are the same."""
    here = Classifier.load(motion_unpacked)
    manifest = altered(motion_unpacked, elsewhere)
    there = Classifier(manifest, Runtime(motion_unpacked, manifest))
    (reason,) = there.describe()["serving"]["passed_over"]
    assert (
        reason == "aoti fp32: it was compiled for torch 2.0.0, and this host has " + fingerprint("cpu")["torch"]
    )
    assert reason.removeprefix("aoti fp32: ") in caplog.text
    request = ClipRequest(random_clip(31).data)
    (one,), (other,) = here.classify([request]), there.classify([request])
    assert isinstance(one, Prediction)
    assert isinstance(other, Prediction)
    assert np.allclose(one.scores, other.scores, atol=1e-4)
    assert there.reply(other, 1)["model"]["runtime"] == "torchscript"


def test_pathways_in_another_layout_score_the_same(motion_unpacked: Path) -> None:
    """Compiled code is made for pathways as `pack` lays them out; others give the same scores."""
    runtime = Runtime(motion_unpacked, Manifest.load(motion_unpacked))
    assert runtime.artifact.runtime == "aoti"
    prepared = runtime.transform([decode(random_clip(31).data, runtime.spec).frames])
    (pathways,) = prepared
    otherwise = [pathway.contiguous() for pathway in pathways]
    assert all(one.stride() != other.stride() for one, other in zip(pathways, otherwise, strict=True))
    assert np.array_equal(runtime.scores(prepared), runtime.scores([otherwise]))


def test_without_a_fallback_it_refuses(motion_unpacked: Path) -> None:
    """An archive that has only an artifact for another host does not start, and says what to do."""
    manifest = altered(motion_unpacked, elsewhere)
    with pytest.raises(RuntimeError, match=r"No artifact of motion runs on cpu: .*2\.0\..*RUNTIME=torchscript"):
        Runtime(motion_unpacked, replace(manifest, artifacts=manifest.artifacts[:1]))


def test_a_form_for_a_gpu_is_passed_over_on_a_cpu(motion_unpacked: Path) -> None:
    """Half precision and CUDA code are not tried on a CPU."""
    gpu = altered(motion_unpacked, lambda artifact: replace(artifact, device="cuda", built_on={"gpu": "sm_90"}))
    assert "compiled for cuda" in Runtime(motion_unpacked, gpu).rejected[0]
    half = altered(motion_unpacked, lambda artifact: replace(artifact, precision="fp16"))
    assert "runs fp16 far slower" in Runtime(motion_unpacked, half).rejected[0]
    tf32 = altered(motion_unpacked, lambda artifact: replace(artifact, precision="tf32"))
    assert "this cpu has no tf32" in Runtime(motion_unpacked, tf32).rejected[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"torch": "2.0"}, "torch 2.0"),
        ({"machine": "sparc"}, "machine sparc"),
        ({"gpu": "sm_90"}, "gpu sm_90"),
        ({"instruction_sets": ["avx", "avx1024"]}, "lacks avx1024"),
        ({"instruction_sets": []}, None),
    ],
)
def test_fingerprint(change: dict[str, Any], said: str | None) -> None:
    """A host with the same torch, machine and at least the same instruction sets matches; others are told."""
    reason = mismatch({**fingerprint("cpu"), **change}, "cpu")
    assert reason is None if said is None else said in str(reason)


def test_no_temporary_file_stays(
    motion_unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled code that was unpacked to be loaded is gone at once: a killed worker leaves none on the disk."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    runtime = Runtime(motion_unpacked, Manifest.load(motion_unpacked))
    assert runtime.artifact.runtime == "aoti"
    assert os.environ["TMPDIR"] == str(tmp_path)
    assert list(tmp_path.iterdir()) == []
    runtime.warm_up()


def test_a_form_that_does_not_load_is_passed_over(motion_unpacked: Path, tmp_path: Path) -> None:
    """A compiled artifact that the loader refuses costs speed, not the service; the reason is told."""
    for file in motion_unpacked.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    manifest = Manifest.load(tmp_path)
    (tmp_path / manifest.artifacts[0].file).write_bytes(b"no package at all")
    runtime = Runtime(tmp_path, manifest)
    assert runtime.artifact.runtime == "torchscript"
    assert runtime.rejected[0].startswith("aoti fp32: ")


_SERVE_COMPILED = """
import sys
from pathlib import Path
from actionrec.pipeline import Classifier
from actionrec.request import ClipRequest
classifier = Classifier.load(Path(sys.argv[1]))
(answer,) = classifier.classify([ClipRequest(Path(sys.argv[2]).read_bytes())])
compiler = any(name.startswith(("torch._dynamo", "torch._inductor")) for name in sys.modules)
print(classifier.runtime.artifact.runtime, compiler, answer.scores.tolist())
"""


def test_compiled_code_is_served_without_the_compiler(motion_unpacked: Path, tmp_path: Path) -> None:
    """A worker with an aoti artifact imports nothing of torch's compiler, which is slow to import and large."""
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(random_clip(31).data)
    command = [sys.executable, "-W", "ignore", "-c", _SERVE_COMPILED, str(motion_unpacked), str(clip)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split()[:2] == ["aoti", "False"]


@pytest.mark.slow
def test_code_compiled_at_load_survives_a_restart(
    motion_unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RUNTIME=compile gives the same scores, and its second start compiles no code."""
    store, there, cache = tmp_path / "store", tmp_path / "there", tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    make = [sys.executable, "-m", "export", "--model", "motion", "--runtime", "compile", "--fallback", "0"]
    subprocess.run([*make, "--store", str(store)], check=True, capture_output=True, timeout=600)
    zipfile.ZipFile(store / "motion.mar").extractall(there)
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(random_clip(31).data)
    command = [sys.executable, "-W", "ignore", "-c", _SERVE_COMPILED, str(there), str(clip)]
    compiled = {path: path.stat().st_mtime_ns for path in cache.rglob("*.so")}
    assert compiled
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    runtime, compiler, scores = done.stdout.split(maxsplit=2)
    assert (runtime, compiler) == ("compile", "True")
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.so")} == compiled
    (expected,) = Classifier.load(motion_unpacked).classify([ClipRequest(clip.read_bytes())])
    assert isinstance(expected, Prediction)
    assert np.allclose(json.loads(scores), expected.scores, atol=1e-4)


@pytest.mark.parametrize(
    ("flags", "precision", "fast"),
    [
        ({"avx2"}, "fp32", True),
        ({"avx2", "f16c"}, "fp16", False),
        ({"avx512_bf16"}, "bf16", True),
        ({"avx2"}, "bf16", False),
        ({"amx_bf16", "amx_tile"}, "fp16", False),
        ({"amx_fp16"}, "fp16", True),
        ({"avx512_bf16", "amx_bf16", "amx_fp16"}, "tf32", False),
    ],
)
def test_half_precision_needs_instructions(
    flags: set[str], precision: str, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CPU is given half precision only where it has instructions for it."""
    monkeypatch.setattr(host, "_instruction_sets", lambda: flags)
    assert host.has_fast(precision, "cpu") is fast


@pytest.mark.server
def test_bf16_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled artifact in bf16 passes the parity gate; a CPU without the instructions gets the fp32
    one.
    """
    here = host._instruction_sets()
    monkeypatch.setattr(host, "_instruction_sets", lambda: here | {"avx512_bf16"})
    built = build(Order(model="motion", precision="bf16", store=tmp_path), Console(quiet=True))
    assert [(f.runtime, f.precision) for f in built.manifest.artifacts] == [
        ("aoti", "bf16"),
        ("torchscript", "fp32"),
    ]
    zipfile.ZipFile(built.path).extractall(tmp_path / "motion")
    request = ClipRequest(random_clip(31).data)
    (half,) = Classifier.load(tmp_path / "motion").classify([request])
    monkeypatch.setattr(host, "_instruction_sets", lambda: here - {"avx512_bf16", "amx_bf16"})
    plain = Classifier.load(tmp_path / "motion")
    (whole,) = plain.classify([request])
    assert plain.describe()["serving"]["precision"] == "fp32"
    assert "runs bf16 far slower" in plain.describe()["serving"]["passed_over"][0]
    assert isinstance(half, Prediction)
    assert isinstance(whole, Prediction)
    assert np.allclose(half.scores, whole.scores, atol=0.05)
    assert not np.array_equal(half.scores, whole.scores)


def test_bf16_is_not_for_uncompiled_models_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch lacks some of the layers; the message says which artifact has them all."""
    monkeypatch.setattr(host, "_instruction_sets", lambda: {"avx512_bf16"})
    with pytest.raises(ExportError, match="bf16 with RUNTIME=torchscript") as refused:
        choose_targets("torchscript", "bf16", "cpu", fallback=True)
    assert "RUNTIME=aoti" in refused.value.hint
