"""Latency search: benchmark pruned networks beside the dense one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from compress.deployment.export import export
from compress.deployment.preprocess_file import PreprocessFile
from compress.deployment.runtimes import find_runtime
from compress.measurement.compute import macs
from compress.measurement.latency import measure_interleaved, summary
from compress.recipe.channels import LatencyTarget
from compress.results import LatencyTrial
from compress.utils.console import say


@dataclass(frozen=True)
class Timing:
    """Latency of one network beside the dense one."""

    macs: int  # MACs per image
    p50_ms: float  # median latency in milliseconds
    share: float  # latency as a share of the dense network's
    share_ci95: tuple[float, float]  # its 95% interval over rounds


class LatencySearch:
    """Measures the latency of networks as a share of the dense one's, in interleaved rounds."""

    def __init__(self, dense: nn.Module, resolution: int, target: LatencyTarget, threads: int) -> None:
        self.resolution, self.target, self.threads = resolution, target, threads
        self.rows: list[Timing] = []
        self.macs = 0  # of all runs, warm-up included
        self._images = np.random.default_rng(0).standard_normal((target.batch, 3, resolution, resolution), np.float32)
        self._dense_macs = macs(dense, resolution)
        self._dense = self._runner(dense, self._dense_macs)

    def __call__(self, network: nn.Module) -> float:
        cost = macs(network, self.resolution)
        times = measure_interleaved({"dense": self._dense, "pruned": self._runner(network, cost)}, self.target.rounds)
        record = summary([times["pruned"]], [times["dense"]])
        assert record["ratio_to_reference"] is not None and record["ratio_ci95"] is not None
        share, (low, high) = 1 / record["ratio_to_reference"], record["ratio_ci95"]
        self.rows.append(Timing(cost, record["p50_ms"], share, (1 / high, 1 / low)))
        say(f"  {cost / self._dense_macs:.2f} of the MACs, {share:.2f} of the latency in {self.target.runtime}")
        return share

    def trials(self, number: int) -> list[LatencyTrial]:
        """Return the measurements as trials of a pruning round."""
        return [LatencyTrial(**vars(row), round=number) for row in self.rows]

    def _runner(self, network: nn.Module, cost: int) -> Callable[[], None]:
        """Return a function that runs the network in its runtime and counts the MACs."""
        preprocess = PreprocessFile(resolution=self.resolution)
        with tempfile.TemporaryDirectory() as folder:
            built = export(network, Path(folder), [self.target.runtime], preprocess)
            run = find_runtime(self.target.runtime).load(built[self.target.runtime], self.threads)

            def counted() -> None:
                run(self._images)
                self.macs += self.target.batch * cost

            counted()  # some runtimes load the file in the first run
            return counted
