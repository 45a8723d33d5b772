"""ExecuTorch with its XNNPACK delegate on the CPU: phones, and boards that run Linux.

A program is for one image: for any batch size, ExecuTorch 1.5 reserves memory for fewer images (15) than the bound that
its exporter was given. Several images run one by one.

INT8 is made by ExecuTorch's own quantizer, `xnnpack` of `compress.quantization`. A program cannot be made of torchao's
graphs: XNNPACK leaves their unsigned activations to kernels that ExecuTorch does not have, and after a shift to signed
ones still the integer weights of the classifier, whose output is float.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compress.deployment.conversion import exporting
from compress.deployment.coverage import Coverage
from compress.deployment.layers import LayerProfiler
from compress.deployment.runtime import Array, ExportSource, Runner, Runtime
from compress.deployment.xnnpack_graph import LINEAR, integer_layers
from compress.utils.errors import CompressError, first_line
from compress.utils.quiet import quiet, silent
from compress.utils.system import thread_count

FORWARD = "forward"  # methods of a program: the network, and its counts
CONVOLUTIONS, MACS = "convolutions", "macs"


class ExecuTorch(Runtime):
    """ExecuTorch on the CPU."""

    format = "executorch"
    files = ("model.pte",)
    reads = (".pte",)
    engine = "executorch"
    packages = ("executorch",)
    install = "pip install 'compress-model[executorch]'"
    quantizers = ("xnnpack",)

    def build(self, source: ExportSource, folder: Path) -> Path:
        """Write `model.pte`."""
        import torch

        path, model = folder / self.files[0], source.model
        example = torch.zeros(1, 3, source.resolution, source.resolution)
        with exporting(model, "exported to ExecuTorch"), silent():
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import to_edge_transform_and_lower

            from compress.measurement.compute import weight_macs
            from compress.quantization.capture import CONVOLUTIONS as KINDS

            exported = torch.export.export(model, (example,))
            convolutions = sum(node.target in KINDS for node in exported.graph.nodes)
            counts = {CONVOLUTIONS: convolutions, MACS: weight_macs(model, source.resolution)}
            program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()], constant_methods=counts)
            path.write_bytes(program.to_executorch().buffer)
        return path

    def import_engine(self) -> Any:
        """Import what loads programs, which the package alone does not."""
        with quiet(), silent():
            from executorch.runtime import Runtime as Engine

        return Engine

    def load(self, path: Path, threads: int | None = None) -> Runner:
        """Load a program. ExecuTorch has one number of threads for all programs of a process."""
        import numpy as np
        import torch

        program = _program(path)  # which has to outlive its method
        with silent():
            from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool

            _unsafe_reset_threadpool(thread_count(threads))
            forward = program.load_method(FORWARD)

        def run(images: Array) -> Array:
            batch = torch.from_numpy(np.ascontiguousarray(images))
            # Each run overwrites the output of the one before.
            return np.concatenate([forward.execute([image])[0].numpy().copy() for image in torch.split(batch, 1)])

        run.program = program  # type: ignore[attr-defined]
        return run

    def profiler(self, path: Path, threads: int | None = None) -> LayerProfiler:
        """Load a program with its event trace on."""
        from compress.deployment.executorch_profile import ExecuTorchProfiler

        _program(path)  # refuses a damaged file, which the call below does not
        with quiet(), silent():
            from executorch.extension.pybindings.portable_lib import _load_for_executorch, _unsafe_reset_threadpool

            _unsafe_reset_threadpool(thread_count(threads))
            return ExecuTorchProfiler(_load_for_executorch(str(path), enable_etdump=True))

    def coverage(self, path: Path) -> Coverage:
        """Count the integer layers of the graphs that XNNPACK is given; the program has the counts of the network."""
        program = _program(path)
        convolutions, macs = (int(program.load_method(name).execute([])[0]) for name in (CONVOLUTIONS, MACS))
        integer = list(integer_layers(path.read_bytes()))
        return Coverage(sum(kind != LINEAR for kind, _ in integer), convolutions, sum(n for _, n in integer), macs)


def _program(path: Path) -> Any:
    try:
        with quiet(), silent():
            from executorch.runtime import Runtime as Engine

            return Engine.get().load_program(str(path))
    except (RuntimeError, OSError) as error:
        raise CompressError(f"ExecuTorch cannot read {path}: {first_line(error)}") from error
