"""Benchmark artifacts on another machine with what is installed there."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

from compress.deployment.artifact import find_artifact
from compress.deployment.artifact_files import artifact_files
from compress.deployment.bench_measure import AUTO, BenchSettings, Measured, grouped
from compress.deployment.remote import worker
from compress.deployment.remote.bundle import write_bundle
from compress.deployment.remote.connection import AGAIN, Limit, ask
from compress.deployment.runtimes import cannot_be_sent
from compress.registry import RUNTIMES
from compress.utils.checksums import require_unchanged_artifact
from compress.utils.errors import CompressError, UsageError, first_line
from compress.utils.hosts import Host

NEEDED = ("numpy",)
PROBE = Limit(60.0, "its Python or a runtime hangs there: import them there, or name another Python in the address")
FILE_S = 3600.0  # for a file, a batch size and 30 rounds; a slow board takes minutes
HANGS = "a runtime may hang there: take fewer rounds, smaller batches, or one runtime at a time"


def measure_on(host: Host, paths: Sequence[Path], settings: BenchSettings) -> Measured:
    """Measure artifacts on another machine, as `measure_files` does on this one.

    The artifacts and the modules that load and time them are sent to a temporary folder there, which is removed
    afterwards, also after a failure or an interruption. Nothing is installed.

    Raises:
        UsageError: a path is not an artifact, or a runtime is unknown or does not read it.
        CompressError: an artifact is damaged, the machine cannot be reached, or a runtime is missing there.
    """
    groups = [_sendable(files, settings) for files in grouped(paths, settings)]
    found = [pair for group in groups for pair in group]
    for file, _ in found:
        require_unchanged_artifact(file)
    folders = {folder: f"artifacts/{number}" for number, folder in enumerate(dict.fromkeys(f.parent for f, _ in found))}
    sent = [(f"{folders[file.parent]}/{file.name}", file) for file, _ in found]
    readers = [name for name, entry in RUNTIMES.items() if any(file.name.endswith(entry.reads) for _, file in sent)]
    used = readers if settings.runtime == AUTO else [name for _, name in found]
    named = iter(name for name, _ in sent)
    request = {"groups": [[next(named) for _ in group] for group in groups], "settings": asdict(settings)}
    timed = len(sent) * (len(readers) if settings.runtime == AUTO else 1)
    answer = _answer(host, request, used, _limit(settings, timed), [file for _, file in sent], folders)
    try:
        return _measured(host, answer["measured"], {name: str(file) for name, file in sent})
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise malformed(host, error) from error


def _sendable(files: Sequence[Path], settings: BenchSettings) -> list[tuple[Path, str]]:
    """Return the file to load and its runtime for each path of a group, without those that only run on this machine.

    Raises:
        UsageError: nothing is left.
    """
    found = [find_artifact(file, None if settings.runtime == AUTO else settings.runtime) for file in files]
    sent = [pair for pair in found if cannot_be_sent(pair[1]) is None]
    if not sent:
        raise UsageError("; ".join(dict.fromkeys(filter(None, (cannot_be_sent(name) for _, name in found)))))
    return sent


def malformed(host: Host, error: Exception) -> CompressError:
    """Return the error for an answer of a machine that is not what it should be."""
    return CompressError(f"{host}: the answer is damaged: {type(error).__name__}: {first_line(error)}; {AGAIN}")


def missing_on(host: Host, runtimes: Sequence[str]) -> dict[str, str]:
    """Return the runtimes that another machine lacks, each with the reason.

    Raises:
        CompressError: the machine cannot be reached, or lacks Python or numpy.
    """
    answer = _answer(host, {"probe": list(runtimes)}, runtimes, PROBE)
    try:
        return {str(name): str(reason) for name, reason in answer["missing"].items()}
    except (AttributeError, KeyError) as error:
        raise malformed(host, error) from error


def _limit(settings: BenchSettings, timed: int) -> Limit:
    """Return a generous limit for a benchmark of so many files in their runtimes."""
    rounds = max(1.0, settings.rounds / 30)
    return Limit(timed * (len(settings.batches) * rounds * FILE_S + 10 * settings.seconds), HANGS)


def _answer(
    host: Host,
    request: Mapping[str, Any],
    runtimes: Sequence[str],
    limit: Limit,
    artifacts: Sequence[Path] = (),
    folders: Mapping[Path, str] = MappingProxyType({}),
) -> Mapping[str, Any]:
    """Send a request, with artifacts in folders by their names there, and return the answer; its error is raised."""
    entries = [RUNTIMES[name].where for name in runtimes]
    modules = [worker.__name__, *(where.partition(":")[0] for where in entries if isinstance(where, str))]
    files = {
        f"{folders[artifact.parent]}/{file.relative_to(artifact.parent).as_posix()}": file
        for artifact in artifacts
        for file in artifact_files(artifact)
    }
    try:
        with tempfile.TemporaryFile() as archive:
            write_bundle(archive, modules, files, request)
            size = archive.tell()
            archive.seek(0)
            answer = ask(host, worker.__name__, NEEDED, archive, size, limit)
    except OSError as error:
        where = error.filename or tempfile.gettempdir()
        remedy = "make the files readable, or free space there or in the folder that TMPDIR names"
        raise CompressError(f"{host}: the artifacts cannot be packed: {where}: {error.strerror}; {remedy}") from error
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
