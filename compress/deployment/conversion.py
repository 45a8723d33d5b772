"""Run exporters and converters: quiet, and with one clear line where they fail."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from compress.models.onnx_export import exporting
from compress.utils.errors import CompressError

__all__ = ["convert", "exporting"]
LONGEST_S = 3600.0  # a converter takes minutes; one that hangs is ended


def convert(
    command: Sequence[str], path: Path, program: str, failure: str, environment: Mapping[str, str] | None = None
) -> None:
    """Run the converter `program`, which must write `path`, in a process of its own; messages begin with `failure`.

    Raises:
        CompressError: the converter fails, or writes no file.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", env=environment, timeout=LONGEST_S
        )
    except subprocess.TimeoutExpired as error:
        raise CompressError(f"{failure}: {program} hangs, and was ended after {LONGEST_S:,.0f} s") from error
    if done.returncode < 0:
        reason = f"{program} was ended by signal {-done.returncode} ({signal.strsignal(-done.returncode)})"
    elif done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2][:300] or f"{program} ended with {done.returncode}"
    elif not path.is_file():
        reason = f"{program} wrote no file"
    else:
        return
    raise CompressError(f"{failure}: {reason}")
