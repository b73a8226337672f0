"""``python -m export.learn.put_head FOLDER``: gives the artifacts in a folder the head that lies beside them.

Only ``model.pt`` has a head in itself, behind the trunk. It is traced again, at the sizes of its own build. In
a process of its own: the names in a traced module depend on all that was traced before it.
"""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
from pathlib import Path

import torch
from actionrec.head import Head
from actionrec.manifest import Artifact, Manifest
from actionrec.model.head import TorchHead
from actionrec.model.host import arithmetic
from actionrec.model.runtime import DTYPES
from actionrec.model.transform import pack
from actionrec.spec import ClipSpec

from .. import archive, artifacts
from ..errors import ArchiveError
from ..reproducible import without_paths


def put_head(head: Head, directory: Path) -> None:
    """Give the artifacts in a folder another head.

    Args:
        head: the new one.
        directory: an unpacked archive.

    Raises:
        ArchiveError: its ``model.pt`` cannot be traced.
    """
    head.save(directory)
    command = [sys.executable, "-m", "export.learn.put_head", str(directory.resolve())]
    root = archive.HANDLER_DIRECTORY.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ArchiveError(
            f"the network could not be given another head: {said}", "Report the archive that does this."
        )


@torch.no_grad()
def _trace(head: Head, path: Path, artifact: Artifact, spec: ClipSpec) -> None:
    whole = torch.jit.load(str(path), map_location=artifact.device)  # type: ignore[no-untyped-call]
    net = artifacts.WithHead(whole.trunk, TorchHead(head).to(artifact.device)).eval()
    frames = torch.zeros(artifacts.TRACE_BATCH, spec.num_frames, spec.crop, spec.crop, 3, dtype=torch.int16)
    example = pack(frames, spec, artifact.device, DTYPES[artifact.precision])
    buffer = io.BytesIO()
    with arithmetic(artifact.precision):
        traced = torch.jit.trace(net, (example,), check_trace=False)  # type: ignore[no-untyped-call]
    torch.jit.save(traced, buffer)
    path.write_bytes(without_paths(buffer))


def main(directory: Path) -> None:
    """Trace the folder's portable artifact with the head that is there."""
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.", category=FutureWarning)
    manifest, head = Manifest.load(directory), Head.load(directory)
    for artifact in manifest.artifacts:
        if artifact.runtime == artifacts.PORTABLE:
            _trace(head, directory / artifact.file, artifact, manifest.spec)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
