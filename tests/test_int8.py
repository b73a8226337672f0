"""Promise: a network in int8 is taken apart by its structure, and is as close as was asked for, or refused."""

from __future__ import annotations

import copy
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from actionrec.limits import Limits
from actionrec.model import host
from actionrec.model.head import TorchHead
from actionrec.model.loaders import LOADERS
from actionrec.model.transform import LAYOUT, pack
from actionrec.pipeline import Classifier
from actionrec.service import Row, Service
from rich.console import Console
from torch import Tensor, nn
from torch._inductor import config as inductor_config
from torch.nn import functional

from export import artifacts, zoo
from export.build import Order, build
from export.calibration import Calibration, from_folder
from export.errors import ExportError
from export.fold import fold
from export.quantise import choose
from export.quantise.choose import Closeness, Quantising, as_good, quantise
from export.quantise.in_place import sums_in_place, tied
from export.quantise.layers import ByteConvolution, FloatConvolution, Scale
from export.quantise.ranges import Range, Ranges, observe
from export.quantise.refine import refine
from export.quantise.steps import Addition, Concatenation, Convolution, Network, Pathway, Pool, network
from export.quantise.trunk import ByteTrunk, _pooled
from export.samples import sample_clips
from export.split import split
from motion.clips import random_clip
from motion.evaluate import load
from motion.model import MOTION_SPEC, WEIGHTS


@pytest.fixture(scope="module")
def motion() -> tuple[nn.Module, Network, TorchHead, Tensor, Ranges]:
    """The bundled model: its trunk, that as steps, its head, twelve clips, and ranges on the first six."""
    trunk, head = split(load(WEIGHTS), MOTION_SPEC)
    folded = copy.deepcopy(trunk)
    fold(folded, MOTION_SPEC)
    net = network(folded, MOTION_SPEC)
    clips = sample_clips(MOTION_SPEC, 12, 3000)
    return trunk, net, TorchHead(head), clips, observe(net, MOTION_SPEC, clips[:6])


Motion = tuple[nn.Module, Network, TorchHead, Tensor, Ranges]


@torch.inference_mode()
def scores_of(trunk: nn.Module, head: TorchHead, clips: Tensor) -> Tensor:
    levels = (pack(clip, MOTION_SPEC, dtype=torch.uint8) for clip in torch.split(clips, 1))
    return torch.cat([head(trunk(each)).softmax(1) for each in levels])


@torch.inference_mode()
def true_scores(trunk: nn.Module, head: TorchHead, clips: Tensor) -> Tensor:
    return torch.cat([head(trunk(pack(clip, MOTION_SPEC))).softmax(1) for clip in torch.split(clips, 1)])


def test_steps_compute_what_the_network_does(motion: Motion) -> None:
    """The steps give the trunk's own maps; of each kind there are as many as the network has."""
    trunk, net, _, clips, _ = motion
    with torch.inference_mode():
        expected = trunk(pack(clips[:1], MOTION_SPEC))
    got = net.run(pack(clips[:1], MOTION_SPEC))
    for maps, right in zip(got, expected, strict=True):
        torch.testing.assert_close(maps, right, atol=1e-4, rtol=1e-4)
    counts = [sum(isinstance(step, kind) for step in net.steps) for kind in (Pathway, Convolution, Addition)]
    assert counts == [2, 37, 8]


@pytest.mark.parametrize(
    ("name", "pathways", "convolutions", "additions", "pools", "concatenations", "in_place"),
    [
        ("slowfast_r50", 2, 110, 32, 2, 4, 22),
        ("slowfast_16x8_r101_50_50", 2, 212, 66, 2, 4, 56),
        ("slow_r50", 1, 53, 16, 1, 0, 11),
    ],
)
def test_published_networks(
    name: str,
    pathways: int,
    convolutions: int,
    additions: int,
    pools: int,
    concatenations: int,
    in_place: int,
) -> None:
    """Networks of one pathway and two, of every depth, are known by their graph."""
    model = zoo.get(name)
    trunk, _ = split(model.build(model.spec, 4), model.spec)
    fold(trunk, model.spec)
    kinds = (Pathway, Convolution, Addition, Pool, Concatenation)
    found = network(trunk, model.spec)
    assert [sum(isinstance(step, kind) for step in found.steps) for kind in kinds] == [
        *(pathways, convolutions, additions, pools, concatenations)
    ]
    assert len(sums_in_place(found, ())) == in_place


