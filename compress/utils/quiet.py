"""Keeping off the console what libraries write there. Needs nothing that is installed: artifacts run without rich."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the warnings and log lines of the exporters off the console."""
    names = ("root", "torch", "torch.onnx", "torch.export", "torchao", "onnxscript", "onnx_ir")
    loggers = [logging.getLogger(name) for name in names]
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
    """Keep off the console what libraries in C++ write to the standard error, Python's or the process's, meanwhile."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
