"""Runtimes on other devices than the processor: the same files, loaded otherwise."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from compress.utils.errors import CompressError, first_line

SAME = ("FORMAT", "READS", "ENGINE", "PACKAGES", "PROGRAMS", "QUANTIZED", "PORTABLE", "build")

ADD = {
    "CUDAExecutionProvider": "pip install onnxruntime-gpu in place of onnxruntime, with NVIDIA's driver",
    "TensorrtExecutionProvider": "pip install onnxruntime-gpu tensorrt in place of onnxruntime, with NVIDIA's driver",
    "CoreMLExecutionProvider": "onnxruntime has it on macOS and iOS",
    "QNNExecutionProvider": "pip install onnxruntime-qnn in place of onnxruntime, on a Snapdragon",
    "OpenVINOExecutionProvider": "pip install onnxruntime-openvino in place of onnxruntime",
    "GPU": "OpenVINO finds one where Intel's graphics driver is installed",
    "NPU": "OpenVINO finds one where Intel's NPU driver is installed",
}
"""What adds a device (https://onnxruntime.ai/docs/execution-providers/, https://docs.openvino.ai)."""

OPTIONS: dict[str, dict[str, str]] = {
    "CoreMLExecutionProvider": {"ModelFormat": "MLProgram"},
    "QNNExecutionProvider": {"backend_type": "htp"},
    "OpenVINOExecutionProvider": {"device_type": "CPU"},
}
"""Of ONNX Runtime's providers, what they are given; the others take none."""

MULTIPLY = (
    *("Conv", "FusedConv", "NhwcFusedConv", "QLinearConv"),
    *("Gemm", "FusedGemm", "MatMul", "FusedMatMul", "MatMulNBits"),
)


def on_device(base: ModuleType, name: str, device: str) -> SimpleNamespace:
    """What a runtime offers, for one of its devices."""
    return SimpleNamespace(
        **{what: getattr(base, what) for what in SAME},
        NAME=name,
        ADD=ADD[device],
        load=partial(base.load, device=device),
        coverage=partial(base.coverage, device=device),
        lacking=partial(base.lacks, device),
    )


def check_provider(session: Any, path: Path, provider: str) -> None:
    """Run one image, and see by ONNX Runtime's profile that the provider computed it: it falls back without a word.

    Args:
        session: One that was opened with `enable_profiling`, which ends here.
        path: The file, for the message.
        provider: What was asked for.

    Raises:
        CompressError: the network, or a convolution or linear of it, ran elsewhere.
    """
    import numpy as np

    entry = session.get_inputs()[0]
    try:
        session.run(None, {entry.name: np.zeros((1, *entry.shape[1:]), np.float32)})
    except Exception as error:  # its exception types are not public
        raise CompressError(f"{provider} does not run {path}: {first_line(error)}") from error
    profile = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    events = [event.get("args", {}) for event in profile]
    ran = [args["provider"] for args in events if args.get("provider")]
    if provider not in ran:
        raise CompressError(f"{provider} runs nothing of {path}: {', '.join(sorted(set(ran))) or 'nothing'} does")
    heavy = [args["provider"] for args in events if args.get("provider") and args.get("op_name") in MULTIPLY]
    others = [other for other in heavy if other != provider]
    if others:
        names = ", ".join(sorted({*others}))
        raise CompressError(f"{provider} leaves {len(others)} convolutions and linears of {path} to {names}")
