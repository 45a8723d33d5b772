"""The verb `doctor`."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import typer

from compress.cli.options import AsJson, print_json

CORE = ("torch", "torchvision", "open_clip_torch", "timm", "torchao", "lightning", "torch-pruning", "safetensors")
QUICKSTART_BYTES = 2 * 2**30
"""Free disk space below which `doctor` marks the disk: about twice what the quickstart takes."""


@dataclass(frozen=True)
class Check:
    """One row of `doctor`."""

    name: str
    present: bool  # whether it is there and works
    detail: str  # its version or place, or the command that adds it
    broken: bool = False  # whether it is installed but cannot be imported


def doctor(as_json: AsJson = False) -> None:
    """Check what this machine has, and how to add the rest."""
    checks = examine()
    if as_json:
        print_json(checks)
        return
    for check in checks:
        mark = "ok" if check.present else "broken" if check.broken else "absent"
        print(f"{mark:<7} {check.name:<28} {check.detail}")


def examine() -> list[Check]:
    """Examine processor, GPU, packages, runtimes, embedded assets, energy counters and disk."""
    return [*_machine(), *_packages(), *_runtimes(), *_assets(), *_counters(), _disk()]


def _machine() -> Iterator[Check]:
    from compress.utils.system import describe_cores, processor

    yield Check("python", True, platform.python_version())
    yield Check("processor", True, f"{processor()}, {describe_cores()}")
    yield _gpu()


def _gpu() -> Check:
    if _has_torch():
        import torch

        if torch.cuda.is_available():
            return Check("gpu", True, torch.cuda.get_device_name())
        if torch.backends.mps.is_available():
            return Check("gpu", True, "Apple MPS")
        return Check("gpu", False, "none found; everything runs on the processor")
    return Check("gpu", False, "not known without torch")


def _has_torch() -> bool:
    from compress.utils.system import version_of

    return version_of("torch") is not None


def _packages() -> Iterator[Check]:
    from compress.utils.system import version_of

    how_to_add = {package: f"pip install {package}" for package in CORE}
    how_to_add["pyarrow"] = "Parquet, Hugging Face: pip install 'compress-model[data]'"
    for package, command in how_to_add.items():
        version = version_of(package)
        yield Check(package, version is not None, version or command)


def _runtimes() -> Iterator[Check]:
    from compress.deployment.runtimes import broken, find_runtime, missing
    from compress.registry import RUNTIMES
    from compress.utils.system import version_of

    for name in RUNTIMES:
        runtime, absent = find_runtime(name), missing(name)
        versions = ", ".join(f"{package} {version_of(package)}" for package in runtime.packages)
        installed = None not in map(find_spec, runtime.packages)
        reason = broken(runtime, runtime.packages) if installed else None
        detail = reason or (f"no {', '.join(absent)}: {runtime.install}" if absent else versions)
        if where := runtime.runs_on:
            detail += f"; its files are written and checked here, and run {where}"
        yield Check(f"runtime {name}", not absent and not reason, detail, broken=reason is not None)


def _assets() -> Iterator[Check]:
    from compress.utils.resources import ASSETS

    weights = [f"{student}/imagenet.int8.safetensors" for student in ("resnet18", "mobilenetv2")]
    assets = ("cifar10-sample/sample.json", "teacher/open_clip_model.safetensors", *weights)
    for asset in assets:
        yield Check(f"embedded {asset.split('/')[0]}", (ASSETS / asset).exists(), str(ASSETS / asset))


def _counters() -> Iterator[Check]:
    """Check whether the energy of the processor, and of a GPU if there is one, can be measured."""
    from compress.measurement.counters import find_counter

    counters = {"energy counter": find_counter()}
    if _has_torch():
        import torch

        if torch.cuda.is_available():
            counters["energy counter, gpu"] = find_counter("cuda")
    for name, result in counters.items():
        yield Check(name, result.counter is not None, result.detail)


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free
    return Check("disk", free > QUICKSTART_BYTES, f"{free / 2**30:.1f} GiB free here; the quickstart needs about 1")


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(epilog="Example: compress-model doctor")(doctor)
