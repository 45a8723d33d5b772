"""The table of a run that is not done: what its variants have reached, before anything is timed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rich import box
from rich.table import Table
from rich.text import Text

from compress.results import VariantMetrics
from compress.utils.console import console

EVERY_S = 150.0  # seconds between two tables


@dataclass
class ProgressTable:
    """Prints the variants that are there: the first two as soon as they are, then at most every `EVERY_S` seconds."""

    clock: Callable[[], float] = time.monotonic
    metrics: dict[str, VariantMetrics] = field(default_factory=dict)  # by id of the variant

    def __post_init__(self) -> None:
        self._printed = -math.inf

    def add(self, identifier: str, metrics: VariantMetrics) -> None:
        self.metrics[identifier] = metrics

    def show(self) -> None:
        """Print the table if it is due and compares something."""
        if len(self.metrics) > 1 and self.clock() - self._printed >= EVERY_S:
            self._printed = self.clock()
            console.print(variants_table(self.metrics))


def variants_table(metrics: Mapping[str, VariantMetrics]) -> Table:
    """Lay out accuracy on test images, MACs and size of variants; names are text, never rich's markup."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="so far, before timing", title_justify="left")
    for heading in ("variant", "top-1 (95%)", "MACs", "size"):
        table.add_column(heading, justify="left" if heading == "variant" else "right", no_wrap=heading != "variant")
    for name, variant in metrics.items():
        low, high = variant.accuracy.ci95
        table.add_row(
            Text(name),
            f"{variant.accuracy.top1:.1%} ({100 * low:.1f}–{100 * high:.1f})",
            f"{variant.inference.macs / 1e6:,.1f} M",
            f"{variant.inference.bytes / 1e6:,.1f} MB",
        )
    return table
