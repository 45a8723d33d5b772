"""PyTorch's own compiler ahead of time (AOTInductor): C++ for one network and one processor, or kernels for one GPU.

The quantized graph of torchao's x86 quantizer is what the compiler's patterns look for: frozen, its integer weights are
packed for oneDNN's kernels, and the dequantize - convolution - quantize groups become single calls. It is compiled
once, for any batch size.

Float weights are packed at compile time for a fixed batch size only; otherwise they are packed again in every run,
which takes several times as long as the run itself. Float networks are compiled for one image and for 16, each with its
own weights, and a batch is split into such parts. A GPU packs no weights: one network serves any batch size.

The package holds the C++ beside what was compiled from it.
"""

from __future__ import annotations

import json
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

from compress.deployment import gpu
from compress.deployment.conversion import exporting
from compress.deployment.coverage import Coverage
from compress.deployment.inductor_source import count_calls
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
GPU = "compress_gpu"
PLAIN = re.compile(r"[A-Za-z0-9_./+@%-]+")
"""Paths that the compiler's commands, which PyTorch does not quote, can have."""
_NAMES = {"cpu": "inductor", "cuda": "inductor-cuda"}


class Inductor(Runtime):
    """AOTInductor on the CPU, or on an NVIDIA GPU."""

    format = "inductor"
    files = ("model.pt2",)
    reads = (".pt2",)
    engine = "torch"
    packages = ("torch",)
    programs = (CXX,)
    install = "a C++ compiler, e.g. apt-get install g++; CXX names another"
    quantizers: tuple[str, ...] = ("torchao",)
    precisions: tuple[str, ...] = ("fp32", "bf16")
    portable = False

    def __init__(self, name: str, device: str | None = None) -> None:
        super().__init__(name, device)
        if device:
            self.format, self.quantizers, self.precisions = "inductor-cuda", (), ("fp32", "fp16", "bf16")
            self.install, self.experimental = (
                "NVIDIA's driver and CUDA toolkit, a PyTorch for CUDA, a C++ compiler",
                True,
            )

    def lacking(self) -> list[str]:
        """Name the GPU where there is none, and the headers that its kernels are compiled with."""
        if not self.device:
            return []
        if absent := gpu.lacking():
            return absent
        from torch.utils.cpp_extension import CUDA_HOME

        return [] if CUDA_HOME else ["CUDA toolkit (CUDA_HOME)"]

    def compiled_for(self) -> list[str]:
        """Describe the processor, or the GPU, that files are compiled for."""
        return gpu.kind() if self.device else super().compiled_for()

    def build(self, source: ExportSource, folder: Path) -> Path:
        """Compile `model.pt2`; for a ResNet18 each network takes about ten seconds."""
        import torch
        from torch._inductor.package.package import package_aoti

        from compress.measurement.device import on_device
        from compress.models.half_network import HalfNetwork
        from compress.quantization.capture import converted

        path = folder / self.files[0]
        quantized = isinstance(source.model, torch.fx.GraphModule) and converted(source.model)
        names = [ANY] if quantized or self.device else [str(size) for size in FIXED]
        device = torch.device(self.device or "cpu")
        _require_kernels(source.precision, device)
        in_half = source.precision != "fp32" and not quantized
        with _plain_folder(source.work) as work, exporting(source.model, "compiled by inductor"):
            network = HalfNetwork(source.model, source.precision) if in_half else source.model
            with on_device(network, device):
                package_aoti(str(path), {name: _compile(network, source, name, work, device) for name in names})
        return path

    def import_engine(self) -> Any:
        """Import PyTorch with what loads packages, which it does not import itself."""
        import torch.export.pt2_archive._package

        return torch

    def load(self, path: Path, threads: int | None = None) -> Runner:
        """Load a package."""
        return _runner(path, _networks(path, self.device), thread_count(threads), self.device)

    def profiler(self, path: Path, threads: int | None = None) -> LayerProfiler:
        """Load a package that was compiled to note the time of its kernels; those of a GPU run on after the calls."""
        if self.device:
            return super().profiler(path, threads)
        from compress.deployment.inductor_profile import InductorProfiler

        if not int(_stated(path).get(LAYER_TIMES, 0)):
            remedy = "export it with `layer_times: true`"
            raise CompressError(f"{path} was not compiled to tell the time of its layers; {remedy}")
        networks = _networks(path)
        return InductorProfiler(_runner(path, networks, thread_count(threads)), partial(_called, networks))

    def coverage(self, path: Path) -> Coverage:
        """Count in the compiled C++: its calls, and the types and shapes that it states for their tensors."""
        text = _members(path, ".wrapper.cpp")[0]  # those for other batch sizes make the same calls
        total = _stated(path).get(MACS)
        return count_calls(text, int(total) if total else None)


