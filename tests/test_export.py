"""From weights to an archive: what is built is what was asked for, runs alone, and gives the same scores."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from actionrec.head import HEAD_FILE
from actionrec.manifest import Manifest
from actionrec.model.runtime import Runtime
from actionrec.spec import ClipSpec

from export import archive, artifacts, build, calibrate, cli, parity, weights, zoo
from export.build import Built, Order
from export.errors import ArchiveError, ExportError, WeightsError
from export.samples import sample_clips
from motion.clips import random_clip
from motion.scene import LABELS
from tests.fixtures_export import QUIET
from tests.helpers_http import FileServer, serve

pytest_plugins = ("tests.fixtures_export",)
pytestmark = pytest.mark.server

# What an archive must not need: the tools that built it, and this repository.
BLOCK_IMPORTS = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pytorchvideo", "torchvision", "export", "rich", "requests"):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocked())
"""


@pytest.fixture(scope="module")
def motion(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """An archive of `motion` with random weights: small, so quick to build."""
    store = tmp_path_factory.mktemp("store")
    return build.build(
        Order(
            runtime="torchscript", model="motion", weights="random", name="small", version="2.1", store=store
        ),
        QUIET,
    )


@pytest.fixture(scope="module")
def r50(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """An archive of the full SlowFast R50 with random weights, for few pixels so that it is quick to run."""
    store = tmp_path_factory.mktemp("store")
    return build.build(
        Order(runtime="torchscript", model="slowfast_r50", weights="random", crop_pixels=64, store=store), QUIET
    )


@pytest.fixture(scope="module")
def x3d_s(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The same of X3D-S, which has one pathway."""
    store = tmp_path_factory.mktemp("store")
    return build.build(
        Order(runtime="torchscript", model="x3d_s", weights="random", crop_pixels=64, store=store), QUIET
    )


def unpack(archive_file: Path, directory: Path) -> Path:
    """The archive's content, as TorchServe unpacks it."""
    with zipfile.ZipFile(archive_file) as file:
        file.extractall(directory)
    return directory


def run_alone(code: str, directory: Path) -> str:
    """What a script prints that sees the unpacked archive, and neither this repository nor its tools."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BLOCK_IMPORTS + code],
        cwd=directory, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_archive_serves_alone(motion: Built, tmp_path: Path) -> None:
    """An archive classifies a clip without pytorchvideo, torchvision and this repository, scores unchanged."""
    directory = unpack(motion.path, tmp_path)
    (tmp_path / "clip.mp4").write_bytes(random_clip(5, codec="libx264", size=(340, 256), fps=30).data)
    printed = run_alone(
        "import json, slowfast_handler\n"
        "from pathlib import Path\n"
        "from actionrec.video.decode import decode\n"
        "from actionrec.manifest import Manifest\n"
        "from actionrec.model.runtime import Runtime\n"
        "manifest = Manifest.load(Path('.'))\n"
        "runtime = Runtime(Path('.'), manifest)\n"
        "clip = decode(Path('clip.mp4').read_bytes(), manifest.spec)\n"
        "print(json.dumps(runtime.scores(runtime.transform([clip.frames])).tolist()))\n",
        directory,
    )
    here = Runtime(directory, motion.manifest)
    frames = sample_like_server(directory / "clip.mp4", motion.manifest.spec)
    np.testing.assert_allclose(json.loads(printed), here.scores(here.transform([frames])), atol=1e-5)


def sample_like_server(path: Path, spec: ClipSpec) -> np.ndarray:
    """Frames int16 [T, H, W, 3] of a file's first window."""
    from actionrec.video.decode import decode

    return decode(path.read_bytes(), spec).frames


def test_archive_says_what_is_in_it(motion: Built) -> None:
    """The archive carries its name, version, recipe, labels, weights, parity report and versions."""
    with zipfile.ZipFile(motion.path) as file:
        names = set(file.namelist())
        config = yaml.safe_load(file.read("model-config.yaml"))
        packed = json.loads(file.read("MAR-INF/MANIFEST.json"))["model"]
        labels = file.read("labels.txt").decode().splitlines()
    assert packed == {
        "modelName": "small",
        "modelVersion": "2.1",
        "handler": "slowfast_handler.py",
        "configFile": "model-config.yaml",
    }
    assert {"actionrec/__init__.py", "actionrec/video/decode.py", "slowfast_handler.py"} <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith("export")]
    assert {key: config[key] for key in archive.SERVING} == archive.SERVING
    described = config["actionrec"]
    assert (described["name"], described["version"], described["weights"]) == ("small", "2.1", "random")
    assert described["spec"] == zoo.get("motion").spec.to_dict()
    (artifact,) = described["forms"]
    assert (artifact["runtime"], artifact["precision"], artifact["built_on"]) == ("torchscript", "fp32", {})
    assert artifact["artifact"] in names
    assert artifact["parity"]["max_abs_score_difference"] <= artifact["parity"]["tolerance"] == 1e-3
    assert artifact["parity"]["top1_agreement"] == 1.0
    assert {"torch", "torchvision", "pytorchvideo", "av", "numpy", "cpu_capability"} <= set(
        described["built_with"]
    )
    assert tuple(labels) == LABELS


def test_checksum_file_fits_the_archive(motion: Built) -> None:
    """``<name>.mar.sha256`` is what sha256sum -c reads, and nothing else is left in the store."""
    digest = hashlib.sha256(motion.path.read_bytes()).hexdigest()
    assert motion.path.with_name("small.mar.sha256").read_text() == f"{digest}  small.mar\n"
    assert sorted(path.name for path in motion.path.parent.iterdir()) == ["small.mar", "small.mar.sha256"]


def test_creation_time_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """SOURCE_DATE_EPOCH decides the time that an archive says it was built at."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert archive.built_with()["created"] == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize(("name", "pathways"), [("r50", (8, 32)), ("x3d_s", (13,))])
def test_full_model_is_called_with_one_list(
    name: str, pathways: tuple[int, ...], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """An exported model runs as ``loaded([slow, fast])`` or ``loaded([frames])`` without pytorchvideo, for any
    batch size.
    """
    built: Built = request.getfixturevalue(name)
    directory = unpack(built.path, tmp_path)
    printed = run_alone(
        "import torch\n"
        "loaded = torch.jit.load('model.pt')\n"
        "for batch in (1, 3):\n"
        f"    pathways = [torch.zeros(batch, 3, frames, 64, 64) for frames in {pathways}]\n"
        "    print(*loaded(pathways).shape)\n",
        directory,
    )
    assert printed.split("\n")[:2] == ["1 400", "3 400"]


def test_random_weights_tell_clips_apart(r50: Built, tmp_path: Path) -> None:
    """WEIGHTS=random gives different clips different labels, with a score that stands out."""
    runtime = Runtime(unpack(r50.path, tmp_path), r50.manifest)
    frames = list(sample_clips(runtime.spec, 5, seed=500).numpy())  # neither the calibration's nor the gate's
    scores = np.concatenate([runtime.scores(runtime.transform([clip])) for clip in frames])
    assert len(set(scores.argmax(1).tolist())) >= 4
    assert scores.max(1).mean() > 20 / 400
    assert r50.manifest.artifacts[0].parity["distinct_top1"] >= 3


def test_random_weights_are_seeded() -> None:
    """The same seed gives the same weights on the same machine, another one gives others."""
    model = zoo.get("motion")
    clips = sample_clips(model.spec, 2, 0)
    states = []
    for seed in (3, 3, 4):
        net = model.build(model.spec, len(LABELS))
        calibrate.randomise(net, seed)
        calibrate.calibrate(net, model, clips)
        states.append(net.state_dict()[f"{model.head}.weight"])
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_what_cannot_be_compiled_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RUNTIME=auto builds the portable artifact where torch cannot export the other, and says why.

    RUNTIME=aoti is an error then.
    """

    def unable(*_: object, **__: object) -> None:
        raise NotImplementedError("no such operator")

    monkeypatch.setattr(torch.export, "export", unable)
    built = build.build(Order(model="motion", weights="random", store=tmp_path), QUIET)
    assert [artifact.runtime for artifact in built.manifest.artifacts] == ["torchscript"]
    assert "no aoti artifact: RUNTIME=aoti could not be compiled here: no such operator" in built.notice
    with pytest.raises(ExportError, match="no such operator"):
        build.build(Order(model="motion", weights="random", runtime="aoti", store=tmp_path), QUIET)


def test_auto_is_motion_without_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """MODEL=auto without a network builds `motion` by that name, and says why and how to get the other."""
    assert cli.main(["--store", str(tmp_path)]) == 0
    assert (tmp_path / "motion.mar").is_file()
    assert not (tmp_path / "slowfast_r50.mar").exists()
    printed = capsys.readouterr().out
    assert "The weights of slowfast_r50 are not here and could not be fetched" in printed
    assert "To get slowfast_r50: MODEL=slowfast_r50" in printed


@pytest.fixture(scope="module")
def published() -> bytes:
    """A file like the published weights of slowfast_r50."""
    model = zoo.get("slowfast_r50")
    buffer = io.BytesIO()
    torch.save({"model_state": model.build(model.spec, 400).state_dict()}, buffer)
    return buffer.getvalue()


@pytest.fixture
def mirror(published: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A server that has it. The full model is slow to run, so the gate makes do with two clips."""
    monkeypatch.setattr(parity, "CLIPS", 2)
    with serve(FileServer({zoo.get("slowfast_r50").published_file: published})) as state:
        monkeypatch.setenv(zoo.ZOO_URL_VARIABLE, state.url)
        yield state


def test_auto_is_slowfast_where_weights_can_be_had(
    mirror: FileServer, published: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """MODEL=auto fetches and builds `slowfast_r50`, at its full size, where a server has its weights."""
    assert cli.main(["--store", str(tmp_path)]) == 0
    digest = hashlib.sha256(published).hexdigest()
    described = Manifest.load(unpack(tmp_path / "slowfast_r50.mar", tmp_path / "unpacked"))
    assert (described.name, described.weights, described.spec) == (
        "slowfast_r50",
        f"sha256:{digest}",
        ClipSpec(),
    )
    assert mirror.requested_ranges == ["", ""]  # the question whether it is there, and the download
    printed = capsys.readouterr().out
    assert digest in printed
    assert "could not be fetched" not in printed


def test_crop_224(mirror: FileServer, tmp_path: Path) -> None:
    """CROP=224 changes the size of the input and nothing else, and passes the parity check."""
    built = build.build(
        Order(runtime="torchscript", model="slowfast_r50", crop_pixels=224, store=tmp_path), QUIET
    )
    assert built.manifest.spec == ClipSpec(crop=224, short_side=224)
    assert built.manifest.name == "slowfast_r50"
    assert built.weights_source.startswith(mirror.url)
    assert built.manifest.artifacts[0].parity["top1_agreement"] == 1.0


def test_named_model_without_weights_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """MODEL=slowfast_r50 without a network fails with one line and a hint, and builds nothing."""
    assert cli.main(["--model", "slowfast_r50", "--store", str(tmp_path / "store")]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["error", "hint"]
    assert list((tmp_path / "store").iterdir()) == []


@pytest.mark.parametrize(
    "order",
    [Order(runtime="torchscript", weights_sha256="0" * 64), Order(runtime="torchscript", crop_pixels=224)],
)
def test_auto_does_not_swap_models_on_who_wants_a_slowfast(tmp_path: Path, order: Order) -> None:
    """MODEL=auto with CROP or WEIGHTS_SHA256 means a SlowFast, and is an error where that cannot be had."""
    with pytest.raises(WeightsError, match="cannot download"):
        build.build(replace(order, store=tmp_path / "store"), QUIET)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--precision", "fp16", "--device", "cpu"],
            "PRECISION=fp16 is refused: this cpu runs fp16 far slower than fp32",
        ),
        (["--precision", "tf32", "--device", "cpu"], "PRECISION=tf32 is refused: this cpu has no tf32"),
        (["--precision", "int4"], "PRECISION=int4 is not known"),
        (["--runtime", "onnx"], "RUNTIME=onnx is not known"),
        (["--device", "tpu"], "DEVICE=tpu is not known"),
        (["--model", "slowfast_r18"], "MODEL=slowfast_r18 is not known"),
        (["--crop", "16"], "CROP=16 is too small"),
        (["--name", "a/b"], "NAME='a/b' cannot be part of an address"),
        (["--version", "1 0"], "VERSION='1 0' cannot be part of an address"),
        (["--model", "motion", "--weights", "random", "--name", "slowfast_r50"], "the name of another model"),
        (["--labels", "no-such-file.txt"], "LABELS=no-such-file.txt cannot be used"),
        (["--weights-sha256", "123"], "WEIGHTS_SHA256=123 is not a SHA-256"),
        (["--weights", "random", "--weights-sha256", "0" * 64], "random weights have no file"),
        (["--model", "motion", "--weights", "random", "--crop", "100"], "CROP=100 does not fit motion"),
    ],
)
def test_impossible_orders(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be built is refused with one line that names the value, and exit code 1."""
    assert cli.main([*arguments, "--store", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU, so DEVICE=cuda is right here")
def test_cuda_without_a_gpu() -> None:
    """DEVICE=cuda where torch sees no GPU is refused at once."""
    with pytest.raises(ExportError, match="torch sees no GPU"):
        artifacts.choose_targets("torchscript", "auto", "cuda", fallback=True)


def test_store_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A store that is a file is one clear line, before anything slow is begun."""
    (tmp_path / "store").write_text("")
    assert cli.main(["--model", "motion", "--store", str(tmp_path / "store")]) == 1
    assert "cannot write to" in capsys.readouterr().err


def test_full_disk(motion: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    """No space is one clear line, and the archive that was there before stays as it was."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    before = motion.path.read_bytes()
    with (
        pytest.raises(ArchiveError, match="No space left on device"),
        archive.workspace(motion.path.parent) as directory,
    ):
        archive.write(motion.manifest, directory, motion.path.parent)
    assert motion.path.read_bytes() == before
    assert not list(motion.path.parent.glob(".build-*"))


def test_archiver_that_fails(motion: Built, tmp_path: Path) -> None:
    """What torch-model-archiver complains about is passed on in one line."""
    with archive.workspace(tmp_path) as directory:
        for file in (HEAD_FILE, *(artifact.file for artifact in motion.manifest.artifacts)):
            (directory / file).touch()
        (directory / "small.mar").touch()  # it does not overwrite
        with pytest.raises(ArchiveError, match=r"torch-model-archiver failed: .*already exists"):
            archive.write(motion.manifest, directory, tmp_path)


def test_bundled_weights_are_whole() -> None:
    """The weights of `motion` in this repository are the model's, for all of its labels."""
    model = zoo.get("motion")
    found = weights.resolve(model)
    state = weights.load_state(found.path)
    assert weights.head_classes(state, found.path, model) == len(model.labels())
    weights.load_into(model.build(model.spec, len(model.labels())), state, found.path)
