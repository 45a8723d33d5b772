"""Networks timed beside the dense one, to find how much of it may remain."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from compress.deployment.export import export
from compress.deployment.runtimes import find_runtime
from compress.measurement.compute import macs
from compress.measurement.latency import measure_interleaved, summary
from compress.recipe.schema import LatencyTarget
from compress.utils.console import say


class LatencyTrials:
    """Measures networks as a share of the dense one's latency in a runtime, in turns with it; keeps every measurement.

    Attributes:
        rows: `{macs, p50_ms, share, share_ci95}`, one a network, with the interval of its share.
        macs: Multiply-accumulates of all runs, warm-up too.
    """

    def __init__(self, dense: nn.Module, resolution: int, target: LatencyTarget, threads: int) -> None:
        self.resolution, self.target, self.threads = resolution, target, threads
        self.rows: list[dict[str, Any]] = []
        self.macs = 0
        self._images = np.random.default_rng(0).standard_normal((target.batch, 3, resolution, resolution), np.float32)
        self._dense_macs = macs(dense, resolution)
        self._dense = self._runner(dense, self._dense_macs)

    def __call__(self, network: nn.Module) -> float:
        cost = macs(network, self.resolution)
        times = measure_interleaved({"dense": self._dense, "pruned": self._runner(network, cost)}, self.target.rounds)
        found = summary(times["pruned"], times["dense"])
        assert found["ratio_to_reference"] and found["ratio_ci95"]
        low, high = found["ratio_ci95"]
        share = 1 / found["ratio_to_reference"]
        self.rows.append({"macs": cost, "p50_ms": found["p50_ms"], "share": share, "share_ci95": [1 / high, 1 / low]})
        say(f"  {cost / self._dense_macs:.2f} of the MACs take {share:.2f} of the time in {self.target.runtime}")
        return float(share)

    def _runner(self, network: nn.Module, cost: int) -> Callable[[], None]:
        """Runs the network in its runtime, and counts what that takes."""
        about = {"resolution": self.resolution}
        with tempfile.TemporaryDirectory() as folder:
            built = export(network, Path(folder), [self.target.runtime], about)
            run = find_runtime(self.target.runtime).load(built[self.target.runtime], self.threads)

            def counted() -> None:
                run(self._images)
                self.macs += self.target.batch * cost

            counted()  # some runtimes read the file at the first run
            return counted
