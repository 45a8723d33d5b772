"""A runtime of one's own: TorchScript, which C++ programs load by libtorch.

    compress-model run quickstart --plugin recipes/plugins/own_runtime.py --set "stages.files.runtimes=[torchscript]" \
        --set "stages.files.from=[distilled]"
"""

from pathlib import Path
from typing import Any

from compress.deployment.conversion import exporting
from compress.deployment.coverage import Coverage
from compress.deployment.runtime import Array, ExportSource, Runner, Runtime
from compress.measurement.threads import torch_threads
from compress.plugins import runtime
from compress.utils.errors import CompressError, first_line
from compress.utils.system import thread_count


class TorchScript(Runtime):
    """TorchScript on the CPU; float networks only, because `quantizers` is left empty."""

    format = "torchscript"
    files = ("model.ts",)
    reads = (".ts",)
    engine = "torch"
    packages = ("torch",)
    install = "pip install torch"

    def build(self, source: ExportSource, folder: Path) -> Path:
        """Write `model.ts`."""
        import torch

        path = folder / self.files[0]
        example = torch.zeros(1, 3, source.resolution, source.resolution)
        with exporting(source.model, "exported to TorchScript"):
            torch.jit.trace(source.model, example).save(str(path))
        return path

    def load(self, path: Path, threads: int | None = None) -> Runner:
        """Load a TorchScript file."""
        import torch

        network = _network(path)
        count = thread_count(threads)

        def run(images: Array) -> Array:
            with torch.inference_mode(), torch_threads(count):
                return network(torch.from_numpy(images)).numpy()

        return run

    def coverage(self, path: Path) -> Coverage:
        """No convolution runs in integer; the file does not have its MACs."""
        return Coverage(0, len(_network(path).inlined_graph.findAllNodes("aten::_convolution")), 0)


def _network(path: Path) -> Any:
    import torch

    try:
        return torch.jit.load(str(path)).eval()
    except (RuntimeError, ValueError) as error:
        raise CompressError(f"TorchScript cannot read {path}: {first_line(error)}") from error


runtime("torchscript", TorchScript)
