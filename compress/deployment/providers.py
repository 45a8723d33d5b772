"""ONNX Runtime's execution providers other than the CPU: the same file, run on another device."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compress.utils.errors import CompressError, first_line


@dataclass(frozen=True)
class Provider:
    """An execution provider (https://onnxruntime.ai/docs/execution-providers/)."""

    install: str  # how to add it
    options: Mapping[str, str] = field(default_factory=dict)  # its options for a session


PROVIDERS = {
    "CUDAExecutionProvider": Provider("pip install onnxruntime-gpu in place of onnxruntime, with NVIDIA's driver"),
    "TensorrtExecutionProvider": Provider(
        "pip install onnxruntime-gpu tensorrt in place of onnxruntime, with NVIDIA's driver"
    ),
    "CoreMLExecutionProvider": Provider("onnxruntime has it on macOS and iOS", {"ModelFormat": "MLProgram"}),
    "QNNExecutionProvider": Provider(
        "pip install onnxruntime-qnn in place of onnxruntime, on a Snapdragon", {"backend_type": "htp"}
    ),
    "OpenVINOExecutionProvider": Provider(
        "pip install onnxruntime-openvino in place of onnxruntime", {"device_type": "CPU"}
    ),
}

MULTIPLY = (
    *("Conv", "FusedConv", "NhwcFusedConv", "QLinearConv"),
    *("Gemm", "FusedGemm", "MatMul", "FusedMatMul", "MatMulNBits"),
)


def check_provider(session: Any, path: Path, provider: str) -> None:
    """Run one image and check in ONNX Runtime's profile that the provider computed it: it falls back silently.

    The session is opened with `enable_profiling`, and ends here.

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
