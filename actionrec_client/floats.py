"""Arrays of float32 that come in JSON: base64 of little-endian numbers, or a list."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
_WIRE = np.dtype("<f4")


def from_json(value: object, shape: Sequence[int] = (-1,)) -> Floats:
    """An array that came in a reply.

    Args:
        value: base64 text, or a list of numbers.
        shape: of the array; -1: as long as it is.

    Returns:
        float32 of that shape, which may be written to.

    Raises:
        ValueError: the value is neither, or has another number of numbers.
    """
    if isinstance(value, str):
        try:
            data = base64.b64decode(value, validate=True)
        except binascii.Error as error:
            raise ValueError(f"no base64: {value[:40]!r}") from error
        numbers = np.frombuffer(data, _WIRE).astype(np.float32)
    elif isinstance(value, list):
        numbers = np.array(value, np.float32)
    else:
        raise ValueError(f"neither base64 nor a list: {value!r:.40}")  # noqa: TRY004  # what came is wrong
    return numbers.reshape(shape)
