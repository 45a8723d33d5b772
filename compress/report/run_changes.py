"""Changes of accuracy and latency from one run to another, with intervals: for `compare` and `gate` alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from compress.deployment.engines import engine_version
from compress.efficiency.files import name_of
from compress.efficiency.intervals import discordant_share, independent_difference, paired_difference, wilson
from compress.efficiency.timing import Ratio, Rounds, slowdown
from compress.efficiency.verdict import Ends, Estimate, decide
from compress.report.savings import first_reference
from compress.report.sides import Absent, Measured, Sides, pair
from compress.results import DataSummary, LatencyRow, RunRecord, Variant
from compress.results.per_image import paired_counts
from compress.utils.precision import file_name

ALL = -1  # every bit
NO_ROUNDS = "timed without storing the rounds, so that there is no interval; run it again with this version"
ONE_PROCESS = (
    "timed in one process, which does not show how two starts of the same file differ; set measure.processes to 3"
)


def shared_reference(before: RunRecord, after: RunRecord) -> Sides | None:
    """Return the first reference of the later run, if it is the same model in both."""
    name = first_reference(after)
    found = pair(before, after, name) if name else None
    return found if found and found.same_key else None


def direction(estimate: Estimate) -> int:
    """Return 1 where a change is shown to be more than 0, -1 where it is shown to be less, else 0."""
    if decide(estimate, "<=", 0.0).verdict == "fail":
        return 1
    return -1 if decide(estimate, ">=", 0.0).verdict == "fail" else 0


# --- Accuracy -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Predicted:
    """Correct predictions on test images.

    Attributes:
        correct: Images with the right prediction.
        n: Images that count.
        right: `right` of the accuracy, of all images of the split; None where it was not stored.
        split: Images of the split.
        among: Bits of the images that count.
        file: What distinguishes the file from others of the same variant: size and version of its runtime.
    """

    correct: int
    n: int
    right: str | None
    split: int
    among: int = ALL
    file: tuple[object, ...] = ()

    @property
    def top1(self) -> float:
        """Share of correct predictions."""
        return self.correct / self.n


def of_network(variant: Variant) -> Predicted | Absent:
    """The predictions of the network in PyTorch."""
    correct, n = variant.accuracy.correct, variant.accuracy.n
    return Predicted(correct, n, variant.accuracy.right, n) if 0 < n >= correct else Absent("has no test images")


def discordant(sides: Sides, before: Predicted, after: Predicted) -> tuple[int, int] | None:
    """Count the images that only the first predicts correctly, and only the second.

    None where they are not known to be of the same images, or predictions of single images were not stored.
    """
    same = sides.before.run.data.same_images(sides.after.run.data) and before.split == after.split
    return paired_counts(before.right, after.right, after.split, after.among) if same else None


def accuracy_change(sides: Sides, before: Predicted, after: Predicted) -> Measured:
    """Estimate the accuracy gained: paired on the same images, else as two samples of the same data."""
    old, new = (side.run.data for side in sides)
    if counts := discordant(sides, before, after):
        if counts == (0, 0) and sides.same_key and before.file == after.file:
            return Estimate(0.0, "the same model")
        return _paired(counts, after.n)
    if not old.same_data(new):
        return Absent(f"other test data: {_about(new)} instead of {_about(old)}")
    same_images = old.same_images(new) and before.split == after.split
    return _unpaired(before, after, "no predictions stored" if same_images else "other test images")


def _about(data: DataSummary) -> str:
    return f"{data.name} with {len(data.classes)} classes"


def _paired(counts: tuple[int, int], n: int) -> Estimate:
    """Estimate the gain: minus the loss, whose interval is Tango's."""
    lost = paired_difference(*counts, n)

    def interval(confidence: float) -> Ends:
        return paired_difference(*counts, n, confidence).gain_ends

    return Estimate(
        lost.gain,
        f"paired, {n:,} images",
        interval,
        n,
        max(0.0, discordant_share(lost) - lost.difference**2),
    )


