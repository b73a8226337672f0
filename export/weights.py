"""Where a model's weights come from, and whether they are whole and the right ones.

``WEIGHTS`` is empty (the published or bundled file), a path, or an http(s) URL; what was fetched lies in
torch.hub's folder, so that a file which torch.hub has fetched before is found. Whatever it is, the SHA-256
is known afterwards, and the names and shapes of its tensors have been compared with the model's.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import torch
from rich.console import Console
from torch import Tensor, nn

from . import checksum
from .download import HOW_TO_PROCEED, download, why_unreachable
from .errors import WeightsError
from .zoo import NAMES, ZooModel

RANDOM = "random"
WRAPPERS = ("model_state", "state_dict", "model")
"""Keys under which training scripts put the state dict: pytorchvideo and PySlowFast, Lightning, others."""
PREFIXES = ("module.", "model.", "_orig_mod.")
"""What DataParallel, a LightningModule and torch.compile put before every key."""
QUICK_SECONDS = 5.0
"""How long `MODEL=auto` waits to learn that there is no network."""
SHOWN = 3
"""So many wrong keys are named in an error; the others are counted."""


@dataclass(frozen=True)
class Weights:
    """A weights file on this machine."""

    source: str
    """Where it came from: a path or a URL."""
    path: Path
    sha256: str
    """Hex digest of the file."""
    published: bool = False
    """Whether they are the model's own, of which a later build must find the same; see `remember`."""


def parse_sha256(text: str) -> str:
    """A digest as people write it (upper case, ``sha256:`` before it) as plain lower-case hex.

    Raises:
        WeightsError: not 64 hex digits.
    """
    digest = text.strip().lower().removeprefix("sha256:")
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise WeightsError(f"WEIGHTS_SHA256={text} is not a SHA-256", "It has 64 hex digits: sha256sum FILE.")
    return digest


def cache_file(url: str, *, published: bool) -> Path:
    """Where a URL's file lies once it was fetched.

    Published files go by their own names, as with torch.hub. Two users' URLs may well both end in
    ``/model.pth``, so those carry a few digits of their URL.
    """
    name = Path(urlsplit(url).path).name or "weights.pth"
    if not published:
        name = f"{hashlib.sha256(url.encode()).hexdigest()[:8]}-{name}"
    return Path(torch.hub.get_dir()) / "checkpoints" / name


def why_unavailable(model: ZooModel) -> str | None:
    """Whether a model's own weights are here or can be fetched: None, or the reason why not, in seconds."""
    if model.weights_url is None or cache_file(model.weights_url, published=True).is_file():
        return None
    return why_unreachable(model.weights_url, QUICK_SECONDS)


def resolve(
    model: ZooModel, wanted: str = "", sha256: str | None = None, console: Console | None = None
) -> Weights:
    """Find or fetch a model's weights.

    Args:
        model: whose.
        wanted: empty, a path, or an http(s) URL.
        sha256: hex digest that the file must have.
        console: shows a download's progress; quiet if None.

    Raises:
        WeightsError: not there, not to be had, or of another checksum than the one that was given.
        WeightsChangedError: published weights of another checksum than those that an earlier build could use.
    """
    published = not wanted and model.weights_url is not None
    if wanted.startswith(("http://", "https://")):
        source, path = wanted, cache_file(wanted, published=False)
    elif wanted:
        source, path = wanted, Path(wanted).expanduser()
    elif model.weights_url:
        source, path = model.weights_url, cache_file(model.weights_url, published=True)
    elif model.bundled_file:
        source, path = str(model.bundled_file), model.bundled_file
    else:
        raise WeightsError(
            f"{model.name} has no weights of its own", "Give WEIGHTS=file.pth or WEIGHTS=random."
        )

    # What the user says wins.
    expected = checksum.Expected(sha256) if sha256 else (checksum.read(path) if published else None)
    if source.startswith(("http://", "https://")) and not path.exists():
        download(source, path, expected, console)
    if not path.is_file():
        what = "are not a file" if path.exists() else "do not exist"
        own = path == model.bundled_file
        raise WeightsError(
            f"the weights {source} {what}",
            "They come with this repository: git status." if own else HOW_TO_PROCEED,
        )
    try:
        digest = checksum.sha256_of(path)
    except OSError as error:
        raise WeightsError(
            f"cannot read {path}: {error.strerror or error}", "Check who may read it."
        ) from error
    if expected:
        expected.check(digest, str(path))
    return Weights(source=source, path=path, sha256=digest, published=published)


