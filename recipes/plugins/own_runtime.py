"""A runtime of one's own: TorchScript, which C++ programs load by libtorch.

    compress-model run quickstart --plugin recipes/plugins/own_runtime.py --set "stages.files.runtimes=[torchscript]" \
        --set "stages.files.from=[distilled]"
"""

from pathlib import Path
from typing import Any

from compress.deployment.coverage import Coverage
from compress.deployment.runtimes import Runner, thread_count, torch_threads
from compress.plugins import runtime
from compress.utils.errors import CompressError, first_line

NAME = "torchscript"
FORMAT = "torchscript"
READS = (".ts",)
ENGINE = "torch"
PACKAGES = ("torch",)
PROGRAMS = ()
ADD = "pip install torch"
QUANTIZED = False
PORTABLE = True

runtime(NAME, __name__)


def build(source: Any, folder: Path) -> Path:
    """Write `model.ts`."""
    import torch

    path = folder / "model.ts"
    example = torch.zeros(1, 3, source.resolution, source.resolution)
    torch.jit.trace(source.model.eval(), example).save(str(path))
    return path


def load(path: Path, threads: int | None = None) -> Runner:
    """Make a TorchScript file ready to run."""
    import torch

    count = thread_count(threads)
    try:
        model = torch.jit.load(str(path)).eval()
    except RuntimeError as error:
        raise CompressError(f"TorchScript cannot read {path}: {first_line(error)}") from error

    def run(images: Any) -> Any:
        with torch.inference_mode(), torch_threads(count):
            return model(torch.from_numpy(images)).numpy()

    return run


def coverage(path: Path) -> Coverage:
    """None of its convolutions runs in integer; how many MACs there are, the file does not tell."""
    import torch

    nodes = torch.jit.load(str(path)).inlined_graph.findAllNodes("aten::_convolution")
    return Coverage(0, len(nodes))
