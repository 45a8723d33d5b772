"""PyTorch's own compiler ahead of time (AOTInductor), on the CPU: C++ for one network and one processor.

The quantized graph of torchao's x86 quantizer is what the compiler's patterns look for: frozen, its integer weights are
packed for oneDNN's kernels, and the dequantize - convolution - quantize groups become single calls. It is compiled
once, for any batch size.

Float weights are packed at compile time for a fixed batch size only; otherwise they are packed again in every run,
which takes several times as long as the run itself. Float networks are compiled for one image and for 16, each with its
own weights, and a batch is split into such parts.

The package holds the C++ beside what was compiled from it.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from compress.deployment.conversion import exporting
from compress.deployment.coverage import Coverage, products
from compress.deployment.layers import LayerProfiler
from compress.deployment.runtime import Array, ExportSource, Runner, Runtime, require_images
from compress.measurement.threads import torch_threads
from compress.utils.errors import CompressError, first_line
from compress.utils.quiet import quiet
from compress.utils.system import thread_count

CXX = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
ANY = "any"  # name of the network for any batch size; the others are named after theirs
FIXED = (1, 16)
MACS = "compress_macs"
LAYER_TIMES = "compress_layer_times"
SIDE = "compress_side"  # of the images in pixels: what is compiled reads beyond smaller ones
# In the C++: calls that multiply, with their arguments, and the shapes of weights and results.
CALL = re.compile(r"\baoti_torch_\w*?_(qconv|convolution|qlinear)\w*\((.*)\)\);")
BUFFER = re.compile(r"\b(buf\d+)(?:_handle)?\b")
NAME_OF = re.compile(r"constants_info_\[(\d+)\]\.name = \"(\w+)\"")
SHAPE = re.compile(r"constants_info_\[(\d+)\]\.shape = \{([^}]*)\}")
OUTPUT = re.compile(r"assert_size_stride\((buf\d+), \{([^}]*)\}")
PLAIN = re.compile(r"[A-Za-z0-9_./+@%-]+")
"""Paths that the compiler's commands, which PyTorch does not quote, can have."""
WORD = re.compile(r"\b\w+\b")


class Inductor(Runtime):
    """AOTInductor on the CPU."""

    format = "inductor"
    files = ("model.pt2",)
    reads = (".pt2",)
    engine = "torch"
    packages = ("torch",)
    programs = (CXX,)
    install = "a C++ compiler, e.g. apt-get install g++; CXX names another"
    quantizers = ("torchao",)
    portable = False

    def build(self, source: ExportSource, folder: Path) -> Path:
        """Compile `model.pt2`; for a ResNet18 each network takes about ten seconds."""
        import torch
        from torch._inductor.package.package import package_aoti

        from compress.quantization.capture import converted

        path = folder / self.files[0]
        quantized = isinstance(source.model, torch.fx.GraphModule) and converted(source.model)
        names = [ANY] if quantized else [str(size) for size in FIXED]
        with _plain_folder(source.work) as work, exporting(source.model, "compiled by inductor"):
            package_aoti(str(path), {name: _compile(source, name, work) for name in names})
        return path

    def import_engine(self) -> Any:
        """Import PyTorch with what loads packages, which it does not import itself."""
        import torch.export.pt2_archive._package

        return torch

    def load(self, path: Path, threads: int | None = None) -> Runner:
        """Load a package."""
        return _runner(path, _networks(path), thread_count(threads))

    def profiler(self, path: Path, threads: int | None = None) -> LayerProfiler:
        """Load a package that was compiled to note the time of its kernels."""
        from compress.deployment.inductor_profile import InductorProfiler

        if not int(_stated(path).get(LAYER_TIMES, 0)):
            remedy = "export it with `layer_times: true`"
            raise CompressError(f"{path} was not compiled to tell the time of its layers; {remedy}")
        networks = _networks(path)
        return InductorProfiler(_runner(path, networks, thread_count(threads)), partial(_called, networks))

    def coverage(self, path: Path) -> Coverage:
        """Count in the compiled C++: its calls, and the shapes that it states for their tensors."""
        text = _members(path, ".wrapper.cpp")[0]  # those for other batch sizes make the same calls
        shapes = dict(SHAPE.findall(text))
        weights = {name: _shape(shapes[number]) for number, name in NAME_OF.findall(text)}
        outputs = {name: _shape(sizes) for name, sizes in OUTPUT.findall(text)}
        calls = CALL.findall(text)
        convolutions = [kind for kind, _ in calls if "conv" in kind]
        macs = [_call_macs(kind, arguments, weights, outputs) for kind, arguments in calls if kind.startswith("q")]
        total = _stated(path).get(MACS)
        return Coverage(
            convolutions.count("qconv"),
            len(convolutions),
            sum(part or 0 for part in macs) if all(macs) else None,
            int(total) if total else None,
        )


@contextmanager
def _plain_folder(folder: Path) -> Iterator[Path]:
    """Return the folder, or one in the compiler's cache if paths would have to be quoted, which its commands are not.

    Temporary files of PyTorch's compiler are put there too.
    """
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    if PLAIN.fullmatch(str(folder)) and PLAIN.fullmatch(tempfile.gettempdir()):
        yield folder
        return
    cache = Path(cache_dir())
    if not PLAIN.fullmatch(str(cache)):
        remedy = "set TORCHINDUCTOR_CACHE_DIR to a folder without spaces and accents"
        raise CompressError(f"inductor cannot compile in {cache}; {remedy}")
    cache.mkdir(parents=True, exist_ok=True)
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(dir=cache) as work:
        tempfile.tempdir = work
        try:
            yield Path(work)
        finally:
            tempfile.tempdir = before


