"""The interface of a runtime: a program that runs artifacts.

A new runtime is one module with one subclass of `Runtime`, and one line in `compress.registry.RUNTIMES`. Importing such
a module is cheap: packages are imported in the methods that use them.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, get_type_hints

from compress.deployment.coverage import Coverage
from compress.registry import QUANTIZERS
from compress.utils.errors import CompressError, UsageError
from compress.utils.precision import FLOATS
from compress.utils.system import kind_of_processor, version_of

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from compress.deployment.layers import LayerProfiler
    from compress.deployment.preprocess_file import PreprocessFile
    from compress.quantization.config import QuantizationConfig

Array: TypeAlias = "np.ndarray[Any, Any]"
Runner = Callable[[Array], Array]  # images float32 `[b, 3, r, r]`, normalised, to logits float32 `[b, classes]`


def require_images(path: Path, images: Array, shape: tuple[int, ...]) -> None:
    """Refuse images that are not float32 `[b, *shape]`, where engines read beyond them, cast, or compute another size.

    Raises:
        UsageError: says what the file takes.
    """
    if images.dtype != "float32" or images.shape[1:] != shape:
        takes = f"float32 [batch, {', '.join(map(str, shape))}]"
        raise UsageError(f"{path} takes images {takes}, not {images.dtype} {list(images.shape)}; convert them")


@dataclass(frozen=True)
class FileOptions:
    """Settings of files beside their precision; each runtime heeds those that are of its format."""

    opset: int | None = None  # opset of the ONNX file; None for our default, or that of a network that is one already
    ir_version: int | None = None  # IR version of the ONNX file; None for the oldest that has the opset
    layer_times: bool = False  # whether Inductor's file notes the time of each kernel while a profiler is on


@dataclass(frozen=True)
class ExportSource:
    """A network to export."""

    model: nn.Module  # a float network, or a graph converted by torchao's PT2E, or an `OnnxNetwork`
    resolution: int  # side of the images in pixels
    work: Path  # folder for intermediate files that several runtimes build from
    classes: tuple[str, ...] = ()  # class names, in the order of the network's outputs
    options: FileOptions = FileOptions()
    precision: str = "fp32"  # one of the runtime's `precisions`; quantized networks keep their own
    embeds: bool = False  # whether its output is the embedding of an embedding student

    def onnx(self) -> Path:
        """Return the network's ONNX file in its precision, which the first call writes.

        Raises:
            CompressError: it cannot be written.
        """
        from compress.models.onnx_half import write_half

        if self.precision != "fp16":
            return self.float_onnx()
        path = self.work / "fp16" / "model.onnx"
        if not path.is_file():
            path.parent.mkdir(exist_ok=True)
            write_half(self.float_onnx(), path)
        return path

    def float_onnx(self) -> Path:
        """Return the network's ONNX file as it is, which the first call writes; a `CompressError` if that fails."""
        from compress.models.onnx_export import EMBEDDING, OPSET, OUTPUT, write_onnx
        from compress.models.onnx_network import OnnxNetwork
        from compress.models.onnx_opset import write_at_opset
        from compress.models.onnx_rewrite import with_output

        path = self.work / "model.onnx"
        if path.is_file():
            return path
        # Written aside: a file that cannot be converted to the opset is not taken by the next runtime. The folder
        # keeps the name, which the file states for weights that it has outside of it.
        folder = self.work / "writing"
        folder.mkdir(exist_ok=True)
        written = folder / path.name
        if not isinstance(self.model, OnnxNetwork):
            output = EMBEDDING if self.embeds else OUTPUT
            write_onnx(self.model, self.resolution, written, self.options.opset or OPSET, output)
            write_at_opset(written, self.options.opset or OPSET, self.options.ir_version)
        else:
            written.write_bytes(with_output(self.model.file, EMBEDDING) if self.embeds else self.model.file)
            if self.options.opset or self.options.ir_version:
                write_at_opset(written, self.options.opset, self.options.ir_version)
        for file in sorted(folder.iterdir(), key=lambda file: file == written):  # the file itself last
            file.replace(self.work / file.name)
        return path


