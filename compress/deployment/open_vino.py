"""OpenVINO on the CPU, a GPU or an NPU of Intel's."""

from __future__ import annotations

import math
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.deployment.coverage import Coverage, products
from compress.deployment.runtime import Array, ExportSource, Runner, Runtime, require_images
from compress.utils.boundaries import boundary
from compress.utils.errors import CompressError
from compress.utils.quiet import silent
from compress.utils.system import thread_count

if TYPE_CHECKING:
    from compress.deployment.layers import LayerProfiler

CPU = "CPU"
INSTALL = {
    "GPU": "OpenVINO finds one where Intel's graphics driver is installed",
    "NPU": "OpenVINO finds one where Intel's NPU driver is installed",
}
"""How to add a device (https://docs.openvino.ai)."""
MULTIPLY = ("Convolution", "GroupConvolution", "MatMul")
HINTS = {"fp16": "f16", "bf16": "bf16"}
"""OpenVINO's names of half precisions."""
HINT = ("runtime_options", "INFERENCE_PRECISION_HINT")
"""Where a file has the precision that it asks to be computed in; one without it is computed in FP32."""
RELEASES = {
    8: "2022.1",
    9: "2022.2",
    10: "2022.3",
    11: "2023.0",
    12: "2023.1",
    13: "2023.2",
    14: "2024.0",
    15: "2024.5",
}
"""First release by operation set; older sets came with other file formats (docs.openvino.ai, available-opsets)."""
COMPILED = 4
"""Batch sizes that stay compiled, each of which takes memory: one image, a full batch, the rest, and one more."""
EXECUTED = ("layerType", "runtimePrecision", "originalLayersNames")
INTEGERS, PACKED = ("u8", "i8"), ("u4", "i4")
OPERATOR_SET = re.compile(r'<layer [^>]*version="opset(\d+)"')
GROUP = "DYNAMIC_QUANTIZATION_GROUP_SIZE"
"""Number of activations that share a scale where they are quantized at run time; 0 forbids that."""


class OpenVino(Runtime):
    """OpenVINO on one of its devices."""

    format = "openvino"
    files = ("model.xml", "model.bin")
    reads = (".xml", ".onnx")
    engine = "openvino"
    packages = ("onnx", "onnxscript", "openvino")
    install = "pip install 'compress-model[deploy]'"
    quantizers = ("torchao", "nncf", "onnxruntime")
    precisions = ("fp32", "fp16", "bf16")
    from_onnx = True

    def __init__(self, name: str, device: str | None = None) -> None:
        super().__init__(name, device)
        if device:
            self.install, self.experimental = INSTALL[device], True

    def build(self, source: ExportSource, folder: Path) -> Path:
        """Write the intermediate representation, with weights in its precision, which it asks to be computed in."""
        import openvino

        path, onnx = folder / self.files[0], source.float_onnx()
        with boundary("openvino", type(source.model).__name__), silent():
            model = _core().read_model(str(onnx))
            for index, node in enumerate(model.get_ordered_ops()):
                if node.get_friendly_name() == node.get_name():
                    # Unnamed nodes are numbered throughout the process, which would give other bytes each time.
                    node.set_friendly_name(f"{node.get_type_name()}.{index}")
            if source.precision == "bf16":
                _round_weights(model)
            if source.precision in HINTS:
                model.set_rt_info(HINTS[source.precision], list(HINT))
            openvino.save_model(model, str(path), compress_to_fp16=source.precision == "fp16")
        return path

    def needs(self, path: Path) -> list[str]:
        """State the oldest OpenVINO that has the operators."""
        return [_oldest(path) or super().needs(path)[0]]

    def lacking(self) -> list[str]:
        """Name the device where OpenVINO finds none of its kind."""
        if self.device is None:
            return []
        import openvino

        available = {name.partition(".")[0] for name in openvino.Core().available_devices}
        return [] if self.device in available else [self.device]

    def load(self, path: Path, threads: int | None = None) -> Runner:
        """Load an artifact; a batch size is compiled when it comes, and the last `COMPILED` are kept.

        Compiled for one batch size, a network runs faster than compiled for any (batch 1 in INT8 by 1.3x).
        """
        model = _read(path)
        sides = list(model.input(0).get_partial_shape())[1:]
        requests: dict[tuple[int, ...], Any] = {}

        def run(images: Array) -> Array:
            request = requests.pop(images.shape, None)
            if request is None:
                # Reshaped to another size than the file's own, it would answer wrongly; open sides take any.
                given = zip(sides, images.shape[1:], strict=False)
                own = [side.get_length() if side.is_static else length for side, length in given]
                require_images(path, images, tuple(own))
                fixed = model.clone()
                fixed.reshape(list(images.shape))
                while len(requests) >= COMPILED:
                    del requests[next(iter(requests))]
                request = _compile(fixed, threads, self.device).create_infer_request()
            requests[images.shape] = request  # behind the others: the first is what was not used for longest
            request.infer({0: images}, share_inputs=True)
            return request.get_output_tensor(0).data.copy()  # type: ignore[no-any-return]

        return run

    def profiler(self, path: Path, threads: int | None = None) -> LayerProfiler:
        """Load an artifact with performance counters."""
        from compress.deployment.open_vino_profile import OpenVinoProfiler

        model = _read(path)

        def compile_for(shape: tuple[int, ...]) -> Any:
            fixed = model.clone()
            fixed.reshape(list(shape))
            return _compile(fixed, threads, self.device, count=True)

        return OpenVinoProfiler(compile_for)

    def coverage(self, path: Path) -> Coverage:
        """Count in the graph that OpenVINO executes for one image."""
        model = _read(path)
        shape = model.input(0).get_partial_shape()
        shape[0] = 1
        model.reshape(shape)
        return executed(model, _compile(model, 1, self.device), self.device)


