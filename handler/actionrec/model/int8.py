"""OneDNN's convolutions of bytes, as torch's compiler is to see them.

Torch's own operators cannot be saved in a program (an empty list is among their arguments), and the one that
adds says that it overwrites what it is given. So there are operators of our own: in a graph they are functions,
and the compiler takes torch's for them.
"""

from __future__ import annotations

from functools import cache
from typing import cast

import torch
from torch import Tensor

from .transform import LAYOUT

_alone = torch.ops.onednn.qconv_pointwise.default
_with_sum = torch.ops.onednn.qconv2d_pointwise.binary


@torch.library.custom_op("actionrec::convolved", mutates_args=())
def convolved(
    values: Tensor,
    zero: int,
    weight: Tensor,
    weight_steps: Tensor,
    weight_zeros: Tensor,
    bias: Tensor,
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    gives_zero: int,
    gives: torch.dtype,
) -> Tensor:
    """Convolve bytes.

    Args:
        values: uint8 [B, C, t, h, w], channels last.
        zero: the byte that stands for 0 in `values`.
        weight: by ``onednn::qconv_prepack``.
        weight_steps: float32 [out], from one whole weight to the next.
        weight_zeros: int64 [out], zeros.
        bias: float32 [out].
        kernel: sizes of the kernel in time, height and width.
        stride: of the three.
        padding: of the three.
        gives_zero: the byte that stands for 0 in the result; 0 where it is none of bytes.
        gives: type of the result: uint8, where what is below 0 or above 255 is cut, or one of numbers.

    Returns:
        [B, out, t, h, w], channels last.
    """
    result: Tensor = _alone(
        *_arguments_alone(
            *(values, zero, weight, weight_steps, weight_zeros, bias),
            *(kernel, stride, padding, gives_zero, gives),
        )
    )
    return result


def _arguments_alone(*given: object) -> tuple[object, ...]:
    """Those of oneDNN's operator, for those of `convolved`."""
    values, zero, weight, weight_steps, weight_zeros, bias, _, stride, padding, gives_zero, gives = given
    dilation, groups = [1, 1, 1], 1
    return (
        *(values, 1.0, zero, weight, weight_steps, weight_zeros, bias, stride, padding, dilation, groups),
        *(1.0, gives_zero, gives, "none", [], ""),
    )


def _shape_alone(*given: object) -> Tensor:
    """An empty tensor like the result of `convolved`."""
    values, _, _, weight_steps, _, _, kernel, stride, padding, _, gives = cast(
        tuple[Tensor, int, Tensor, Tensor, Tensor, Tensor, list[int], list[int], list[int], int, torch.dtype],
        given,
    )
    sizes = [
        (size + 2 * before - length) // step + 1
        for size, length, step, before in zip(values.shape[2:], kernel, stride, padding, strict=True)
    ]
    shape = (values.shape[0], len(weight_steps), *sizes)
    return values.new_empty(shape, dtype=gives).contiguous(memory_format=LAYOUT)


@torch.library.custom_op("actionrec::added", mutates_args=())
def added(
    values: Tensor,
    zero: int,
    weight: Tensor,
    weight_steps: Tensor,
    weight_zeros: Tensor,
    sums: Tensor,
    bias: Tensor,
    share: float,
) -> Tensor:
    """Add what a convolution of 1 x 1 gives to bytes, and round the sum.

    Args:
        values: uint8 [B, C, h, w].
        zero: the byte that stands for 0 in `values`.
        weight: by ``onednn::qconv_prepack``.
        weight_steps: float32 [out], from one whole weight to the next.
        weight_zeros: int64 [out], zeros.
        sums: uint8 [B, out, h, w]; 0 stands for 0. Compiled, it is overwritten: nobody may take it then.
        bias: float32 [out].
        share: how much one step of `sums` is in steps of the result.

    Returns:
        uint8 [B, out, h, w]; what is below 0 is 0.
    """
    result: Tensor = _with_sum(
        *_arguments_with_sum(values, zero, weight, weight_steps, weight_zeros, sums.clone(), bias, share)
    )
    return result


def _arguments_with_sum(*given: object) -> tuple[object, ...]:
    """Those of oneDNN's operator, for those of `added`."""
    values, zero, weight, weight_steps, weight_zeros, sums, bias, share = given
    stride, padding, dilation, groups = [1, 1], [0, 0], [1, 1], 1
    return (
        *(values, 1.0, zero, weight, weight_steps, weight_zeros, sums, bias, stride, padding, dilation, groups),
        *(1.0, 0, torch.uint8, share, 0, "sum", 1.0, "relu", [], ""),
    )


@cache
def register() -> None:
    """Tell torch's compiler of operators that torch 2.14 has and it does not know."""
    from torch._inductor.lowering import lowerings, register_lowering  # takes a second

    torch.library.register_fake("onednn::qconv_prepack", lambda weight, *_: torch.empty_like(weight))
    convolved.register_fake(_shape_alone)
    added.register_fake(lambda *given: torch.empty_like(given[5]))

    @register_lowering(torch.ops.actionrec.convolved, type_promotion_kind=None)
    def lowered_alone(*given: object) -> object:
        return lowerings[_alone](*_arguments_alone(*given))

    @register_lowering(torch.ops.actionrec.added, type_promotion_kind=None)
    def lowered_with_sum(*given: object) -> object:
        return lowerings[_with_sum](*_arguments_with_sum(*given))