class Runtime(ABC):
    """A program that runs artifacts.

    Subclasses declare their abilities as class attributes; those that depend on the device are set in `__init__`.
    """

    format: str  # file format, and folder of the artifact; runtimes of one format share a file
    files: tuple[str, ...]  # files that `build` writes; the first one is loaded
    reads: tuple[str, ...]  # endings of the files that it loads, its own format's first
    engine: str  # package that runs a file; nothing else is needed where artifacts are only run
    packages: tuple[str, ...]  # packages that must be importable to build, load and run
    programs: tuple[str, ...] = ()  # commands that building needs besides
    install: str  # command that adds what is missing
    quantizers: tuple[
        str, ...
    ] = ()  # quantization methods that it takes, the first those whose files it runs in integer throughout, for
    # `method: auto`; empty where it takes only float networks
    precisions: tuple[str, ...] = ("fp32",)  # of float networks, the one that is not asked for first
    target: str | None = None  # quantization target that those networks must have; None where any will do
    from_onnx: bool = False  # whether it builds from the network's ONNX file
    portable: bool = True  # whether a file also runs on other processors of the same kind than it was built on
    runs_on: str | None = None  # where the files run, in words; None where they run on this machine
    experimental: bool = False  # whether the tests of this project have never executed its files on any machine

    def __init__(self, name: str, device: str | None = None) -> None:
        self.name = name  # in recipes and reports, the key in `RUNTIMES`
        self.device = device  # execution provider or device; None for the CPU

    @abstractmethod
    def build(self, source: ExportSource, folder: Path) -> Path:
        """Write the artifact into `folder` and return the file to load.

        Raises:
            CompressError: the network cannot be exported.
        """

    @abstractmethod
    def load(self, path: Path, threads: int | None = None) -> Runner:
        """Load an artifact to run on `threads` threads, by default on all cores.

        Raises:
            CompressError: the file cannot be read.
        """

    @abstractmethod
    def coverage(self, path: Path) -> Coverage:
        """Count what this runtime executes in integer, read from the graph that it executes.

        Raises:
            CompressError: the file cannot be read.
        """

    def quantize_file(self, path: Path, batches: Sequence[Tensor], config: QuantizationConfig) -> None:
        """Quantize the float artifact at `path` in place, for a method that only this runtime has.

        Args:
            path: What `build` returned.
            batches: The calibration set, `[b, 3, r, r]`, normalised as in training.
            config: Settings; all are of those that the method declares.

        Raises:
            CompressError: it cannot be quantized.
        """
        raise CompressError(f"the runtime {self.name} has no method of its own to quantize its files")

    def profiler(self, path: Path, threads: int | None = None) -> LayerProfiler:
        """Load an artifact to time its layers.

        Raises:
            CompressError: this runtime does not tell the time of layers, or the file cannot be read.
        """
        able = "onnxruntime, openvino, inductor or executorch"
        raise CompressError(f"the runtime {self.name} does not tell the time of layers; use {able}")

    def import_engine(self) -> Any:
        """Import what runs a file, as `load` does.

        A runtime overrides this where its engine has to find an environment that is prepared for it, or where the
        package alone imports only a part.
        """
        return importlib.import_module(self.engine)

    def needs(self, path: Path) -> list[str]:
        """State the oldest versions of programs that read a file which `build` wrote, for its `preprocess.json`."""
        version = version_of(self.engine)
        return [f"written with {self.engine} {version}; an older one may not read it"] if version else []

    def describe(self, content: PreprocessFile) -> PreprocessFile:
        """Return the content of `preprocess.json` for the runtime's files, where their input or output is another."""
        return content

    def steps(self, path: Path) -> list[str]:
        """State what a file needs between the float images and logits of `preprocess.json` and its own tensors."""
        return []

    def compiled_for(self) -> list[str]:
        """Describe what files are for where they are not portable, down to the instructions."""
        return kind_of_processor()

    def lacking(self) -> list[str]:
        """List the devices that this machine lacks; may import the engine."""
        return []


class ExportOnlyRuntime(Runtime):
    """A runtime whose files are written and checked here, and run elsewhere: on what `runs_on` names."""

    def load(self, path: Path, threads: int | None = None) -> Runner:
        raise self.not_run_here()

    def coverage(self, path: Path) -> Coverage:
        raise self.not_run_here()

    def not_run_here(self) -> CompressError:
        """Return the error for an attempt to run a file here."""
        return CompressError(f"files for {self.name} are only written and checked here; run them {self.runs_on}")


def check_declared(name: str, runtime: object) -> None:
    """Check the abilities that a runtime class declares.

    Raises:
        UsageError: it is not a subclass of `Runtime`, or an ability is missing or wrong; all mistakes on one line.
    """
    if not (isinstance(runtime, type) and issubclass(runtime, Runtime)):
        raise UsageError(f"runtime {name!r}: {runtime!r} must be a subclass of compress.deployment.runtime.Runtime")
    wrong = [f"`{method}` is not implemented" for method in sorted(runtime.__abstractmethods__)]
    for ability, hint in get_type_hints(Runtime).items():
        kind, fits = _KINDS[hint]
        if not hasattr(runtime, ability):
            wrong.append(f"`{ability}` is missing, {kind}")
        elif not fits(value := getattr(runtime, ability)):
            wrong.append(f"`{ability}` must be {kind}, not {value!r}")
    if not wrong:
        wrong += [f"`{ability}` is empty" for ability in ("files", "reads") if not getattr(runtime, ability)]
        wrong += [f"`reads` has {end!r}; endings start with a dot" for end in runtime.reads if not end.startswith(".")]
        wrong += [f"`precisions` has {each!r}; choose of {', '.join(FLOATS)}" for each in _unknown_precisions(runtime)]
        unknown = [method for method in runtime.quantizers if method not in QUANTIZERS]
        wrong += [f"`quantizers` has {method!r}; choose one of {', '.join(QUANTIZERS)}" for method in unknown]
    if wrong:
        raise UsageError(f"runtime {name!r}, class {runtime.__name__}: {'; '.join(wrong)}")


def _unknown_precisions(runtime: type[Runtime]) -> list[str]:
    """Precisions that there are not; an empty name where a runtime has none at all."""
    return [each for each in runtime.precisions or ("",) if each not in FLOATS]


_KINDS: dict[object, tuple[str, Callable[[object], bool]]] = {
    str: ("a non-empty string", lambda value: isinstance(value, str) and value != ""),
    bool: ("True or False", lambda value: isinstance(value, bool)),
    str | None: ("a string or None", lambda value: value is None or isinstance(value, str)),
    tuple[str, ...]: (
        "a tuple of strings",
        lambda value: isinstance(value, tuple) and all(isinstance(part, str) for part in value),
    ),
}
