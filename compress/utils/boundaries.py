"""Where libraries are called with a person's network or images: whatever they raise becomes one line with a remedy.

Compression libraries raise what their internals happen to raise on networks that they do not support: a
`ZeroDivisionError` of a dependency graph, a `KeyError` of an operator table. Each has one entry in `BOUNDARIES`, and
each call of it is made inside of `boundary`. The runner puts the stage in front.

Other libraries have boundaries where they are called: timm and torchvision in `models/factory.py`, open_clip in
`models/teachers.py`, Lightning's trainer in `training/fit.py`, PIL in `data/image_io.py`, pyarrow in `data/arrow.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from compress.utils.errors import CompressError, first_line, printable
from compress.utils.machine_faults import is_machine_fault
from compress.utils.time_limit import time_limit

MAX_MESSAGE = 170  # the stage comes in front
PLAIN = (RuntimeError, NotImplementedError, TypeError, ValueError, TimeoutError)
"""Errors whose message says what is wrong without their type."""
ORT_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
INSIDES = ("NoneType", " object at 0x", "<class '", "<function ")
"""Parts of messages that tell of a library's code and not of the network."""


@dataclass(frozen=True)
class Boundary:
    """What a library is asked to do with a network, and what to try where it cannot."""

    failure: str  # what the network cannot be, as in `cannot be pruned by torch-pruning`
    remedy: str
    last_line: bool = False  # whether the last line of its messages is the reason; those before it name its source
    longest_s: float = math.inf  # after which it is taken to run for ever


BOUNDARIES = {
    "torch-pruning": Boundary(
        "pruned by torch-pruning",
        "leave layers out with `keep`, use `kind: sparsify`, or choose another network",
        longest_s=240,  # its graph of some networks, such as FocalNet, has no end
    ),
    "torch.export": Boundary("captured by torch.export", "set `method: onnxruntime`, or choose another network"),
    "torchao": Boundary("quantized by torchao", "leave layers out with `keep`, or set `method: onnxruntime`"),
    "nncf": Boundary("quantized by nncf", "leave layers out with `keep`, or set `method: onnxruntime`"),
    "onnxruntime": Boundary("quantized by onnxruntime", "leave layers out with `keep`, or set `method: torchao`"),
    "openvino": Boundary("converted to OpenVINO", "remove openvino from `runtimes`, or choose another network", True),
    "ONNX Runtime": Boundary(
        "run by ONNX Runtime", "leave layers out with `keep`, quantize by another `method`, or choose another network"
    ),
    "runtime": Boundary("run", "remove the runtime from `runtimes`"),
}
OTHER_METHOD = "choose another `method`"  # of a quantizer without an entry, such as a plugin's
EXPORT_REMEDY = "choose another runtime or network"
"""Of exporters, whose boundary is `exporting` in `models/onnx_export.py`."""


@contextmanager
def boundary(name: str, what: str) -> Iterator[None]:
    """Turn what a library raises on `what`, a network, into one line that names both, the cause and the remedy.

    Lack of memory and errors of the system stay as they are: they are no fault of the network.

    Raises:
        CompressError: the library fails.
    """
    entry = BOUNDARIES.get(name) or Boundary(f"quantized by {name}", OTHER_METHOD)
    try:
        with time_limit(entry.longest_s) if entry.longest_s < math.inf else nullcontext():
            yield
    except TimeoutError as error:
        raise failed(entry, what, error) from error
    except CompressError:
        raise
    except Exception as error:
        if is_machine_fault(error):
            raise
        raise failed(entry, what, error) from error


def failed(entry: Boundary, what: str, error: BaseException) -> CompressError:
    """Return the error for what a library raised; see `boundary`."""
    before, after = f"{what} cannot be {entry.failure}: ", f"; {entry.remedy}"
    return CompressError(f"{before}{_cause(entry, error, MAX_MESSAGE - len(before) - len(after))}{after}")


def _cause(entry: Boundary, error: BaseException, longest: int) -> str:
    """Return one line of an error, with its type where the message alone says little, as `KeyError: 'p'`; of one that
    tells of the library's code, only its type.
    """
    lines = str(error).strip().splitlines()
    line = printable(lines[-1].strip() if entry.last_line and lines else first_line(error))
    line, kind = ORT_PREFIX.sub("", line), type(error).__name__
    if isinstance(error, RecursionError) or any(inside in line for inside in INSIDES):
        return f"internal {kind}"
    if not isinstance(error, PLAIN) and line != kind:
        line = f"{kind}: {line}"
    line = line.rstrip(" .;:")
    return line if len(line) <= longest else f"{line[: max(longest, 20) - 3]}..."