def executed(model: Any, compiled: Any, device: str | None = None) -> Coverage:
    """Count what a compiled model of fixed shape runs in integer; layers that are fused into others count once.

    A compiled layer has the precision that it runs in, and the names of the layers that it was made from. One with
    4-bit weights has no more than that width and its shapes, and not whether its activations are rounded to 8 bits or
    its weights unpacked to float. The outputs show it: they differ where rounding is forbidden.
    """
    macs = _macs(model)
    kinds, packed, casts = [], 0, 0
    by_type: dict[str, set[str]] = {"integer": set(), "f16": set(), "bf16": set()}
    for node in compiled.get_runtime_model().get_ops():
        info = {name: str(node.get_rt_info()[name].value) for name in EXECUTED}
        integer = info["runtimePrecision"] in INTEGERS
        if info["layerType"] == "FullyConnected" and info["runtimePrecision"] in PACKED:
            packed += math.prod(node.get_output_shape(0)) * node.get_input_shape(0)[-1]
        if (kind := "integer" if integer else _arithmetic(node)) in by_type:
            # A scale that was moved behind a layer is named LAYER/DequantizationMultiply, sometimes the only name.
            names = info["originalLayersNames"].split(",")
            by_type[kind] |= {layer for layer in macs for name in names if f"{name}/".startswith(f"{layer}/")}
        casts += info["layerType"] == "Convert"
        if "Convolution" in info["layerType"]:
            kinds.append(integer)
    if packed and not _rounds(model, compiled, device):
        packed = 0
    totals = {kind: sum(macs[layer] for layer in layers) for kind, layers in by_type.items()}
    half = "bf16" if totals["bf16"] else "fp16"
    return Coverage(
        sum(kinds),
        len(kinds),
        totals["integer"] + packed,
        sum(macs.values()),
        totals["f16"] + totals["bf16"],
        half,
        casts,
    )


def _arithmetic(node: Any) -> str:
    """Precision in which a compiled float layer multiplies: that of its data.

    Its `runtimePrecision` is that of its weights. A processor without FP16 widens them, in a kernel for FP32.
    """
    return str(node.get_input_element_type(0).get_type_name()) if node.get_input_size() else ""


