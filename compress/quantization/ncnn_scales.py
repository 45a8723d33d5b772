"""`ncnn`: static INT8 by scales in ncnn's own files, which `compress.deployment.ncnn_int8` writes.

Weights are symmetric with one scale per output channel, inputs of layers symmetric with one scale.
"""

from __future__ import annotations

from compress.quantization.method import Method

METHOD = Method(
    packages=("ncnn",),
    observers=("entropy", "minmax", "percentile"),
    reduces=False,
    keeps=False,
    extra="ncnn",
    about="scales in ncnn's own files: for ncnn, by `method: auto`",
)
