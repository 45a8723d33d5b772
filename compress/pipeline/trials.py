"""Networks timed beside the dense one, to find how much of it may remain."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from compress.deployment.export import export
from compress.deployment.runtimes import find_runtime
from compress.measurement.compute import macs
from compress.measurement.latency import measure_in_turns, summary
from compress.progress import say
from compress.recipe.schema import LatencyTarget


class LatencyTrials:
    """Measures networks as a share of the dense one's latency in a runtime, in turns with it; keeps every measurement.

    Attributes:
        rows: `{macs, p50_ms, share, share_ci95}`, one a network, with the interval of its share.
        macs: Multiply-accumulates that all measurements took.
    """

    def __init__(self, dense: nn.Module, resolution: int, target: LatencyTarget) -> None:
        self.resolution, self.target = resolution, target
        self.rows: list[dict[str, Any]] = []
        self.macs = 0
        self._images = np.random.default_rng(0).standard_normal((target.batch, 3, resolution, resolution), np.float32)
        self._dense, self._dense_macs = self._runner(dense), macs(dense, resolution)

    def __call__(self, network: nn.Module) -> float:
        candidates = {"dense": self._dense, "pruned": self._runner(network)}
        times = measure_in_turns(candidates, self.target.rounds)
        found, cost = summary(times["pruned"], times["dense"]), macs(network, self.resolution)
        low, high = found["ratio_ci95"]
        share = 1 / found["ratio_to_reference"]
        self.rows.append({"macs": cost, "p50_ms": found["p50_ms"], "share": share, "share_ci95": [1 / high, 1 / low]})
        self.macs += self.target.rounds * self.target.batch * (cost + self._dense_macs)
        say(f"  {cost / self._dense_macs:.2f} of the MACs take {share:.2f} of the time in {self.target.runtime}")
        return float(share)

    def _runner(self, network: nn.Module) -> Any:
        """The network in its runtime, with images of its own to run on."""
        about = {"resolution": self.resolution}
        with tempfile.TemporaryDirectory() as folder:
            built = export(network, Path(folder), [self.target.runtime], about)
            run = find_runtime(self.target.runtime).load(built[self.target.runtime])
            return partial(run, self._images) if run(self._images) is not None else None
