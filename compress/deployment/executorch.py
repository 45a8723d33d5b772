"""ExecuTorch with its XNNPACK delegate on the CPU: phones, and boards that run Linux. Float networks only.

A program is for one image: of any batch size, ExecuTorch 1.5 sets memory aside for fewer images (15) than the bound
that its exporter was given. Several images go through it one by one.

Of our quantized graphs a program cannot be written: XNNPACK leaves their unsigned activations to kernels that
ExecuTorch does not have, and after a shift to signed ones still the integer weights of the classifier, whose output is
in float.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.deployment.coverage import Coverage
from compress.deployment.runtimes import Runner, thread_count
from compress.utils.errors import CompressError, first_line
from compress.utils.quiet import quiet, silent

if TYPE_CHECKING:
    import numpy as np

    from compress.deployment.export import Source

NAME = "executorch"
FORMAT = "executorch"
READS = (".pte",)
ENGINE = "executorch"
PACKAGES = ("executorch",)
PROGRAMS = ()
ADD = "pip install 'compress-model[executorch]'"
QUANTIZED: tuple[str, ...] = ()
PORTABLE = True
FORWARD = "forward"  # methods of a program: the network, and what there is of it
CONVOLUTIONS, MACS = "convolutions", "macs"


def build(source: Source, folder: Path) -> Path:
    """Write `model.pte`.

    Raises:
        CompressError: the network cannot be exported, or uses an operator that ExecuTorch lacks.
    """
    import torch

    model, training = source.model, source.model.training
    example = torch.zeros(1, 3, source.resolution, source.resolution)
    path = folder / "model.pte"
    try:
        with quiet(), silent(), torch.no_grad():
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import to_edge_transform_and_lower

            from compress.measurement.compute import weight_macs
            from compress.quantization.capture import CONVOLUTIONS as KINDS

            exported = torch.export.export(model.eval(), (example,))
            count = sum(node.target in KINDS for node in exported.graph.nodes)
            about = {CONVOLUTIONS: count, MACS: weight_macs(model, source.resolution)}
            program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()], constant_methods=about)
            path.write_bytes(program.to_executorch().buffer)
    except Exception as error:  # the exporters raise whatever the traced code raises
        reason = first_line(error)
        raise CompressError(f"{type(model).__name__} cannot be exported to ExecuTorch: {reason}") from error
    finally:
        model.train(training)
    return path


def load(path: Path, threads: int | None = None) -> Runner:
    """Make a program ready to run. ExecuTorch has one number of threads for all programs of a process.

    Raises:
        CompressError: the file cannot be read.
    """
    import numpy as np
    import torch

    program = _program(path)  # which has to outlive its method
    with silent():
        from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool

        _unsafe_reset_threadpool(thread_count(threads))
        forward = program.load_method(FORWARD)

    def run(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        batch = torch.from_numpy(np.ascontiguousarray(images))
        # Each run writes where the one before wrote.
        return np.concatenate([forward.execute([image])[0].numpy().copy() for image in torch.split(batch, 1)])

    run.program = program  # type: ignore[attr-defined]
    return run


def coverage(path: Path) -> Coverage:
    """Nothing runs in integer; how much there is, the program itself tells."""
    program = _program(path)
    told = {name: int(program.load_method(name).execute([])[0]) for name in (CONVOLUTIONS, MACS)}
    return Coverage(0, told[CONVOLUTIONS], 0, told[MACS])


def _program(path: Path) -> Any:
    try:
        with quiet(), silent():
            from executorch.runtime import Runtime

            return Runtime.get().load_program(str(path))
    except (RuntimeError, OSError) as error:
        raise CompressError(f"ExecuTorch cannot read {path}: {first_line(error)}") from error
