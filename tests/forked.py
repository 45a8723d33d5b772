"""Processes of the command line that are forked from one that has imported everything, which saves ten seconds each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from onnx_exports import remember_signatures

# No thread may exist at a fork, so packages that start one when they are used are only imported.
PRELOADED = (
    "compress.api",
    "compress.cli",
    "compress.pipeline.runner",
    "compress.report.page",
    "torch",
    "lightning",
    "timm",
    "torch_pruning",
    "torchao.quantization.pt2e.quantize_pt2e",
    "onnx",
    "onnxscript.function_libs.torch_lib.ops",
    "nncf.onnx",
    "matplotlib.figure",
)

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(list(PRELOADED))


@dataclass(frozen=True)
class Forked:
    """A running command, with its output in files."""

    command: Sequence[str]
    process: ForkServerProcess
    out: Path
    err: Path

    @property
    def pid(self) -> int:
        assert self.process.pid
        return self.process.pid

    def wait(self, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        self.process.join(timeout)
        assert self.process.exitcode is not None, f"still running after {timeout} s"
        return subprocess.CompletedProcess(
            self.command, self.process.exitcode, self.out.read_text(), self.err.read_text()
        )


def start(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Forked:
    """Start `python -m compress ...` in a fresh process; its output goes to files in `folder`."""
    number = len(list(folder.glob("*.out")))
    out, err = folder / f"{number}.out", folder / f"{number}.err"
    out.touch()
    process = _CONTEXT.Process(
        target=_run, args=(list(command), dict(environment), str(Path.cwd()), str(out), str(err))
    )
    process.start()
    return Forked(command, process, out, err)


def _run(command: list[str], environment: dict[str, str], folder: str, out: str, err: str) -> None:
    for path, descriptor in ((out, 1), (err, 2)):
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["compress-model", *command[3:]]  # after `python -m compress`
    remember_signatures()
    from compress.__main__ import main

    main()
