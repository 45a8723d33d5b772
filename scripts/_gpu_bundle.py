"""The wheels that `gpu_check` needs on a machine without a network, collected from the package index."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PRESENT = ("torch", "torchvision", "timm", "lightning", "onnx", "onnxruntime", "pillow", "pip")
"""What the machine with the GPU has, with all that these need."""
WANTED = ("hypothesis", "nvidia-ml-py", "onnxscript", "pytest")
"""What the check needs besides the package itself."""
MAX_BYTES = 40 * 2**20
PYTHON = ("--python-version", "3.12", "--implementation", "cp")
PLATFORMS = ("manylinux2014_x86_64", *(f"manylinux_2_{minor}_x86_64" for minor in (34, 31, 28, 27, 24, 17)))


def bundle(folder: Path) -> int:
    """Download the wheels of packages that the GPU machine lacks; return the exit status."""
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(lacking())
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    wanted = [f"{name}=={pins[name]}" if name in pins else name for name in names]
    platforms = [part for platform in PLATFORMS for part in ("--platform", platform)]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    pip += ["--only-binary=:all:", *PYTHON, *platforms, "--dest", str(folder)]
    for old in folder.glob("*.whl"):
        old.unlink()
    if subprocess.run([*pip, *wanted]).returncode:
        print(f"error: not all of {', '.join(wanted)} were found", file=sys.stderr)
        return 1
    size = sum(file.stat().st_size for file in folder.glob("*.whl"))
    print(f"{folder}: {len(names)} wheels, {size / 2**20:.1f} MiB: {', '.join(names)}")
    if size > MAX_BYTES:
        print(f"error: more than {MAX_BYTES / 2**20:.0f} MiB", file=sys.stderr)
        return 1
    return 0


def lacking() -> set[str]:
    """Return the packages that the check needs and the GPU machine lacks, by the metadata of this environment."""
    own = (ROOT / "pyproject.toml").read_text().split("dependencies = [", 1)[1].split("]", 1)[0]
    needed = [line.strip().strip('",') for line in own.splitlines() if line.strip()]
    return closure([*needed, *WANTED]) - closure(PRESENT)


def closure(requirements: Iterable[str]) -> set[str]:
    """Return packages and all that they need; what is not installed here needs nothing."""
    found: set[str] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        name = canonicalize_name(waiting.pop().name)
        if name in found:
            continue
        found.add(name)
        try:
            further = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        parsed = map(Requirement, further)
        waiting += [one for one in parsed if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found
