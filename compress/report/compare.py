"""Runs compared with the first one: what differs in their recipes and machines, and which results changed.

Only what the intervals show counts as a change; they are those of `gate`, of `run_changes.py`. Accuracy is compared on
the same test images, image by image, where both runs used them; otherwise as two independent samples; nothing is
claimed across different data. Latency was measured at another time in each run: a change is claimed only relative to
the reference, where that is the same model in both runs, which used the same kind of machine, the same version of the
runtime and several processes each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from compress.deployment.engines import engine_version
from compress.efficiency.files import name_of
from compress.efficiency.verdict import Estimate
from compress.report.comparison import (
    ABSENT,
    NO_CLAIM,
    AccuracyChange,
    AgainstFirst,
    Change,
    ComparedRun,
    ComparedVariant,
    Comparison,
    Difference,
    Figures,
    LatencyChange,
    Top1,
    Verdict,
)
from compress.report.run_changes import (
    Predicted,
    accuracy_change,
    direction,
    discordant,
    find_row,
    latency_change,
    of_network,
    shared_reference,
)
from compress.report.sides import Absent, Measured, Side, Sides
from compress.results import LatencyRow, RunRecord, Variant
from compress.results.base import Interval
from compress.results.read import read_run
from compress.utils.checksums import check_run
from compress.utils.errors import UsageError

VERDICTS: dict[int, Verdict] = {1: "more", 0: NO_CLAIM, -1: "less"}


def compare(folders: Sequence[Path]) -> Comparison:
    """Compare runs with the first one.

    Raises:
        UsageError: there are fewer than two, one is given twice or is not a run, or its results have changed since it
            wrote them.
        CompressError: the checksums of a run are themselves corrupt.
    """
    if len(folders) < 2:
        raise UsageError("compare takes two runs or more, e.g. compress-model compare runs/mine/first runs/mine/second")
    for number, folder in enumerate(folders):
        if folder.resolve() in [other.resolve() for other in folders[:number]]:
            raise UsageError(f"{folder} is given twice; compare it with another run")
    remarks = [check_run(folder) for folder in folders]
    runs = [read_run(folder) for folder in folders]
    names = dict.fromkeys(variant.id for run in runs for variant in run.variants)
    return Comparison(
        runs=tuple(_run(*each, runs[0]) for each in zip(runs, folders, remarks, strict=True)),
        recipe=_differences([_by_stage(run.recipe.resolved) for run in runs]),
        environment=_differences([run.environment.model_dump(exclude={"energy_counter"}) for run in runs]),
        variants=tuple(_variant(name, runs) for name in names),
    )


def _run(run: RunRecord, folder: Path, remarks: Sequence[str], first: RunRecord) -> ComparedRun:
    return ComparedRun(
        name=run.run.id or folder.name,
        path=str(folder),
        recipe=run.recipe.name,
        sha256=run.recipe.sha256,
        started=run.run.started,
        data=run.data.name,
        test_sha256=run.data.test_sha256,
        machine=run.environment.machine,
        remarks=tuple(remarks),
        against_first=AgainstFirst(
            same_results=run == first,
            same_data=first.data.same_data(run.data),
            same_machine=first.environment.machine == run.environment.machine,
            same_reference=_same_reference(first, run),
            engines=_engines(first, run),
        ),
    )


def _engines(first: RunRecord, run: RunRecord) -> tuple[Difference, ...]:
    """Runtimes that both have timed, with another version each."""
    timed = [[row.runtime for variant in each.variants for row in variant.inference.latency] for each in (first, run)]
    rows = (
        Difference(key=name, values=tuple(engine_version(each.environment, name) for each in (first, run)))
        for name in dict.fromkeys(timed[0])
        if name in timed[1]
    )
    return tuple(row for row in rows if row.values[0] != row.values[1])


def _by_stage(resolved: dict[str, object]) -> dict[str, object]:
    """Key the stages of a resolved recipe by their ids, so that a new one does not shift all that follow."""
    stages = resolved.get("stages")
    if not isinstance(stages, list) or not all(isinstance(stage, dict) and "id" in stage for stage in stages):
        return resolved
    return {**resolved, "stages": {str(stage["id"]): stage for stage in stages}}


def _differences(trees: Sequence[object]) -> tuple[Difference, ...]:
    """Every leaf whose value is not the same in all."""
    flat = [dict(_leaves(tree)) for tree in trees]
    keys = dict.fromkeys(key for leaves in flat for key in leaves)
    rows = (Difference(key=key, values=tuple(leaves.get(key, ABSENT) for leaves in flat)) for key in keys)
    return tuple(row for row in rows if any(value != row.values[0] for value in row.values))


def _leaves(value: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def _variant(name: str, runs: Sequence[RunRecord]) -> ComparedVariant:
    variants = [next((variant for variant in run.variants if variant.id == name), None) for run in runs]
    first = variants[0]
    return ComparedVariant(
        id=name,
        runs=tuple(_figures(variant) if variant else None for variant in variants),
        changes=(
            None,
            *(
                _change(Sides(Side(runs[0], first), Side(run, variant))) if first and variant else None
                for variant, run in zip(variants[1:], runs[1:], strict=True)
            ),
        ),
    )


def _figures(variant: Variant) -> Figures:
    accuracy, inference = variant.accuracy, variant.inference
    return Figures(
        stage_key=variant.stage_key,
        accuracy=Top1(top1=accuracy.top1, ci95=accuracy.ci95, correct=accuracy.correct, n=accuracy.n),
        macs=inference.macs,
        bit_operations=inference.bit_operations,
        bytes=inference.bytes,
        training_macs=variant.training.macs,
        latency=inference.latency,
    )


def _change(sides: Sides) -> Change:
    before, after = (side.variant for side in sides)
    old, new = before.inference, after.inference
    return Change(
        same_stage_key=sides.same_key,
        top1=_accuracy_change(sides),
        macs=_ratio(new.macs, old.macs),
        bit_operations=_ratio(new.bit_operations, old.bit_operations),
        bytes=_ratio(new.bytes, old.bytes),
        training_macs=_ratio(after.training.macs, before.training.macs),
        latency=_latency_changes(sides),
    )


def _ratio(over: float, under: float) -> float | None:
    return over / under if under else None


def _accuracy_change(sides: Sides) -> AccuracyChange:
    """Compare accuracies: paired where both used the same images, otherwise as two samples of the same data."""
    before, after = (of_network(side.variant) for side in sides)
    data = [side.run.data for side in sides]
    raw = sides.after.variant.accuracy.top1 - sides.before.variant.accuracy.top1
    found: Measured = Absent("no test images")
    counts = None
    if isinstance(before, Predicted) and isinstance(after, Predicted):
        found, counts = accuracy_change(sides, before, after), discordant(sides, before, after)
    return AccuracyChange(
        ci95=_ends(found),
        paired=counts is not None,
        images=sides.after.variant.accuracy.n if counts else None,
        same_data=data[0].same_data(data[1]),
        verdict=VERDICTS[direction(found)] if isinstance(found, Estimate) else NO_CLAIM,
        difference=found.value if isinstance(found, Estimate) else raw,
    )


def _ends(found: Measured) -> Interval | None:
    if isinstance(found, Absent):
        return None
    return found.interval(0.95) if found.interval else (found.value, found.value)


def _latency_changes(sides: Sides) -> tuple[LatencyChange, ...]:
    """Compare by file and batch. Medians of different times are shown beside each other without a claim."""
    return tuple(
        _latency_change(sides, old, new)
        for row in sides.after.variant.inference.latency
        if (new := find_row(sides.after.variant, name_of(row), row.batch)) is row
        and (old := find_row(sides.before.variant, name_of(row), row.batch))
    )


def _latency_change(sides: Sides, old: LatencyRow, new: LatencyRow) -> LatencyChange:
    found, beside = latency_change(sides, old, new)
    known = found if isinstance(found, Estimate) and (beside or found.interval is None) else None
    return LatencyChange(
        runtime=name_of(new),
        batch=new.batch,
        p50_ms=(old.p50_ms, new.p50_ms),
        p99_ms=(old.p99_ms, new.p99_ms),
        ratio=(old.ratio_to_reference, new.ratio_to_reference),
        ratio_ci95=(old.ratio_ci95, new.ratio_ci95),
        processes=(len(old.rounds_ms), len(new.rounds_ms)),
        slower=known.value if known else None,
        slower_ci95=_ends(known) if known else None,
        verdict=VERDICTS[-direction(known)] if known else NO_CLAIM,
    )


def _same_reference(first: RunRecord, run: RunRecord) -> bool:
    """Whether speeds of two runs are relative to the same model, known by its key in the store."""
    return shared_reference(first, run) is not None
