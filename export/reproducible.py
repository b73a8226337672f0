"""Makes two builds of one model the same bytes: the time is SOURCE_DATE_EPOCH's, the order that of names.

Compiled artifacts (``aoti``) still differ: oneDNN's descriptors of weights, which the compiler writes into the
code as bytes, have uninitialised parts.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import time
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import torch

from .errors import ExportError

EPOCH_VARIABLE = "SOURCE_DATE_EPOCH"
_LAST_SECOND = 4_354_819_199
"""The end of 2107: a zip file can hold no later time,"""
_FIRST_YEAR = 1980
"""and no time before this year."""
_MANIFEST = "MAR-INF/MANIFEST.json"
_FILE_MODE = 0o100644
_COPY_BYTES = 1 << 20
# PyTorchFileWriter writes these itself, the last one from the contents of all others.
_WRITTEN = frozenset({"version", ".data/version", ".data/serialization_id"})


def build_time() -> datetime:
    """The time of this build, to the second: SOURCE_DATE_EPOCH, or now where it is not set.

    Raises:
        ExportError: SOURCE_DATE_EPOCH is not a number, or beyond what a zip file can hold.
    """
    epoch = os.environ.get(EPOCH_VARIABLE)
    if not epoch:
        return datetime.fromtimestamp(int(time.time()), UTC)
    if not re.fullmatch(r"[0-9]{1,10}", epoch) or int(epoch) > _LAST_SECOND:
        raise ExportError(
            f"{EPOCH_VARIABLE}={epoch} is not a number of seconds from 0 to {_LAST_SECOND}",
            "Leave it out, or use `date +%s`.",
        )
    return datetime.fromtimestamp(int(epoch), UTC)


def repack(archive: Path, made: datetime) -> None:
    """Rewrite an archive uncompressed, with its entries in order of their names, all with one time and mode.

    torch-model-archiver gives the entries the times at which it copied them, in the folder's order, and writes
    the time of day, in this machine's time zone, into its manifest.

    Args:
        archive: torch-model-archiver's result; replaced in one step. The disk must have room for a second one.
        made: the time for all entries, in UTC.

    Raises:
        OSError: the disk is full.
    """
    stamp = made.timetuple()[:6] if made.year >= _FIRST_YEAR else (_FIRST_YEAR, 1, 1, 0, 0, 0)
    copy = archive.with_name(f"{archive.name}.new")
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as new:
        for entry in sorted(old.infolist(), key=lambda entry: entry.filename):
            written = zipfile.ZipInfo(entry.filename, stamp)
            written.create_system = 3  # Unix, wherever it is built
            written.external_attr = _FILE_MODE << 16
            if entry.filename == _MANIFEST:
                manifest = json.loads(old.read(entry))
                manifest["createdOn"] = made.strftime("%d/%m/%Y %H:%M:%S")
                new.writestr(written, json.dumps(manifest, indent=2))
                continue
            written.file_size = entry.file_size  # decides whether the header has room for 64 bits
            with old.open(entry) as source, new.open(written, "w") as target:
                shutil.copyfileobj(source, target, _COPY_BYTES)
    copy.replace(archive)


def without_paths(torchscript: IO[bytes]) -> bytes:
    """A TorchScript file without its records of where each line of code was on the builder's disk.

    Only tracebacks inside the model would show those places.

    Args:
        torchscript: the output of `torch.jit.save`.
    """
    torchscript.seek(0)
    reader = torch._C.PyTorchFileReader(torchscript)
    buffer = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(buffer)
    writer.set_min_version(int(reader.get_record("version")))
    for name in reader.get_all_records():
        if name not in _WRITTEN and not name.endswith(".debug_pkl"):
            record = reader.get_record(name)
            writer.write_record(name, record, len(record))
    writer.write_end_of_file()
    return buffer.getvalue()
