"""`litert`: static INT8 by ai-edge-quantizer on a float `.tflite` file, which `compress.deployment.litert_int8` runs.

Weights are symmetric with one scale per output channel, activations signed with a zero point and one scale per tensor.
"""

from __future__ import annotations

from compress.quantization.method import Method

METHOD = Method(
    packages=("ai_edge_litert",),
    observers=("mean", "minmax"),
    reduces=False,
    extra="litert",
    about="ai-edge-quantizer on the float file: for litert, by `method: auto`",
)