def _compile(source: ExportSource, name: str, work: Path) -> Any:
    """Compile the network for one batch size, or for any, in `work`; returns the files to package."""
    import torch
    from torch._inductor import aot_compile, codecache

    from compress.measurement.compute import weight_macs

    # From one image, the exporter would conclude that the batch size is always 1.
    example = torch.zeros(2 if name == ANY else int(name), 3, source.resolution, source.resolution)
    shapes = ({0: torch.export.Dim("batch")},) if name == ANY else None
    graph = torch.export.export(source.model, (example,), dynamic_shapes=shapes).module(check_guards=False)
    assert isinstance(graph, torch.fx.GraphModule)
    options = {
        "freezing": True,
        "cpp.enable_kernel_profile": source.options.layer_times,
        "cpp.dynamic_threads": True,  # otherwise the number of threads at compile time is compiled in
        "aot_inductor.package": True,
        "aot_inductor.metadata": {
            MACS: str(weight_macs(source.model, source.resolution)),
            SIDE: str(source.resolution),
            LAYER_TIMES: str(int(source.options.layer_times)),
        },
        # Its folder, chosen when the module is imported, may be the temporary one of a run, below the user's own.
        "cpp_cache_precompile_headers": bool(PLAIN.fullmatch(getattr(codecache, "_HEADER_DIR", ""))),
        "aot_inductor.output_path": str(work / "inductor" / name),
    }
    return aot_compile(graph, (example,), options=options)


def _stated(path: Path) -> dict[str, str]:
    """What a package states of itself."""
    return json.loads(_members(path, "_metadata.json")[0])  # type: ignore[no-any-return]


def _runner(path: Path, networks: Mapping[str, Any], count: int) -> Runner:
    """Return the function that runs the loaded networks of a package on `count` threads."""
    import numpy as np
    import torch

    side = int(_stated(path).get(SIDE, 0))  # absent from earlier versions' files

    def run(images: Array) -> Array:
        if side:
            require_images(path, images, (3, side, side))
        batch = torch.from_numpy(np.ascontiguousarray(images))
        names = _called(networks, len(batch))
        with torch.inference_mode(), torch_threads(count):
            if names == [ANY]:
                return networks[ANY](batch).numpy()  # type: ignore[no-any-return]
            parts = torch.split(batch, list(map(int, names)))
            return torch.cat([networks[name](part) for name, part in zip(names, parts, strict=True)]).numpy()

    return run


def _called(networks: Mapping[str, Any], images: int) -> list[str]:
    """Name the networks that a batch calls, in order: that for any batch size, or those for its parts."""
    if ANY in networks:
        return [ANY]
    return list(map(str, _parts(images, sorted(map(int, networks), reverse=True))))


def _networks(path: Path) -> Mapping[str, Any]:
    """Load the compiled networks of a package, by name."""
    import torch
    from torch.export.pt2_archive._package import load_pt2

    try:
        for text in _members(path, "_metadata.json"):
            _refuse_other_processors(path, json.loads(text).get("AOTI_CPU_ISA", ""))
        with quiet():
            return load_pt2(str(path)).aoti_runners
    except CompressError:
        raise
    except Exception as error:  # of several types, none of them public
        reason = f"it is damaged, or of another PyTorch than {torch.__version__} ({first_line(error)})"
        raise _unreadable(path, reason) from error


def _call_macs(
    kind: str, arguments: str, weights: Mapping[str, list[int]], outputs: Mapping[str, list[int]]
) -> int | None:
    """MACs of a call of a network for any batch size, for one image; None where the C++ does not state the shapes."""
    weight = next((weights[name] for name in WORD.findall(arguments) if len(weights.get(name, ())) > 1), None)
    *others, result = BUFFER.findall(arguments)
    if result not in outputs and others and '"sum"' in arguments:  # it is added to the buffer before
        result = others[-1]
    output = outputs.get(result)
    if not weight or not output:
        return None
    # PyTorch passes the tokens of all images to a linear layer as one dimension, `[197 * batch, channels]`.
    return products(output, weight, output[1] if kind == "qconv" else output[-1])


def _shape(text: str) -> list[int]:
    """Parse a shape in the C++; a factor that is not fixed, the batch, counts as 1."""
    sizes = [size.split("*") for size in text.replace("L", "").split(", ")]
    return [math.prod(int(factor) for factor in factors if factor.isdecimal()) for factors in sizes]


def _parts(count: int, sizes: Sequence[int]) -> list[int]:
    """Split `count` into parts of `sizes`, which descend to 1."""
    parts = []
    for size in sizes:
        parts += [size] * (count // size)
        count %= size
    return parts


def _refuse_other_processors(path: Path, instructions: str) -> None:
    """Refuse a package for other processors: its first unknown instruction would kill the process."""
    import torch

    here = torch.backends.cpu.get_cpu_capability()
    if ("AVX512" in instructions and "AVX512" not in here) or ("AVX2" in instructions and here == "DEFAULT"):
        raise _unreadable(path, f"compiled for {instructions}, which this processor lacks")


def _members(path: Path, suffix: str) -> list[str]:
    """Read the files of a package whose names end with `suffix`."""
    try:
        with zipfile.ZipFile(path) as package:
            texts = [package.read(name).decode() for name in package.namelist() if name.endswith(suffix)]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise _unreadable(path, first_line(error)) from error
    if not texts:
        raise _unreadable(path, "it holds no compiled network")
    return texts


def _unreadable(path: Path, reason: str) -> CompressError:
    return CompressError(f"inductor cannot read {path}: {reason}")
