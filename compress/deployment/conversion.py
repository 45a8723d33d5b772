"""Running exporters and converters: quiet, and with one clear line where they fail."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from compress.utils.errors import CompressError, first_line
from compress.utils.quiet import quiet

if TYPE_CHECKING:
    from torch import nn


@contextmanager
def exporting(model: nn.Module, action: str) -> Iterator[None]:
    """Export `model` in evaluation mode, without gradients and log lines; its mode is restored.

    Messages say that the model cannot be `action`, as in "exported to ONNX".

    Raises:
        CompressError: the exporter fails.
    """
    import torch

    training = model.training
    try:
        with quiet(), torch.no_grad():
            model.eval()
            yield
    except Exception as error:  # exporters raise whatever the traced code raises
        # ONNX's says at which step it failed; the error that caused it says why.
        cause = error.__cause__ if isinstance(error, torch.onnx.OnnxExporterError) else None
        raise CompressError(f"{type(model).__name__} cannot be {action}: {first_line(cause or error)}") from error
    finally:
        model.train(training)


def convert(
    command: Sequence[str], path: Path, program: str, failure: str, environment: Mapping[str, str] | None = None
) -> None:
    """Run the converter `program`, which must write `path`, in a process of its own; messages begin with `failure`.

    Raises:
        CompressError: the converter fails, or writes no file.
    """
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment)
    if done.returncode < 0:
        reason = f"{program} was ended by signal {-done.returncode} ({signal.strsignal(-done.returncode)})"
    elif done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2][:300] or f"{program} ended with {done.returncode}"
    elif not path.is_file():
        reason = f"{program} wrote no file"
    else:
        return
    raise CompressError(f"{failure}: {reason}")