def _require_kernels(precision: str, device: Any) -> None:
    """Refuse a precision that PyTorch has no kernels for on this processor."""
    import torch

    if precision == "fp32" or device.type != "cpu":
        return
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not (available and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        raise CompressError(f"PyTorch has no fast kernels in {precision} for this processor; export in fp32")


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


def _compile(network: Any, source: ExportSource, name: str, work: Path, device: Any) -> Any:
    """Compile the network, on its device, for one batch size, or for any, in `work`; returns the files to package."""
    import torch
    from torch._inductor import aot_compile, codecache

    from compress.measurement.compute import weight_macs

    # From one image, the exporter would conclude that the batch size is always 1.
    example = torch.zeros(2 if name == ANY else int(name), 3, source.resolution, source.resolution, device=device)
    shapes = ({0: torch.export.Dim("batch")},) if name == ANY else None
    graph = torch.export.export(network, (example,), dynamic_shapes=shapes).module(check_guards=False)
    assert isinstance(graph, torch.fx.GraphModule)
    options = {
        "freezing": True,
        "cpp.enable_kernel_profile": source.options.layer_times,
        "cpp.dynamic_threads": True,  # otherwise the number of threads at compile time is compiled in
        "aot_inductor.package": True,
        "aot_inductor.metadata": {
            MACS: str(weight_macs(network, source.resolution)),
            SIDE: str(source.resolution),
            LAYER_TIMES: str(int(source.options.layer_times)),
            **({GPU: json.dumps(gpu.kind())} if device.type == gpu.DEVICE else {}),
        },
        # Its folder, chosen when the module is imported, may be the temporary one of a run, below the user's own.
        "cpp_cache_precompile_headers": bool(PLAIN.fullmatch(getattr(codecache, "_HEADER_DIR", ""))),
        "aot_inductor.output_path": str(work / "inductor" / name),
    }
    return aot_compile(graph, (example,), options=options)


def _stated(path: Path) -> dict[str, str]:
    """What a package states of itself."""
    return json.loads(_members(path, "_metadata.json")[0])  # type: ignore[no-any-return]


def _runner(path: Path, networks: Mapping[str, Any], count: int, device: str | None = None) -> Runner:
    """Return the function that runs the loaded networks of a package on `count` threads, or on a GPU in FP32 proper."""
    import numpy as np
    import torch

    from compress.measurement.device import exact_float32

    where = torch.device(device or "cpu")
    side = int(_stated(path).get(SIDE, 0))  # absent from earlier versions' files

    def run(images: Array) -> Array:
        if side:
            require_images(path, images, (3, side, side))
        batch = torch.from_numpy(np.ascontiguousarray(images)).to(where)
        names = _called(networks, len(batch))
        with torch.inference_mode(), torch_threads(count), exact_float32(where):
            if names == [ANY]:
                return networks[ANY](batch).cpu().numpy()  # type: ignore[no-any-return]
            parts = torch.split(batch, list(map(int, names)))
            return torch.cat([networks[name](part) for name, part in zip(names, parts, strict=True)]).numpy()

    return run


def _called(networks: Mapping[str, Any], images: int) -> list[str]:
    """Name the networks that a batch calls, in order: that for any batch size, or those for its parts."""
    if ANY in networks:
        return [ANY]
    return list(map(str, _parts(images, sorted(map(int, networks), reverse=True))))


def _networks(path: Path, device: str | None = None) -> Mapping[str, Any]:
    """Load the compiled networks of a package, by name."""
    import torch
    from torch.export.pt2_archive._package import load_pt2

    try:
        for text in _members(path, "_metadata.json"):
            _refuse_other_processors(path, json.loads(text), device)
        with quiet():
            return load_pt2(str(path)).aoti_runners
    except CompressError:
        raise
    except Exception as error:  # of several types, none of them public
        reason = f"it is damaged, or of another PyTorch than {torch.__version__} ({first_line(error)})"
        raise _unreadable(path, reason) from error


def _parts(count: int, sizes: Sequence[int]) -> list[int]:
    """Split `count` into parts of `sizes`, which descend to 1."""
    parts = []
    for size in sizes:
        parts += [size] * (count // size)
        count %= size
    return parts


def _refuse_other_processors(path: Path, stated: Mapping[str, str], device: str | None) -> None:
    """Refuse a package for other processors, whose first unknown instruction would kill the process, or another GPU."""
    import torch

    made_for = stated.get("AOTI_DEVICE_KEY", "cpu")
    if made_for != (device or "cpu"):
        raise _unreadable(
            path, f"compiled for {made_for}, not for {device or 'cpu'}; its runtime is {_NAMES.get(made_for, made_for)}"
        )
    if device:
        built_on, here = json.loads(stated.get(GPU, "[]")), gpu.kind()
        if built_on != here:
            raise _unreadable(path, f"compiled for {' '.join(built_on)}, and this GPU is {' '.join(here)}")
        return
    instructions, able = stated.get("AOTI_CPU_ISA", ""), torch.backends.cpu.get_cpu_capability()
    if ("AVX512" in instructions and "AVX512" not in able) or ("AVX2" in instructions and able == "DEFAULT"):
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