def remember(weights: Weights, console: Console) -> None:
    """Write down what published weights have, once they turned out to be the model's: no later build takes
    others. Of a web page in the place of the file it would be the wrong thing to remember.

    Args:
        weights: that were loaded into the model.
        console: says so where the checksum cannot be written.
    """
    if not weights.published:
        return
    with suppress(WeightsError):  # damaged; the user's own number stood in for it
        if checksum.read(weights.path) == checksum.Expected(weights.sha256, checksum.file_of(weights.path)):
            return
    try:
        checksum.write(weights.path, weights.sha256)
    except OSError as error:
        console.print(
            f"the checksum of {weights.path} could not be kept ({error.strerror or error}): "
            "a later build will not notice other weights in its place",
            soft_wrap=True, markup=False, highlight=False,
        )  # fmt: skip


def load_state(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, without what training scripts wrap around it.

    Only tensors and plain values are ever unpickled: a pickle can run any code it likes.

    Raises:
        WeightsError: truncated, no weights file, or one that needs code to be run.
    """
    found = _load(path)
    for wrapper in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
            break
    if not isinstance(found, Mapping) or not found:
        raise WeightsError(f"{path} holds {_describe(found)}, not a state dict", _HOW_TO_SAVE)
    other = [str(key) for key, value in found.items() if not isinstance(value, Tensor)]
    if other:
        raise WeightsError(f"{path} is not a state dict: {_some(other)} are no tensors", _HOW_TO_SAVE)
    state = {str(key): value for key, value in found.items()}
    while prefix := next((p for p in PREFIXES if all(key.startswith(p) for key in state)), ""):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


_HOW_TO_SAVE = "Save it with torch.save(model.state_dict(), 'my.pth')."


def _load(path: Path) -> object:
    """torch.load, with its many ways to fail turned into three."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(16)
    if start.startswith(b"PK\x03\x04") and not zipfile.is_zipfile(path):
        raise WeightsError(
            f"{path} is truncated: {size_bytes:,} bytes are there, and the end of the file is missing",
            "Delete it and fetch it again.",
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if needs := re.search(r"GLOBAL (\S+)", str(error)):
            raise WeightsError(
                f"{path} is refused: loading it would run code ({needs[1]})",
                _HOW_TO_SAVE,
            ) from error
        reason: Exception = error
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = error
    except struct.error as error:  # torch's old format, cut off inside a number
        reason = error
    raise WeightsError(
        f"{path} is not a whole PyTorch weights file: {size_bytes:,} bytes, beginning with {start!r} "
        f"({type(reason).__name__})",
        "It may be truncated, or a web page in place of the file; fetch it again. " + _HOW_TO_SAVE,
    ) from reason


def head_classes(state: Mapping[str, Tensor], path: Path, model: ZooModel) -> int:
    """Number of classes that a state dict's last layer tells apart.

    Args:
        state: name -> tensor.
        path: for the error.
        model: says what that layer is called.

    Raises:
        WeightsError: it has no such layer.
    """
    key = f"{model.head}.weight"
    if key not in state:
        raise WeightsError(
            f"{path} has no {key}; its {len(state)} keys begin with {_some(list(state))}", _OTHER_MODEL
        )
    return int(state[key].shape[0])


_OTHER_MODEL = f"It must be of the pytorchvideo model that MODEL names: {', '.join(NAMES)}."


def load_into(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Put a state dict into a model.

    Args:
        model: of the same architecture; changed in place.
        state: name -> tensor.
        path: for the error.

    Raises:
        WeightsError: a name or a shape differs, with the first few and their number.
    """
    own = model.state_dict()
    # Old checkpoints lack the counters; nothing at serving time reads them.
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    shapes = [
        f"{key} {tuple(value.shape)} instead of {tuple(own[key].shape)}"
        for key, value in state.items()
        if key in own and value.shape != own[key].shape
    ]
    faults = [
        f"{what} {_some(keys)}"
        for what, keys in (("missing", missing), ("unexpected", unexpected), ("wrong shape:", shapes))
        if keys
    ]
    if faults:
        raise WeightsError(f"{path} does not fit the model: {'; '.join(faults)}", _OTHER_MODEL)
    infinite = [key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if infinite:
        raise WeightsError(
            f"{path} holds infinite or undefined numbers in {_some(infinite)}", "The training diverged."
        )
    model.load_state_dict(dict(state), strict=False)


def _some(names: list[str]) -> str:
    """The first few, and how many there are: ``a, b, c (5 in all)``."""
    return ", ".join(names[:SHOWN]) + (f" ({len(names)} in all)" if len(names) > SHOWN else "")


def _describe(value: object) -> str:
    if isinstance(value, Mapping):
        return f"a dict of {len(value)} entries ({_some([str(key) for key in value])})"
    return f"a {type(value).__name__}"