class Odd(nn.Module):
    """A convolution, and something that no step is."""

    def __init__(self, after: nn.Module) -> None:
        super().__init__()
        self.conv, self.after = nn.Conv3d(3, 4, 1), after

    def forward(self, pathways: list[Tensor]) -> tuple[Tensor, ...]:
        return tuple(self.after(self.conv(pathway)) for pathway in pathways)


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (nn.SiLU(), "aten.silu"),
        (nn.Conv3d(4, 4, 1, groups=2), "2 groups"),
        (nn.Conv3d(4, 4, 3, dilation=2), r"dilation \[2, 2, 2\]"),
        (nn.MaxPool3d(2), "aten.max_pool3d"),
        (nn.AvgPool3d(2), "aten.avg_pool3d"),
    ],
)
def test_other_networks_are_refused(after: nn.Module, said: str) -> None:
    """What is no convolution, addition, concatenation or pool within frames is refused by its name."""
    with pytest.raises(ExportError, match=said) as refused:
        network(Odd(after).eval(), MOTION_SPEC)
    assert "fp32 or bf16" in refused.value.hint


def test_a_network_whose_relus_others_see_through_is_refused() -> None:
    """A step whose value before its ReLU is taken too has no byte to stand for it."""

    class Peeking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(3, 3, 1)

        def forward(self, pathways: list[Tensor]) -> tuple[Tensor, ...]:
            seen = [self.conv(pathway) for pathway in pathways]
            return tuple((one.relu() + one).relu() for one in seen)

    with pytest.raises(ExportError, match="which others take too"):
        network(Peeking().eval(), MOTION_SPEC)


def test_bytes_are_close(motion: Motion) -> None:
    """All in bytes, every label is the same and scores differ by little, also on clips that gave no ranges."""
    trunk, net, head, clips, ranges = motion
    expected, got = (
        true_scores(trunk, head, clips),
        scores_of(ByteTrunk(net, MOTION_SPEC, ranges, 1.15), head, clips),
    )
    assert torch.equal(got.argmax(1), expected.argmax(1))
    assert float((got - expected).abs().amax(1).mean()) < 0.01
    assert not torch.equal(got, expected)


def test_convolutions_in_floating_point(motion: Motion) -> None:
    """Any of them may stay in floating point: first, before an addition, inside a block, last, or all."""
    trunk, net, head, clips, ranges = motion
    expected = true_scores(trunk, head, clips[:2])
    names = [step.name for step in net.convolutions]
    added = [name for step in net.steps if isinstance(step, Addition) for name in step.inputs if name in names]
    for floats in (names[:2], added[:2], names[5:7], added[-2:], names):
        got = scores_of(ByteTrunk(net, MOTION_SPEC, ranges, 1.15, floats), head, clips[:2])
        assert float((got - expected).abs().max()) < 0.05


@pytest.mark.parametrize("channels", [4, 12])
def test_convolution_of_bytes(channels: int) -> None:
    """A convolution of bytes is the true one, rounded: with few outputs, where two frames go at once, too; with
    borders that stand for the recipe's mean.
    """
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(channels, 3, 5, 3, 3, generator=generator) / 10
    step = Convolution("c", ("x",), weight, torch.zeros(channels), (1, 2, 2), (2, 1, 1), relu=True)
    given = Scale(torch.full((3,), 0.02, dtype=torch.float64), 115)
    levels = torch.randint(0, 256, (1, 3, 8, 12, 12), dtype=torch.uint8, generator=generator)
    expected = step((levels.float() - 114.75) * 0.02)
    gives = Scale.of_positive(expected.amax((0, 2, 3, 4)).double())
    got = ByteConvolution(step, given, gives, offset=0.25)(levels).float() * gives.shaped()
    assert got.shape == expected.shape
    # Half a step of rounding, weights of 8 bits, and a quarter of a level on the border.
    assert float(((got - expected) / gives.shaped()).abs().max()) < 6


