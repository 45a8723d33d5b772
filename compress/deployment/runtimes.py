"""Finding runtimes by name, and checking that what they need is installed."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
from collections.abc import Sequence
from functools import cache
from typing import cast

from compress.deployment.runtime import ExportOnlyRuntime, Runtime
from compress.registry import RUNTIMES, RuntimeEntry, load_entry
from compress.utils.errors import CompressError, UsageError, first_line
from compress.utils.messages import unknown

OUT_OF_MEMORY = "failed to map segment from shared object"
"""The loader's message where memory is short; where files may not be executed, a reason follows."""


def find_runtime(name: str) -> Runtime:
    """Return a runtime by name, the same instance each time. Imports its module, and nothing heavy.

    Raises:
        UsageError: there is no runtime of this name.
    """
    return _instance(name, runtime_entry(name))


def runtime_entry(name: str) -> RuntimeEntry:
    """Return the entry of a runtime in the table, or raise a `UsageError`; imports nothing."""
    if name not in RUNTIMES:
        raise UsageError(unknown("runtime", name, RUNTIMES))
    return RUNTIMES[name]


@cache
def _instance(name: str, entry: RuntimeEntry) -> Runtime:
    kind = load_entry(entry.where) if isinstance(entry.where, str) else entry.where
    return cast(Runtime, kind(name, entry.device))


def missing(name: str) -> list[str]:
    """List the packages, programs and device of a runtime that are missing.

    Imports nothing heavy, except the engine of a runtime that looks for a device.
    """
    runtime = find_runtime(name)
    absent = [package for package in runtime.packages if importlib.util.find_spec(package) is None]
    absent += [program for program in runtime.programs if shutil.which(program) is None]
    return absent or _lacking(runtime)


def _lacking(runtime: Runtime) -> list[str]:
    try:
        return runtime.lacking()
    except (Exception, SystemExit) as error:  # it imports the engine, which may raise anything
        return [f"{runtime.engine} that can be imported ({type(error).__name__}: {first_line(error)})"]


def broken(runtime: Runtime, packages: Sequence[str]) -> str | None:
    """Import installed packages of a runtime, and describe the first that fails; None where all can be imported.

    Raises:
        KeyboardInterrupt: a signal arrived meanwhile, which a package's own code may take for a failed import.
        MemoryError: there is not enough memory for a package's library.
    """
    for package in packages:
        try:
            if package == runtime.engine:
                runtime.import_engine()
            else:
                importlib.import_module(package)
        except (Exception, SystemExit) as error:  # a package may raise anything at its import
            if isinstance(error.__cause__ or error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from error
            if str(error).endswith(OUT_OF_MEMORY):
                raise MemoryError(first_line(error)) from error
            return f"{package} is broken: {type(error).__name__}: {first_line(error)}"
    return None


def require_whole(name: str) -> None:
    """Import all packages of an installed runtime; a `CompressError` names one that cannot be imported."""
    runtime = find_runtime(name)
    _require_importable(runtime, runtime.packages)


def require(name: str) -> Runtime:
    """Return a runtime by name, with everything that it needs installed.

    Raises:
        UsageError: there is no runtime of this name.
        CompressError: a package, program or device is missing; the message has the command that adds it.
    """
    if absent := missing(name):
        raise _needs(name, absent)
    return find_runtime(name)


def cannot_be_sent(name: str) -> str | None:
    """Say why a runtime's files cannot be measured on other machines, whatever is there; None where they can."""
    if isinstance(found := find_runtime(name), ExportOnlyRuntime):
        return str(found.not_run_here())
    if not isinstance(RUNTIMES[name].where, str):
        return f"the runtime {name} is a plugin's, which is not sent to other machines"
    return None


def require_engine(name: str) -> Runtime:
    """Return a runtime by name, with what it needs to run an existing file; imports its engine.

    Raises:
        UsageError: there is no runtime of this name.
        CompressError: its files do not run on this machine, its engine is missing or broken, or its device is missing;
            the message has the command that adds it.
    """
    runtime = find_runtime(name)
    if isinstance(runtime, ExportOnlyRuntime):
        raise runtime.not_run_here()
    if importlib.util.find_spec(runtime.engine) is None:
        raise CompressError(f"the runtime {name} is not installed: pip install {runtime.engine}")
    _require_importable(runtime, [runtime.engine])
    if absent := _lacking(runtime):
        raise _needs(name, absent)
    return runtime


def _require_importable(runtime: Runtime, packages: Sequence[str]) -> None:
    if reason := broken(runtime, packages):
        raise CompressError(f"the runtime {runtime.name} cannot be used, {reason}; install it again")


def _needs(name: str, absent: Sequence[str]) -> CompressError:
    return CompressError(f"the runtime {name} needs {', '.join(absent)}: {find_runtime(name).install}")
