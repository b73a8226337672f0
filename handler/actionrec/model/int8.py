"""OneDNN's convolutions of bytes, as torch's compiler is to see them."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

_with_sum = torch.ops.onednn.qconv2d_pointwise.binary


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
        *_arguments(values, zero, weight, weight_steps, weight_zeros, sums.clone(), bias, share)
    )
    return result


def _arguments(*given: object) -> tuple[object, ...]:
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
    added.register_fake(lambda *given: torch.empty_like(given[5]))

    @register_lowering(torch.ops.actionrec.added, type_promotion_kind=None)
    def lowered(*given: object) -> object:
        return lowerings[_with_sum](*_arguments(*given))