class Residual(nn.Module):
    """A shortcut with a convolution, then four without."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv3d(3 if each == 0 else 16, 16, 1) for each in range(6))

    def forward(self, pathways: list[Tensor]) -> tuple[Tensor, ...]:
        (values,) = pathways
        values = (
            self.convolutions[0](values) + self.convolutions[1](self.convolutions[0](values).relu())
        ).relu()
        for convolution in self.convolutions[2:5]:
            values = (convolution(values) + values).relu()
        return ((self.convolutions[5](values).relu() + values).relu(),)


def test_sums_in_place() -> None:
    """A sum is computed in place where it adds a 1 x 1 convolution to bytes that nobody takes afterwards; it
    and its shortcut differ by one factor in all channels, with no range narrower than it was.
    """
    spec = replace(MOTION_SPEC, pathways=(4,), crop=16, short_side=16)
    net = network(Residual().eval(), spec)
    additions = [step.name for step in net.steps if isinstance(step, Addition)]
    sums = sums_in_place(net, ())
    # Not the first, whose shortcut is no sum; not the last, which gives feature maps.
    assert [each.addition for each in sums] == additions[1:4]
    assert [each.shortcut for each in sums] == additions[:3]
    generator = torch.Generator().manual_seed(0)
    ranges = {
        step.name: Range(-high, high)
        for step in net.steps
        for high in [torch.rand(16, dtype=torch.float64, generator=generator)]
    }
    wider = tied(ranges, sums)
    scales = {name: Scale.of_positive(wider[name].high) for name in additions}
    for each in sums:
        ratio = scales[each.shortcut].step / scales[each.addition].step
        torch.testing.assert_close(ratio, torch.full_like(ratio, each.share(scales)))
    assert all(bool((wider[name].high >= ranges[name].high - 1e-9).all()) for name in additions)
    assert wider[additions[4]] is ranges[additions[4]]
    # In floating point, a convolution takes numbers, so that the sum before it is none of bytes.
    _, middle, last = sums
    assert sums_in_place(net, {middle.convolution}) == [last]


@pytest.mark.long
@pytest.mark.parametrize("runtime", [artifacts.AOTI, artifacts.COMPILE])
def test_compiled_sums(runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled, where sums overwrite what they are added to, maps are those of the same steps one by one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))  # it is set by the loader
    spec = replace(MOTION_SPEC, pathways=(4,), crop=16, short_side=16)
    torch.manual_seed(0)
    net = network(Residual().eval(), spec)
    clips = sample_clips(spec, 2, 3000)
    trunk = ByteTrunk(net, spec, observe(net, spec, clips)).eval()
    levels = [level.contiguous(memory_format=LAYOUT) for level in pack(clips[:1], spec, dtype=torch.uint8)]
    with inductor_config.patch(freezing=True), torch.inference_mode():
        expected = trunk(levels)
        program = torch.export.export(trunk, (levels,))
        path = tmp_path / "model.pt2"
        if runtime == artifacts.AOTI:
            torch._inductor.aoti_compile_and_package(program, package_path=str(path))
        else:
            torch.export.save(program, path)
        run = LOADERS[runtime](path, torch.device("cpu"))
        got = run([level.clone(memory_format=torch.preserve_format) for level in levels])
    most = float(expected[0].max())
    assert most > 0.1
    assert float((got[0] - expected[0]).abs().max()) < 0.02 * most


def test_a_sum_in_place() -> None:
    """The sum is that of the numbers, rounded once; what is below 0 is 0. The bytes added to stay as they
    are where nothing is compiled.
    """
    generator = torch.Generator().manual_seed(0)
    step = Convolution(
        *("c", ("x",), torch.randn(16, 8, 1, 1, 1, generator=generator), torch.randn(16, generator=generator)),
        *((1, 1, 1), (0, 0, 0), False),
    )
    given = Scale(torch.full((8,), 0.01, dtype=torch.float64), 0)
    unit = Scale(torch.rand(16, dtype=torch.float64, generator=generator) * 0.03 + 0.03, 0)
    values, sums = (
        torch.randint(0, most, (1, channels, 3, 5, 4), dtype=torch.uint8, generator=generator).contiguous(
            memory_format=LAYOUT
        )
        for most, channels in ((256, 8), (200, 16))
    )
    before = sums.clone()
    layer = ByteConvolution(step, given, unit)
    got = layer.added(values, sums, 0.7)
    right = (layer.unrounded(values) + 0.7 * sums.float()).round().clamp(0, 255)
    assert got.dtype == torch.uint8
    assert int((got.float() - right).abs().max()) <= 1
    assert float((got.float() == right).float().mean()) > 0.99
    assert bool((got == 0).any())
    assert torch.equal(sums, before)


def test_pool_of_bytes() -> None:
    """The pool gives exactly torch's maximum, also at borders and where windows end before the edge."""
    generator = torch.Generator().manual_seed(0)
    for size in ((12, 12), (13, 11)):
        values = torch.randint(0, 256, (1, 4, 2, *size), dtype=torch.uint8, generator=generator)
        for kernel, stride, padding in ((3, 2, 1), (2, 2, 0), (3, 1, 1)):
            right = functional.max_pool3d(
                values.float(), (1, kernel, kernel), (1, stride, stride), (0, padding, padding)
            )
            assert torch.equal(_pooled(values, Pool("p", ("x",), kernel, stride, padding)).float(), right)


