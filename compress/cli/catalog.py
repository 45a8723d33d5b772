"""What recipes can name, and what this machine has."""

from __future__ import annotations

import difflib
import inspect
import platform
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import yaml

from compress.recipe.losses import Losses
from compress.registry import PLUGIN_LOSSES, quantizers
from compress.utils.errors import UsageError
from compress.utils.resources import ASSETS, config_names, shipped
from compress.utils.system import cores, processor, version_of

if TYPE_CHECKING:
    from compress.deployment.runtime import Runtime

CORE = ("torch", "torchvision", "open_clip_torch", "timm", "torchao", "lightning", "torch-pruning", "safetensors")
CONFIGS = ("teachers", "students", "data", "trends", "deployments")
KINDS = (*CONFIGS, "losses", "pruners", "quantizers", "runtimes")
PRUNERS = {
    "prune": "whole channels by norm, scale, Taylor or chance, to a share of cost or latency (arXiv 2301.12900)",
    "shrink": "the control: the same network made narrow before training, for as much compute as prune took",
    "sparsify": "single weights to zero, anywhere (arXiv 1710.01878) or 2:4 (arXiv 2104.08378); the shapes stay",
}


def names(what: str) -> dict[str, str]:
    """Names of one kind, each with a line about it.

    Raises:
        UsageError: there is no such kind.
    """
    from compress.deployment.runtimes import find_runtime, missing
    from compress.registry import RUNTIMES

    kinds: dict[str, dict[str, str]] = {
        "losses": _losses(),
        "pruners": PRUNERS,
        "quantizers": {name: method.about for name, method in quantizers().items()},
        "runtimes": {name: _needs(find_runtime(name), missing(name)) for name in RUNTIMES},
    }
    if what in CONFIGS:
        return {name: _about(what, name) for name in config_names(what)}
    if what not in kinds:
        close = difflib.get_close_matches(what, KINDS, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UsageError(f"there is no list of {what!r}{hint} There are {', '.join(KINDS)}")
    return kinds[what]


def _needs(runtime: Runtime, absent: list[str]) -> str:
    here = f"its files run {runtime.runs_on}" if runtime.runs_on else "runs here"
    state = f"not here: no {', '.join(absent)}" if absent else here
    needed = ", ".join((*runtime.packages, *runtime.programs))
    limits = "" if runtime.quantizers else "; takes float networks only"
    limits += "; experimental: our tests have never run it" if runtime.experimental else ""
    return f"{state}; needs {needed}{limits}"


def _losses() -> dict[str, str]:
    """The losses that a recipe can name: their own description, or the first line of their section."""
    about = {}
    for name, field in Losses.model_fields.items():
        section = next(kind for kind in get_args(field.annotation) if kind is not type(None))
        about[name] = field.description or (inspect.getdoc(section) or "").split("\n")[0].rstrip(".")
    own = {f"own: {name}": (inspect.getdoc(function) or "").split("\n")[0] for name, function in PLUGIN_LOSSES.items()}
    return {name: line for name, line in about.items() if name != "own"} | own


def _about(kind: str, name: str) -> str:
    """The first comment of a config."""
    text = (shipped("configs") / kind / f"{name}.yaml").read_text()
    comments = [line.lstrip("# ").strip() for line in text.splitlines() if line.startswith("#")]
    settings = yaml.safe_load(text)
    return comments[0] if comments else str(settings.get("basis", settings))


def examine() -> list[dict[str, Any]]:
    """Rows `{name, present, broken, detail}`: the processor, the GPU, the packages, the embedded assets, the disk."""
    from compress.deployment.runtimes import broken, find_runtime, missing
    from compress.registry import RUNTIMES

    rows = [
        _row("python", True, platform.python_version()),
        _row("processor", True, f"{processor()}, {cores()} cores"),
        _gpu(),
    ]
    for package in CORE:
        version = version_of(package)
        rows.append(_row(package, version is not None, version or f"pip install {package}"))
    arrow = version_of("pyarrow")
    rows.append(
        _row("pyarrow", arrow is not None, arrow or "Parquet, Hugging Face: pip install 'compress-model[data]'")
    )
    for name in RUNTIMES:
        runtime, absent = find_runtime(name), missing(name)
        versions = ", ".join(f"{package} {version_of(package)}" for package in runtime.packages)
        installed = None not in map(find_spec, runtime.packages)
        reason = broken(runtime.packages) if installed else None
        detail = reason or (f"no {', '.join(absent)}: {runtime.install}" if absent else versions)
        if where := runtime.runs_on:
            detail += f"; its files are written and checked here, and run {where}"
        rows.append(_row(f"runtime {name}", not absent and not reason, detail, reason is not None))
    for asset in ("cifar10-sample/sample.json", "teacher/open_clip_model.safetensors"):
        rows.append(_row(f"embedded {asset.split('/')[0]}", (ASSETS / asset).exists(), str(ASSETS / asset)))
    rows += _counters()
    free = shutil.disk_usage(Path.cwd()).free
    rows.append(_row("disk", free > 2 * 2**30, f"{free / 2**30:.1f} GiB free here; the quickstart needs about 1"))
    return rows


def _gpu() -> dict[str, Any]:
    import torch

    if torch.cuda.is_available():
        return _row("gpu", True, torch.cuda.get_device_name())
    if torch.backends.mps.is_available():
        return _row("gpu", True, "Apple MPS")
    return _row("gpu", False, "none; everything runs on the processor")


def _counters() -> list[dict[str, Any]]:
    """Whether the energy of the processor, and of a GPU where there is one, can be measured, or why not."""
    import torch

    from compress.measurement.counters import find_counter

    found = {"energy counter": find_counter()}
    if torch.cuda.is_available():
        found["energy counter, gpu"] = find_counter("cuda")
    return [_row(name, one.counter is not None, one.detail) for name, one in found.items()]


def _row(name: str, present: bool, detail: str, broken: bool = False) -> dict[str, Any]:
    return {"name": name, "present": present, "broken": broken, "detail": detail}
