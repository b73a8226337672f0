"""The last feature maps -> logits, embedding, explanation: pools and one linear layer. Needs numpy alone.

    maps, one a pathway -> mean over time, channels side by side -> pooled: embedding -> weight, bias
    [C, t, h, w]           [features, h, w]                         [features]          -> logits [classes]

All of it is linear, so a logit is a sum over pathways, times and places: `Head.shares` has the addends.
`model.head` computes the same logits with torch.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

HEAD_FILE = "head.npz"
"""Name in an archive. `numpy.load` reads it: an array for each field of `Head`."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of a zip file's entries, so that equal heads are equal files."""


@dataclass(frozen=True, eq=False)
class Head:
    """What stands after a network's last feature maps.

    Raises:
        ValueError: the shapes do not fit each other.
    """

    weight: Floats
    """float32 [classes, features]; the features are the pathways' channels, side by side."""
    bias: Floats
    """float32 [classes]"""
    maps: npt.NDArray[np.int64]
    """int64 [pathways, 4]: channels, times, height and width of each pathway's last feature map. Height and
    width are the same for all."""
    window: npt.NDArray[np.int64]
    """int64 [2]: height and width of the windows that are averaged over. They lie one place apart, and what
    comes of all windows is averaged."""
    averages_probabilities: bool = False
    """Whether probabilities are averaged over the windows, as X3D does. Default: features."""

    def __post_init__(self) -> None:
        sizes = {tuple(size) for size in self.maps[:, 2:].tolist()}
        if len(sizes) != 1 or (np.array(next(iter(sizes))) < self.window).any():
            raise ValueError(f"windows {self.window.tolist()} do not fit maps {self.maps.tolist()}")
        if self.weight.shape != (len(self.bias), int(self.maps[:, 0].sum())):
            raise ValueError(
                f"weight {list(self.weight.shape)} and bias {list(self.bias.shape)} do not fit maps "
                f"{self.maps.tolist()}"
            )

    @property
    def features(self) -> int:
        """Length of the embedding."""
        return int(self.weight.shape[1])

    @property
    def linear(self) -> bool:
        """Whether logits are linear in the maps, so that `shares` add up to them."""
        return not self.averages_probabilities

    def pools(self) -> Floats:
        """What each place of a map counts in each window, float32 [windows, h, w]; a window's add up to 1."""
        (height, width), (down, across) = self.maps[0, 2:].tolist(), self.window.tolist()
        corners = [(y, x) for y in range(height - down + 1) for x in range(width - across + 1)]
        pools = np.zeros((len(corners), height, width), np.float32)
        for pool, (y, x) in zip(pools, corners, strict=True):
            pool[y : y + down, x : x + across] = 1 / (down * across)
        return pools

    def place_weights(self) -> Floats:
        """How much each place of a map counts, float32 [h, w]; they add up to 1.

        A place counts once for each window that it is in: of an 8 x 8 map with 7 x 7 windows the middle four
        times, a corner once.
        """
        weights: Floats = self.pools().mean(0)
        return weights

    def embedding(self, maps: Sequence[Floats]) -> Floats:
        """The pooled maps side by side.

        Args:
            maps: float32 [C, t, h, w], one a pathway.

        Returns:
            float32 [features]
        """
        means = np.concatenate([one.mean(1) for one in maps])
        pooled: Floats = np.einsum("chw,hw->c", means, self.place_weights())
        return pooled

    def shares(self, maps: Sequence[Floats], class_index: int) -> list[Floats]:
        """What each time and place of each pathway adds to a logit.

        Args:
            maps: float32 [C, t, h, w], one a pathway.
            class_index: number of the class.

        Returns:
            float32 [t, h, w], one a pathway. All of them and the class's bias add up to the logit.

        Raises:
            ValueError: the head is not `linear`.
        """
        if not self.linear:
            raise ValueError("A mean of probabilities is no sum over places.")
        parts = np.split(self.weight[class_index], np.cumsum(self.maps[:-1, 0]))
        places = self.place_weights()
        return [
            np.tensordot(part, one, 1) * places / np.float32(one.shape[1])
            for one, part in zip(maps, parts, strict=True)
        ]

    def save(self, directory: Path) -> Path:
        """Write `HEAD_FILE` into a folder; equal heads give equal bytes. Returns its path."""
        path = directory / HEAD_FILE
        with zipfile.ZipFile(path, "w") as file:
            for name in ("weight", "bias", "maps", "window", "averages_probabilities"):
                array = io.BytesIO()
                np.lib.format.write_array(array, np.asarray(getattr(self, name)), allow_pickle=False)
                file.writestr(zipfile.ZipInfo(f"{name}.npy", _EPOCH), array.getvalue())
        return path

    @classmethod
    def load(cls, directory: Path) -> Head:
        """Read `HEAD_FILE` from a folder.

        Raises:
            FileNotFoundError: it is not there; ValueError: it is no head.
        """
        path = directory / HEAD_FILE
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not in the archive")
        with np.load(path, allow_pickle=False) as file:
            try:
                return cls(
                    weight=file["weight"],
                    bias=file["bias"],
                    maps=file["maps"],
                    window=file["window"],
                    averages_probabilities=bool(file["averages_probabilities"]),
                )
            except KeyError as error:
                raise ValueError(f"{path} lacks {error}") from error