def _unpaired(before: Predicted, after: Predicted, why: str) -> Estimate:
    """Estimate the gain of two independent shares, with Newcombe's interval; conservative on the same images."""

    def interval(confidence: float) -> Ends:
        ends = [wilson(each.correct, each.n, confidence) for each in (after, before)]
        return independent_difference(after.top1, ends[0], before.top1, ends[1])

    return Estimate(
        after.top1 - before.top1,
        f"unpaired, {after.n:,} and {before.n:,} images: {why}",
        interval,
        min(after.n, before.n),
        sum(each.top1 * (1 - each.top1) for each in (after, before)),
    )


# --- Latency ------------------------------------------------------------------------------------------------------


class LatencyChange(NamedTuple):
    """How much longer a file takes, as a ratio - 1."""

    measured: Measured
    beside: str | None = None  # id of the network that it is relative to; None for medians of different times


def find_row(variant: Variant, name: str, batch: int) -> LatencyRow | None:
    """Find the row of a file and a batch size; timings that are none, of a damaged file, count as not measured."""
    found = (row for row in variant.inference.latency if (name_of(row), row.batch) == (name, batch))
    return next((row for row in found if all(rounds and min(rounds) > 0 for rounds in row.rounds_ms)), None)


def latency_change(sides: Sides, old: LatencyRow, new: LatencyRow) -> LatencyChange:
    """Estimate the change of a median, relative to a network that is the same in both runs where there is one.

    Phases of the machine, or other machines of the same kind, affect both alike.
    """
    if reason := _incomparable(sides, old, new):
        return LatencyChange(Absent(reason))
    if new.rounds_ms and old.rounds_ms == new.rounds_ms and sides.same_key:
        return LatencyChange(Estimate(0.0, "the same measurement"))
    if reason := too_few_processes(old, new):
        return LatencyChange(Absent(reason))
    processes = f"{len(old.rounds_ms)} and {len(new.rounds_ms)} processes"
    reference = shared_reference(sides.before.run, sides.after.run)
    name = reference.after.variant.id if reference else None
    if reference and name != sides.after.variant.id and (beside := _rounds_beside(reference, old, new)):
        found = slowdown(old.rounds_ms, new.rounds_ms, *beside)
        return LatencyChange(as_estimate(_relative(found), f"{processes}, relative to {name}"), name)
    found = slowdown(old.rounds_ms, new.rounds_ms)
    return LatencyChange(as_estimate(_relative(found), f"{processes}, at different times"))


def too_few_processes(*rows: LatencyRow) -> str | None:
    """State why rows have no interval over processes."""
    fewest = min(len(row.rounds_ms) for row in rows)
    return None if fewest >= 2 else ONE_PROCESS if fewest else NO_ROUNDS


def as_estimate(found: Ratio, basis: str) -> Measured:
    """Return a ratio as an estimate, unless it has no interval."""
    value, low, high = found
    if low is None or high is None:
        return Absent("timed in too few rounds for an interval; set measure.rounds to 30")
    return Estimate(value, basis, lambda _: (low, high))


def _incomparable(sides: Sides, old: LatencyRow, new: LatencyRow) -> str | None:
    """State why two latencies cannot be compared: another machine, version of the runtime, or number of threads."""
    before, after = (side.run.environment for side in sides)
    if before.machine != after.machine:
        return f"timed on another machine: {after.machine} instead of {before.machine}"
    versions = [engine_version(environment, new.runtime) for environment in (after, before)]
    if versions[0] != versions[1]:
        return f"timed with another version of {new.runtime}: {versions[0]} instead of {versions[1]}"
    if old.threads != new.threads:
        return f"timed with {new.threads} threads instead of {old.threads}"
    return None


def _rounds_beside(reference: Sides, old: LatencyRow, new: LatencyRow) -> list[Rounds] | None:
    """Find the rounds of the reference in the same processes, before and after.

    Of the same file, or else of the runtime's file that is not in half precision: it shows phases of the machine too.
    """
    for name in dict.fromkeys((file_name(new.runtime, new.precision), new.runtime)):
        rows = [find_row(side.variant, name, new.batch) for side in reference]
        rounds: list[Rounds] = [row.rounds_ms if row else () for row in rows]
        if [len(each) for each in rounds] == [len(old.rounds_ms), len(new.rounds_ms)]:
            return rounds
    return None


def _relative(found: Ratio) -> Ratio:
    ends = [None if end is None else end - 1 for end in (found.low, found.high)]
    return Ratio(found.ratio - 1, *ends)
