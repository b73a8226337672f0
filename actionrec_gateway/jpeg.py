"""Pictures for people."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

_QUALITY = 82


def jpeg(picture: npt.NDArray[np.uint8]) -> bytes:
    """A picture as a JPEG file.

    Args:
        picture: uint8 [H, W, 3], RGB.
    """
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    assert done
    return encoded.tobytes()
