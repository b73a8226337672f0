"""The same network in other engines, where they are installed: torch.compile, ONNX Runtime, OpenVINO."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from actionrec.model.host import has_fast
from actionrec.model.transform import pack
from actionrec.spec import ClipSpec
from torch._inductor import config as inductor_config

from export.samples import calibration_clips

BF16, INT8 = ", bf16", ", int8"
Pathways = list[torch.Tensor]
Run = Callable[[], object]


def installed(name: str) -> bool:
    """Whether this host has the packages and the instructions that an engine needs."""
    packages = all(map(importlib.util.find_spec, _PACKAGES.get(name, ())))
    needed = [form.removeprefix(", ") for form in (BF16, INT8) if form in name]
    return packages and all(has_fast(precision, "cpu") for precision in needed)


def torch_compile(net: torch.nn.Module, pathways: Pathways, _: Path | None = None) -> Run:
    """torch.compile of the exported program; without the export the graph would break at eight places."""
    program = torch.export.export(net, (list(pathways),))
    inductor_config.freezing = True
    compiled = torch.compile(program.module(), dynamic=False)
    compiled(list(pathways))
    inductor_config.freezing = False
    return lambda: compiled(list(pathways))


def _onnx_runtime(net: torch.nn.Module, pathways: Pathways, folder: Path) -> Run:
    import onnxruntime

    path = folder / "model.onnx"
    torch.onnx.export(net, (list(pathways),), path, dynamo=True, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    feed = {name: pathway.numpy() for name, pathway in zip(names, pathways, strict=True)}
    return lambda: session.run(None, feed)


def _openvino(net: torch.nn.Module, pathways: Pathways, _: Path, precision: str = "f32") -> Run:
    import openvino

    program = torch.export.export(net, (list(pathways),))
    converted = openvino.convert_model(program)
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": precision,
    }
    compiled = openvino.compile_model(converted, "CPU", settings)
    given = [pathway.numpy() for pathway in pathways]
    return lambda: compiled(given)


def _openvino_int8(net: torch.nn.Module, pathways: Pathways, _: Path) -> Run:
    """As NNCF's documents have it for post-training quantisation; the linear layer stays in floating point."""
    import nncf
    import openvino

    program = torch.export.export(net, (list(pathways),))
    converted = openvino.convert_model(program)
    spec = ClipSpec()
    clips = calibration_clips(spec, OPENVINO_CLIPS, 0)
    given = [[pathway.numpy() for pathway in pack(clip, spec)] for clip in torch.split(clips, 1)]
    linear = nncf.IgnoredScope(types=["MatMul"], validate=False)
    quantised = nncf.quantize(converted, nncf.Dataset(given), subset_size=len(given), ignored_scope=linear)
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = openvino.compile_model(quantised, "CPU", settings)
    arrays = [pathway.numpy() for pathway in pathways]
    return lambda: compiled(arrays)


OPENVINO_CLIPS = 8
"""That NNCF calibrates on; speed does not depend on them."""

ENGINES: dict[str, Callable[[torch.nn.Module, Pathways, Path], Run]] = {
    "torch.compile": torch_compile,
    "ONNX Runtime": _onnx_runtime,
    "OpenVINO": _openvino,
    "OpenVINO" + BF16: partial(_openvino, precision="bf16"),
    "OpenVINO" + INT8: _openvino_int8,
}
"""Name -> function that returns a call on pathways [1, 3, 8, 256, 256] and [1, 3, 32, 256, 256], float32."""

_PACKAGES = {
    "ONNX Runtime": ("onnxruntime", "onnx", "onnxscript"),
    "OpenVINO": ("openvino",),
    "OpenVINO" + BF16: ("openvino",),
    "OpenVINO" + INT8: ("openvino", "nncf"),
}
