"""PyTorch's own compiler ahead of time (AOTInductor), on the CPU: C++ for one network and one processor.

The quantized graph of torchao's x86 quantizer is what the compiler's patterns look for: frozen, its integer weights are
packed for oneDNN's kernels, and the dequantize - convolution - quantize groups become single calls. It is compiled
once, for any batch size.

Float weights are packed at compile time for a fixed batch size alone; else they are packed again at every run, which
takes several times as long as the run itself. Float networks are compiled for one image and for 16, each with weights
of its own, and what comes is cut into such parts.

The package holds the C++ beside what was compiled from it.
"""

from __future__ import annotations

import json
import os
import re
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.deployment.coverage import Coverage, products
from compress.deployment.runtimes import Runner, thread_count, torch_threads
from compress.utils.errors import CompressError, first_line
from compress.utils.quiet import quiet

if TYPE_CHECKING:
    import numpy as np

    from compress.deployment.export import Source

NAME = "inductor"
FORMAT = "inductor"
READS = (".pt2",)
ENGINE = "torch"
PACKAGES = ("torch",)
PROGRAMS = (os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++"),)
ADD = "a C++ compiler, e.g. apt-get install g++; CXX names another"
QUANTIZED = ("torchao",)
PORTABLE = False
ANY = "any"  # name of the network that takes all batch sizes; the others are called by theirs
FIXED = (1, 16)
MACS = "compress_macs"
# In the C++: calls that multiply, with what they are given, and the shapes of weights and results.
CALL = re.compile(r"\baoti_torch_\w*?_(qconv|convolution|qlinear)\w*\((.*)\)\);")
BUFFER = re.compile(r"\b(buf\d+)(?:_handle)?\b")
NAME_OF = re.compile(r"constants_info_\[(\d+)\]\.name = \"(\w+)\"")
SHAPE = re.compile(r"constants_info_\[(\d+)\]\.shape = \{([^}]*)\}")
OUTPUT = re.compile(r"assert_size_stride\((buf\d+), \{([^}]*)\}")
WORD = re.compile(r"\b\w+\b")


def build(source: Source, folder: Path) -> Path:
    """Compile `model.pt2`; of a ResNet18 each of the two float networks, and the quantized one, take some ten seconds.

    Raises:
        CompressError: the network cannot be exported or compiled.
    """
    import torch
    from torch._inductor.package.package import package_aoti

    from compress.quantization.capture import converted

    model, training = source.model, source.model.training
    quantized = isinstance(model, torch.fx.GraphModule) and converted(model)
    names = [ANY] if quantized else [str(size) for size in FIXED]
    path = folder / "model.pt2"
    try:
        with quiet(), torch.no_grad():
            model.eval()
            package_aoti(str(path), {name: _compile(source, name) for name in names})
    except Exception as error:  # exporter and compiler raise whatever the traced code, or the C++ compiler, raises
        reason = first_line(error)
        raise CompressError(f"{type(model).__name__} cannot be compiled by inductor: {reason}") from error
    finally:
        model.train(training)
    return path


def _compile(source: Source, name: str) -> Any:
    """Files of the network for one batch size, or for any."""
    import torch
    from torch._inductor import aot_compile

    from compress.measurement.compute import weight_macs

    # Of one image, the exporter would conclude that there is only one.
    example = torch.zeros(2 if name == ANY else int(name), 3, source.resolution, source.resolution)
    shapes = ({0: torch.export.Dim("batch")},) if name == ANY else None
    graph = torch.export.export(source.model, (example,), dynamic_shapes=shapes).module(check_guards=False)
    assert isinstance(graph, torch.fx.GraphModule)
    options = {
        "freezing": True,
        "cpp.dynamic_threads": True,  # else the number of threads at compile time is compiled in
        "aot_inductor.package": True,
        "aot_inductor.metadata": {MACS: str(weight_macs(source.model, source.resolution))},
        "aot_inductor.output_path": str(source.work / FORMAT / name),
    }
    return aot_compile(graph, (example,), options=options)


def load(path: Path, threads: int | None = None) -> Runner:
    """Make a package ready to run.

    Raises:
        CompressError: the file cannot be read, or was compiled for another processor.
    """
    import numpy as np
    import torch
    from torch.export.pt2_archive._package import load_pt2

    try:
        for text in _members(path, "_metadata.json"):
            _refuse_other_processors(path, json.loads(text).get("AOTI_CPU_ISA", ""))
        with quiet():
            networks = load_pt2(str(path)).aoti_runners
    except CompressError:
        raise
    except Exception as error:  # of several types, none of them public
        why = f"it is damaged, or of another PyTorch than {torch.__version__}"
        raise CompressError(f"inductor cannot read {path}: {why} ({first_line(error)})") from error
    count = thread_count(threads)
    sizes = sorted((int(name) for name in networks if name != ANY), reverse=True)

    def run(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        batch = torch.from_numpy(np.ascontiguousarray(images))
        with torch.inference_mode(), torch_threads(count):
            if ANY in networks:
                return networks[ANY](batch).numpy()  # type: ignore[no-any-return]
            parts = torch.split(batch, _parts(len(batch), sizes))
            return torch.cat([networks[str(len(part))](part) for part in parts]).numpy()

    return run


def coverage(path: Path) -> Coverage:
    """What runs in integer, of the C++ that was compiled: its calls, and the shapes that it states of their tensors."""
    text = _members(path, ".wrapper.cpp")[0]  # those of other batch sizes make the same calls
    shapes = dict(SHAPE.findall(text))
    weights = {name: _sides(shapes[number]) for number, name in NAME_OF.findall(text)}
    outputs = {name: _sides(sides)[1:] for name, sides in OUTPUT.findall(text)}
    calls = CALL.findall(text)
    convolutions = [kind for kind, _ in calls if "conv" in kind]
    macs = [_multiplied(given, weights, outputs) for kind, given in calls if kind.startswith("q")]
    told = json.loads(_members(path, "_metadata.json")[0]).get(MACS)
    return Coverage(
        convolutions.count("qconv"),
        len(convolutions),
        sum(part or 0 for part in macs) if all(macs) else None,
        int(told) if told else None,
    )


def _multiplied(given: str, weights: Mapping[str, list[int]], outputs: Mapping[str, list[int]]) -> int | None:
    """MACs of a call, by what it is given; None where the C++ does not state the shapes."""
    weight = next((weights[name] for name in WORD.findall(given) if len(weights.get(name, ())) > 1), None)
    *others, result = BUFFER.findall(given)
    if result not in outputs and others and '"sum"' in given:  # it is added to the buffer before
        result = others[-1]
    output = outputs.get(result)
    return products(output, weight, output[0]) if weight and output else None


def _sides(text: str) -> list[int]:
    """A shape as C++ states it; a side that is not fixed, the batch, counts as one."""
    return [int(side) if side.isdecimal() else 1 for side in text.replace("L", "").split(", ")]


def _parts(count: int, sizes: Sequence[int]) -> list[int]:
    """`count` as a sum of `sizes`, which fall and end with 1."""
    parts = []
    for size in sizes:
        parts += [size] * (count // size)
        count %= size
    return parts


def _refuse_other_processors(path: Path, instructions: str) -> None:
    """The process would be killed by the first instruction that is not there."""
    import torch

    here = torch.backends.cpu.get_cpu_capability()
    if ("AVX512" in instructions and "AVX512" not in here) or ("AVX2" in instructions and here == "DEFAULT"):
        raise CompressError(f"inductor cannot read {path}: compiled for {instructions}, which this processor lacks")


def _members(path: Path, suffix: str) -> list[str]:
    """Texts of those files of a package whose name ends so."""
    try:
        with zipfile.ZipFile(path) as package:
            found = [package.read(name).decode() for name in package.namelist() if name.endswith(suffix)]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise CompressError(f"inductor cannot read {path}: {first_line(error)}") from error
    if not found:
        raise CompressError(f"inductor cannot read {path}: it holds no compiled network")
    return found