def _round_weights(model: Any) -> None:
    """Store float constants in bf16, each with a conversion back behind it."""
    from openvino import Type, opset13

    for node in model.get_ordered_ops():
        if node.get_type_name() == "Constant" and node.get_element_type() == Type.f32:
            users = list(node.output(0).get_target_inputs())
            rounded = opset13.constant(node.data, Type.bf16, name=node.get_friendly_name())
            back = opset13.convert(rounded, "f32", name=f"{node.get_friendly_name()}/convert")
            for user in users:
                user.replace_source_output(back.output(0))


def _oldest(path: Path) -> str | None:
    """Name the oldest OpenVINO that has the operators of a file; None where one is newer than `RELEASES`."""
    sets = {int(number) for number in OPERATOR_SET.findall(path.read_text(encoding="utf-8"))}
    newest = max(sets, default=0)
    return f"OpenVINO {RELEASES[max(newest, min(RELEASES))]} or newer" if newest <= max(RELEASES) else None


def _macs(model: Any) -> dict[str, int]:
    """MACs of each convolution and linear by name; a product of two activations does not count as linear."""
    macs = {}
    stored: set[str] = set()  # unique names of the nodes so far whose values are in the model, or follow from such
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        sources = [value.get_node().get_name() for value in node.input_values()]
        # The target of a reshape does not count.
        if kind == "Constant" or (sources and stored.issuperset(sources[:1] if kind == "Reshape" else sources)):
            stored.add(node.get_name())
        if kind in MULTIPLY and sources[1] in stored:
            output, weight = list(node.get_output_shape(0)), list(node.get_input_shape(1))
            channels = {"Convolution": weight[0], "GroupConvolution": weight[0] * weight[1]}.get(kind, output[-1])
            macs[node.get_friendly_name()] = products(output, weight, channels)
    return macs


def _rounds(model: Any, compiled: Any, device: str | None) -> bool:
    """Whether a compiled model of fixed shape rounds the activations of layers with 4-bit weights."""
    import numpy as np

    pixels = np.random.default_rng(0).normal(size=list(model.input(0).get_shape())).astype(np.float32)
    exact = _compile(model, 1, device, group=0)
    return not np.array_equal(compiled([pixels])[0], exact([pixels])[0])


@cache
def _core() -> Any:
    """Return the one OpenVINO core of this process.

    Each core sets a stack for signal handlers and restores the previous one when it is deleted. Of two that are deleted
    in the order in which they were made, the first one's freed stack stays set, and the next signal is a segmentation
    fault.
    """
    import openvino

    return openvino.Core()


def _read(path: Path) -> Any:
    try:
        with silent():  # of a file that it cannot read, its TensorFlow reader prints complaints
            return _core().read_model(str(path))
    except Exception as error:  # its exception types are not public
        raise CompressError(f"OpenVINO cannot read {path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Last line of an OpenVINO error, the reason; the lines before it name places in its source."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()[:200]


def _compile(
    model: Any, threads: int | None, device: str | None, group: int | None = None, *, count: bool = False
) -> Any:
    # By default OpenVINO computes float networks in bf16 where the processor has it: less exact, and no baseline. A GPU
    # would use half precision as well; an NPU computes in fp16 or integers only. Files of half precision ask for it.
    settings: dict[str, str | int] = {"PERFORMANCE_HINT": "LATENCY"}
    if device != "NPU":
        asked = model.get_rt_info(list(HINT)).astype(str) if model.has_rt_info(list(HINT)) else "f32"
        settings["INFERENCE_PRECISION_HINT"] = asked
    if device is None:
        settings["INFERENCE_NUM_THREADS"] = thread_count(threads)
    if count:
        settings["PERF_COUNT"] = "YES"
    if group is not None:
        settings[GROUP] = group
    try:
        return _core().compile_model(model, device or CPU, settings)
    except Exception as error:  # its exception types are not public
        raise CompressError(f"OpenVINO cannot compile the network for the {device or CPU}: {_reason(error)}") from error
