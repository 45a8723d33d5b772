"""Benchmark artifacts on another machine with what is installed there."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from compress.deployment.artifact import find_artifact
from compress.deployment.bench_measure import AUTO, BenchSettings, Measured, files_of_formats
from compress.deployment.remote import worker
from compress.deployment.remote.bundle import write_bundle
from compress.deployment.remote.connection import ask
from compress.deployment.runtime import ExportOnlyRuntime
from compress.deployment.runtimes import find_runtime
from compress.registry import RUNTIMES
from compress.utils.checksums import require_unchanged_artifact
from compress.utils.errors import CompressError, UsageError
from compress.utils.hosts import Host

NEEDED = ("numpy",)


def measure_on(host: Host, paths: Sequence[Path], settings: BenchSettings) -> Measured:
    """Measure artifacts on another machine, as `measure_files` does on this one.

    The artifacts and the modules that load and time them are sent to a temporary folder there, which is removed
    afterwards, also after a failure or an interruption. Nothing is installed.

    Raises:
        UsageError: a path is not an artifact, or a runtime is unknown or does not read it.
        CompressError: an artifact is damaged, the machine cannot be reached, or a runtime is missing there.
    """
    named = None if settings.runtime == AUTO else settings.runtime
    files = [file for path in paths for file in (files_of_formats(path) if settings.runtime == AUTO else [path])]
    found = [find_artifact(file, named) for file in files]
    for file, name in found:
        if reason := cannot_be_sent(name):
            raise UsageError(reason)
        require_unchanged_artifact(file.parent)
    folders = {folder: f"artifacts/{number}" for number, folder in enumerate(dict.fromkeys(f.parent for f, _ in found))}
    sent = [(f"{folders[file.parent]}/{file.name}", file) for file, _ in found]
    readers = [name for name, entry in RUNTIMES.items() if any(file.name.endswith(entry.reads) for _, file in sent)]
    used = readers if settings.runtime == AUTO else [name for _, name in found]
    request = {"files": [name for name, _ in sent], "settings": asdict(settings)}
    answer = _answer(host, request, used, folders)
    return _measured(host, answer["measured"], {name: str(file) for name, file in sent})


def missing_on(host: Host, runtimes: Sequence[str]) -> dict[str, str]:
    """Return the runtimes that another machine lacks, each with the reason.

    Raises:
        CompressError: the machine cannot be reached, or lacks Python or numpy.
    """
    missing: dict[str, str] = _answer(host, {"probe": list(runtimes)}, runtimes, {})["missing"]
    return missing


def cannot_be_sent(runtime: str) -> str | None:
    """Say why a runtime's files cannot be measured on other machines, whatever is there; None where they can."""
    if isinstance(found := find_runtime(runtime), ExportOnlyRuntime):
        return str(found.not_run_here())
    if not isinstance(RUNTIMES[runtime].where, str):
        return f"the runtime {runtime} is a plugin's, which is not sent to other machines"
    return None


def _answer(
    host: Host, request: Mapping[str, Any], runtimes: Sequence[str], folders: Mapping[Path, str]
) -> Mapping[str, Any]:
    """Send a request, with folders by their names there, and return the answer; its error is raised."""
    entries = [RUNTIMES[name].where for name in runtimes]
    modules = [worker.__name__, *(where.partition(":")[0] for where in entries if isinstance(where, str))]
    with tempfile.TemporaryFile() as archive:
        write_bundle(archive, modules, {name: folder for folder, name in folders.items()}, request)
        size = archive.tell()
        archive.seek(0)
        answer = ask(host, worker.__name__, NEEDED, archive, size)
    if "error" not in answer:
        return answer
    message = str(answer["error"])
    for here, there in folders.items():
        message = message.replace(f"{there}/", f"{here}/")
    raise (UsageError if answer.get("usage") else CompressError)(f"{host}: {message}")


def _measured(host: Host, measured: Measured, names: Mapping[str, str]) -> Measured:
    """Name the machine and the files as they are called here; JSON has made strings of the batch sizes."""
    times = measured["times"]
    return {
        **measured,
        "environment": {**measured["environment"], "host": str(host)},
        "artifacts": [{**row, "path": names[row["path"]]} for row in measured["artifacts"]],
        "times": None if times is None else {int(batch): by_number for batch, by_number in times.items()},
    }
