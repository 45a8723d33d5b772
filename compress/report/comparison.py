"""Records of a comparison of runs: what `compare --json` prints."""

from __future__ import annotations

from typing import Any, Literal

from compress.results import LatencyRow, Record
from compress.results.base import Interval
from compress.results.run import Machine

Verdict = Literal["no claim", "more", "less"]

ABSENT = "absent"
NO_CLAIM: Verdict = "no claim"


class Difference(Record):
    """A setting that differs, with its value in every run."""

    key: str
    values: tuple[Any, ...]


class AgainstFirst(Record):
    """Settings and measurements that a run shares with the first one; `engines` are other versions of runtimes."""

    same_results: bool
    same_data: bool
    same_machine: bool
    same_reference: bool
    engines: tuple[Difference, ...]


class ComparedRun(Record):
    """A run of a comparison; `remarks` name files that changed since the run wrote them."""

    name: str
    path: str
    recipe: str
    sha256: str
    started: str
    data: str
    test_sha256: str | None
    machine: Machine
    remarks: tuple[str, ...]
    against_first: AgainstFirst


class Top1(Record):
    """Accuracy of a variant, without the bits of the single images."""

    top1: float
    ci95: Interval
    correct: int
    n: int


class Figures(Record):
    """Main figures of a variant in one run."""

    stage_key: str | None
    accuracy: Top1
    macs: int
    bit_operations: int
    bytes: int
    training_macs: int
    latency: tuple[LatencyRow, ...]


class AccuracyChange(Record):
    """Accuracy gained against the first run, a fraction; `images` where it is paired, `ci95` on the same data."""

    ci95: Interval | None
    paired: bool
    images: int | None
    same_data: bool
    verdict: Verdict
    difference: float


class LatencyChange(Record):
    """Latency in one runtime and batch size: [first run, this run]; `processes` are those that each was timed in.

    `slower` is the change of the median as a ratio - 1, relative to the reference; None where there is no claim.
    """

    runtime: str
    batch: int
    p50_ms: tuple[float, float]
    p99_ms: tuple[float | None, float | None]
    ratio: tuple[float | None, float | None]
    ratio_ci95: tuple[Interval | None, Interval | None]
    processes: tuple[int, int]
    slower: float | None
    slower_ci95: Interval | None
    verdict: Verdict


class Change(Record):
    """A variant against the same one of the first run; costs are ratios, this run's over the first's."""

    same_stage_key: bool
    top1: AccuracyChange
    macs: float | None
    bit_operations: float | None
    bytes: float | None
    training_macs: float | None
    latency: tuple[LatencyChange, ...]


class ComparedVariant(Record):
    """A variant in every run; None where the run, or the first run, lacks it."""

    id: str
    runs: tuple[Figures | None, ...]
    changes: tuple[Change | None, ...]


class Comparison(Record):
    """Runs, and what differs between them; values, runs and changes are in the order of the runs."""

    runs: tuple[ComparedRun, ...]
    recipe: tuple[Difference, ...]
    environment: tuple[Difference, ...]
    variants: tuple[ComparedVariant, ...]

    @property
    def paired(self) -> bool:
        """Whether all accuracies are compared image by image."""
        changes = [change for variant in self.variants for change in variant.changes if change]
        return bool(changes) and all(change.top1.paired for change in changes)
