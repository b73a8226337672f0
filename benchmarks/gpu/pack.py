"""``scripts/gpu-pack``: the packages and the Java that a machine with its own torch and no network lacks.

The versions are those that are installed here, whatever Python the other machine has. What comes with torch
(torchvision, Triton, CUDA's libraries) is that machine's own. The parcels are filled in the order of need: what
the first stages import, then TorchServe and Java, then what most machines have already.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import requires, version
from pathlib import Path
from typing import cast

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.apart import PROJECT
from benchmarks.measure import console

EXTRAS = "serve", "export"
BESIDE = "pytest", "hypothesis", "pip"
"""For the tests, and for a machine without pip."""
SERVER = ("torchserve",)
COMMON = "numpy", "pillow", "opencv-python-headless"
"""Large, and on most machines that have torch: packed last."""
JAVA = "jre.tar.xz"
MB = 2**20
CONTENTS = "contents.json"
_HOSTS_OWN = re.compile(r"torch|torchvision|triton|(nvidia|cuda)-.*")
_PLATFORMS = "manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux1"
_MODULES = (
    "java.base java.compiler java.desktop java.instrument java.logging java.management java.naming "
    "java.net.http java.rmi java.scripting java.security.jgss java.sql java.xml "
    "jdk.crypto.ec jdk.httpserver jdk.management jdk.unsupported jdk.zipfs"
).split()
"""What TorchServe 0.12 loads of Java: 50 MB instead of 260."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the parcels; returns the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/gpu-pack", description=__doc__)
    parser.add_argument("--python-version", default="3.12", help="of the other machine")
    parser.add_argument("--out", type=Path, default=PROJECT / "build" / "gpu-parcels")
    parser.add_argument("--parcel-mb", type=float, default=60.0, help="the most that one parcel may have")
    options = parser.parse_args(arguments)
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    try:
        with tempfile.TemporaryDirectory(dir=options.out) as folder:
            files = _files(Path(folder), options.python_version)
            parcels = fill([(path, path.stat().st_size) for path in files], round(options.parcel_mb * MB))
            for number, parcel in enumerate(parcels, 1):
                _write(options.out / str(number), parcel, options.python_version)
    except (PackError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        console.print(f"error: {said.strip().splitlines()[-1]}", style="red", markup=False)
        return 1
    return 0


class PackError(Exception):
    """Something that cannot be packed."""


def wanted(python_version: str) -> dict[str, str]:
    """Every package that the stages need on a machine with that Python: name -> version, as installed here."""
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    roots = [Requirement(line) for extra in EXTRAS for line in extras[extra]]
    found: dict[str, str] = {}
    environment = cast(dict[str, str], default_environment())
    environment |= {"python_version": python_version, "python_full_version": f"{python_version}.0", "extra": ""}
    waiting = [*roots, *map(Requirement, BESIDE)]
    while waiting:
        name = canonicalize_name(waiting.pop().name)
        if name in found or _HOSTS_OWN.fullmatch(name):
            continue
        found[name] = version(name)
        needs = map(Requirement, requires(name) or ())
        waiting += [n for n in needs if n.marker is None or n.marker.evaluate(environment)]
    return found


def fill(files: Iterable[tuple[Path, int]], most_bytes: int) -> list[list[Path]]:
    """Distribute files, in their order, over parcels; a later file fills the room that is left in an earlier
    parcel.

    Args:
        files: each with its size in bytes.
        most_bytes: of one parcel.

    Raises:
        PackError: a file is larger than that.
    """
    parcels: list[list[Path]] = []
    rooms: list[int] = []
    for path, size in files:
        if size > most_bytes:
            raise PackError(f"{path.name} has {size / MB:.1f} MB, and a parcel {most_bytes / MB:.0f}")
        number = next((i for i, room in enumerate(rooms) if room >= size), len(rooms))
        if number == len(rooms):
            parcels.append([])
            rooms.append(most_bytes)
        parcels[number].append(path)
        rooms[number] -= size
    return parcels


def _files(folder: Path, python_version: str) -> list[Path]:
    """All wheels and the Java, in the order of need."""
    packages = wanted(python_version)
    last = [name for name in packages if name in COMMON]
    served = [name for name in packages if name in SERVER]
    first = sorted(set(packages) - {*last, *served})
    console.print(f"{len(packages)} packages for Python {python_version}, and Java", highlight=False)

    def wheel(name: str) -> Path:
        return _wheel(f"{name}=={packages[name]}", folder, python_version)

    with ThreadPoolExecutor(4) as pool:
        java = pool.submit(_java, folder)
        wheels = dict(zip(packages, pool.map(wheel, packages), strict=True))
    return [*map(wheels.__getitem__, [*first, *served]), java.result(), *map(wheels.__getitem__, last)]


def _wheel(requirement: str, folder: Path, python_version: str) -> Path:
    """The wheel of a package for the other machine's Python."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        into = partial(_pip, folder=own)
        machine = platform.machine()
        target = ["--python-version", python_version, "--implementation", "cp"]
        target += [part for name in _PLATFORMS for part in ("--platform", f"{name}_{machine}")]
        said = into("download", "--only-binary", ":all:", *target, "--dest", own, requirement)
        if said:  # published as source only, as pytorchvideo and others of its family are
            said = into("wheel", "--wheel-dir", own, requirement)
        if said:
            raise PackError(f"{requirement} cannot be had: {said}")
        (path,) = Path(own).glob("*.whl")
        if "-any.whl" not in path.name and machine not in path.name:
            raise PackError(f"{path.name} does not run on {machine}")
        if not _fits(path.name, python_version):
            raise PackError(f"{requirement} has no wheel for Python {python_version}, and is not pure Python")
        return path.rename(folder / path.name)


def _fits(wheel: str, python_version: str) -> bool:
    """Whether a wheel is for that Python, or for any."""
    return any(part in wheel for part in (f"-cp{python_version.replace('.', '')}-", "-abi3-", "-none-"))


def _pip(*arguments: str, folder: str) -> str:
    """Run pip; returns the last line of what it says where it fails."""
    command = [sys.executable, "-m", "pip", *arguments, "--no-deps", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return (done.stderr.strip().splitlines() or ["pip failed"])[-1] if done.returncode else ""


def _java(folder: Path) -> Path:
    """A small Java for TorchServe, made from this machine's JDK."""
    jlink = shutil.which("jlink")
    if jlink is None:
        raise PackError("jlink is not here; install it: apt-get install openjdk-17-jdk-headless")
    with tempfile.TemporaryDirectory(dir=folder) as own:
        home = Path(own) / "jre"
        command = [jlink, "--add-modules", ",".join(_MODULES), "--strip-debug", "--no-man-pages"]
        command += ["--no-header-files", "--compress=0", "--output", str(home)]
        subprocess.run(command, check=True, capture_output=True, text=True)
        archive = folder / JAVA
        with tarfile.open(archive, "w:xz") as tar:
            tar.add(home, "jre")
    return archive


def _write(folder: Path, files: Sequence[Path], python_version: str) -> None:
    """Move a parcel's files into its folder, with what says what they are for."""
    folder.mkdir()
    moved = [path.rename(folder / path.name) for path in files]
    contents = {
        "python": python_version,
        "machine": platform.machine(),
        "sha256": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(moved)},
    }
    (folder / CONTENTS).write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")
    size = sum(path.stat().st_size for path in moved)
    console.print(f"{folder}: {len(moved)} files, {size / MB:.1f} MB", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
