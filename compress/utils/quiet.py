"""Keep the output of libraries off the console. Standard library only, because artifacts also run without rich."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

LOGGERS = ("root", "torch", "torch.onnx", "torch.export", "torchao", "onnxscript", "onnx_ir")


@contextmanager
def quiet() -> Iterator[None]:
    """Hide warnings and log lines of exporters."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def silent() -> Iterator[None]:
    """Discard everything written to stderr meanwhile, by Python or by C++ libraries of this process."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as devnull, redirect_stderr(devnull):
            os.dup2(devnull.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