def test_levels_that_bytes_are_made_from() -> None:
    """An int8 model is given whole levels, rounded, each pathway its frames."""
    spec = MOTION_SPEC
    frames = torch.randint(0, 32641, (1, spec.num_frames, spec.crop, spec.crop, 3), dtype=torch.int16)
    slow, fast = pack(frames, spec, dtype=torch.uint8)
    assert fast.dtype == torch.uint8
    assert torch.equal(fast[0].permute(1, 2, 3, 0).long(), torch.floor(frames[0] / 128 + 0.5).long())
    assert slow.shape[2] == 8


def calibration(clips: Tensor, names: tuple[str, ...] = ()) -> Calibration:
    return Calibration(clips, names, "a test's clips")


def test_the_first_stay_in_floating_point(motion: Motion, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where bytes are not close enough, convolutions stay in floating point, from the first on and ever more,
    until it is; the report names them, and the clips whose label changed.
    """
    trunk, net, head, clips, _ = motion
    names = [step.name for step in net.convolutions]
    asked: list[int] = []

    class Judge:
        """Scores are close once the fifth convolution is in floating point."""

        def __init__(self, *_: object) -> None: ...

        def __call__(self, given: ByteTrunk) -> Closeness:
            kept = [name for name in names if isinstance(given.layers[name], FloatConvolution)]
            asked.append(len(kept))
            return Closeness(1.0, 0.01 if names[4] in kept else 0.3)

        def agreement(self) -> float:
            return 0.5

        def changed(self, _: object) -> list[str]:
            return ["b.mp4"]

    monkeypatch.setattr(choose, "_Judge", Judge)
    monkeypatch.setattr(choose, "refine", lambda *_: None)  # which takes a minute, and is not asked about here
    quantising = Quantising(calibration(clips[:4], ("a.mp4", "b.mp4")), Closeness(0.97, 0.03))
    _, report = quantise(trunk, head, MOTION_SPEC, quantising)
    assert [each.partition(":")[0] for each in report["in_floating_point"]] == [*"012345"]
    assert report["changed_labels"] == ["b.mp4"]
    assert report["convolutions"] == len(names)
    assert asked == [0] * len(choose.MARGINS) + [0, 3, 6]


def test_nothing_is_rounded_between_convolutions_in_floating_point(motion: Motion) -> None:
    """All in floating point, feature maps are those of the network but for whole levels."""
    _, net, _, clips, ranges = motion
    names = [step.name for step in net.convolutions]
    trunk = ByteTrunk(net, MOTION_SPEC, ranges, 1.15, names)
    levels = pack(clips[:1], MOTION_SPEC, dtype=torch.uint8)
    exact = [(level.float() / 255 - MOTION_SPEC.mean[0]) / MOTION_SPEC.std[0] for level in levels]
    for got, right in zip(trunk(levels), net.run(exact), strict=True):
        assert torch.allclose(got, right, atol=1e-3)


def test_fitting_makes_up_for_rounding(motion: Motion) -> None:
    """Weights rounded to suit clips, and biases that take over the mean, bring scores closer, on others too."""
    trunk, net, head, clips, ranges = motion
    expected = true_scores(trunk, head, clips[6:])
    plain, fitted = (ByteTrunk(net, MOTION_SPEC, ranges, 1.15) for _ in range(2))
    refine(fitted, net, MOTION_SPEC, clips[:6])
    errors = [
        float((scores_of(each, head, clips[6:]) - expected).abs().amax(1).mean()) for each in (plain, fitted)
    ]
    assert errors[1] < errors[0]


def test_ties() -> None:
    """A label that is hardly behind the best one is as good; one that is further behind is not."""
    true = torch.tensor([[0.40, 0.38, 0.22], [0.50, 0.30, 0.20], [0.50, 0.30, 0.20]])
    scores = torch.tensor([[0.37, 0.41, 0.22], [0.30, 0.50, 0.20], [0.45, 0.35, 0.20]])
    assert as_good(scores, true, 0.03).tolist() == [True, False, True]
    assert as_good(scores, true, 0.0).tolist() == [False, False, True]


def test_margin_is_the_one_with_the_closest_scores(motion: Motion, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the margins the one is taken whose scores are closest on clips that gave no ranges."""
    trunk, _, head, clips, _ = motion
    tried = iter([0.02, 0.01, 0.005, 0.015, 0.004])  # the last one is of what was fitted
    monkeypatch.setattr(choose._Judge, "__call__", lambda *_: Closeness(1.0, next(tried)))
    monkeypatch.setattr(choose, "refine", lambda *_: None)
    _, report = quantise(trunk, head, MOTION_SPEC, Quantising(calibration(clips[:4]), Closeness(0.97, 0.03)))
    assert report["margin"] == choose.MARGINS[2]
    assert report["in_floating_point"] == []


def test_calibration_on_a_folder(tmp_path: Path) -> None:
    """The user's videos go through the decoding that serves; what is no video is named, too few are refused."""
    for number in range(9):
        (tmp_path / f"{number}.mp4").write_bytes(random_clip(number).data)
    (tmp_path / "notes.txt").write_text("no video", encoding="utf-8")
    said: list[str] = []
    found = from_folder(tmp_path, MOTION_SPEC, Limits(), said.append)
    assert len(found.observed) + len(found.judging) == len(found.names) == 33
    assert found.source == f"33 clips of 9 videos of {tmp_path.name}"
    assert [name for name in found.names if name.endswith(".mp4")] == [f"{number}.mp4" for number in range(9)]
    # No video is on both sides.
    assert {name.partition(",")[0] for name in found.judging_names} == {f"{each}.mp4" for each in (1, 3, 5, 7)}
    assert not {name.partition(",")[0] for name in found.names[::2]} & {"1.mp4", "3.mp4", "5.mp4", "7.mp4"}
    assert len(said) == 1
    assert "notes.txt is left out" in said[0]
    for number in (7, 8):
        (tmp_path / f"{number}.mp4").unlink()
    with pytest.raises(ExportError, match="has 7 videos that can be decoded, and 8 are needed"):
        from_folder(tmp_path, MOTION_SPEC, Limits(), said.append)
    with pytest.raises(ExportError, match="is no folder"):
        from_folder(tmp_path / "notes.txt", MOTION_SPEC, Limits(), said.append)


@pytest.mark.parametrize(
    ("flags", "fast"),
    [({"avx2"}, False), ({"avx512_vnni"}, True), ({"avx_vnni"}, True), ({"amx_int8"}, True), ({"i8mm"}, False)],
)
def test_processors_with_instructions_for_it(
    flags: set[str], fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """int8 is for CPUs that multiply bytes; on others a build is refused with the reason."""
    monkeypatch.setattr(host, "_instruction_sets", lambda: flags)
    assert host.has_fast("int8", "cpu") is fast
    if not fast:
        with pytest.raises(ExportError, match="instructions for it"):
            artifacts.choose_targets("auto", "int8", "cpu", fallback=True)


def test_int8_with_torchscript(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no uncompiled int8; the compiled one has an fp32 form for other hosts beside it."""
    monkeypatch.setattr(host, "_instruction_sets", lambda: {"avx512_vnni"})
    with pytest.raises(ExportError, match="PRECISION=int8 with RUNTIME=torchscript is not possible"):
        artifacts.choose_targets("torchscript", "int8", "cpu", fallback=True)
    targets = artifacts.choose_targets("auto", "int8", "cpu", fallback=True)
    assert [(target.runtime, target.precision) for target in targets] == [
        ("aoti", "int8"),
        ("torchscript", "fp32"),
    ]


@pytest.mark.parametrize("text", ["top1_agreement=2", "mean=0.1", "top1_agreement", "mean_score_difference=x"])
def test_a_tolerance_that_is_none(text: str, tmp_path: Path) -> None:
    """A tolerance that cannot be read is refused before anything is built, with an example."""
    with pytest.raises(ExportError, match="INT8_TOLERANCE=") as refused:
        build(Order(model="motion", precision="int8", int8_tolerance=text, store=tmp_path), Console(quiet=True))
    assert "top1_agreement=0.95" in refused.value.hint


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The motion model, built in int8 as `make archive` does it, in this process."""
    here = host._instruction_sets()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host, "_instruction_sets", lambda: here | {"avx512_vnni"})
        store = tmp_path_factory.mktemp("int8")
        built = build(Order(model="motion", precision="int8", store=store), Console(quiet=True))
        zipfile.ZipFile(built.path).extractall(store / "motion")
        service = Service(Classifier.load(store / "motion"))
        yield service
        service.close()


@pytest.mark.server
def test_archive_in_int8(served: Service) -> None:
    """The archive is served in int8, passed its gate, and says what it was calibrated on."""
    (artifact, portable) = served.classifier.manifest.artifacts
    assert (artifact.precision, portable.precision) == ("int8", "fp32")
    assert served.classifier.describe()["serving"]["precision"] == "int8"
    assert artifact.parity["top1_agreement"] >= 0.97
    assert artifact.parity["mean_score_difference"] <= 0.03
    assert artifact.parity["clips"] == 32
    assert artifact.quantisation["calibrated_on"] == "32 generated clips"
    assert artifact.quantisation["convolutions"] == 37


@pytest.mark.server
def test_every_option_works_in_int8(served: Service) -> None:
    """Views, timelines, embeddings and explanations are those of the scores, as in floating point."""
    clip = random_clip(31, "growing", seconds=4.0).data

    def ask(**options: object) -> dict[str, object]:
        (reply,) = served.answer([Row({"video": clip, **options})])
        assert reply.status == 200, reply.body
        body: dict[str, object] = json.loads(reply.body)
        return body

    predictions = ask(top_k=8)["predictions"]
    assert isinstance(predictions, list)
    assert predictions[0]["label"] == "growing"
    embedding = np.array(ask(embedding="json")["embedding"], np.float32)
    head = served.classifier.runtime.head
    logits = head.weight @ embedding + head.bias
    scores = np.exp(logits) / np.exp(logits).sum()
    assert all(abs(scores[each["class_index"]] - each["score"]) < 1e-4 for each in predictions)
    explanation = ask(explain="true", views=2, crops=3)["explanation"]
    assert isinstance(explanation, dict)
    assert len(explanation["views"]) == 6
    timeline = ask(stride_seconds=0.5, embedding="base64")["timeline"]
    assert isinstance(timeline, list)
    assert all(entry["embedding"] for entry in timeline)
