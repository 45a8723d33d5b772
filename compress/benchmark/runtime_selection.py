"""`runtimes: auto`: which of a variant's files holds its accuracy, and is the fastest of those."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from compress.benchmark.targets import BenchTargets
from compress.measurement.latency import fastest, measure_in_turns, summary
from compress.results import RuntimeCandidate, RuntimeChecks, RuntimeChoice, ValidationCheck
from compress.stages.context import StageContext
from compress.stages.export.make import CHECKS


def select_runtimes(context: StageContext, targets: BenchTargets) -> dict[str, tuple[RuntimeChoice, ...]]:
    """Time the files of each variant of a `runtimes: auto` export in interleaved rounds, and choose one per batch.

    Returns:
        By variant, one choice per batch. Its `runtime` is None where no file holds the accuracy; `tied` are those that
        are as fast within the interval, of which the choice is the first in the order of the registry.
    """
    measure = context.recipe.measure
    choices: dict[str, tuple[RuntimeChoice, ...]] = {}
    for planned in context.plan.exports:
        allowed, variant = planned.stage.allowed_loss, planned.parent
        if allowed is None or variant is None:
            continue
        checks = RuntimeChecks.read(context.folder(planned.id) / CHECKS)
        for batch in measure.batches:
            images = targets.images(variant, batch)
            candidates = {name: partial(targets.runners[name][variant], images) for name in checks.validation}
            times = measure_in_turns(candidates, measure.rounds)
            choice = choose(times, checks.validation, allowed, batch=batch, left_out=checks.left_out)
            choices[variant] = (*choices.get(variant, ()), choice)
    return choices


def choose(
    times: Mapping[str, list[float]],
    validation: Mapping[str, ValidationCheck],
    allowed: float,
    *,
    batch: int,
    left_out: Mapping[str, str],
) -> RuntimeChoice:
    """Choose the fastest of the files that hold the accuracy; of several as fast, the first.

    Args:
        times: Milliseconds by runtime, one value per round.
        validation: What each file loses on validation.
        allowed: What it may lose, a fraction.
        batch: Images of a run.
        left_out: Why other runtimes are not among them.
    """
    holds = {name: validation[name].loss <= allowed + 1e-9 for name in times}
    equal = fastest({name: taken for name, taken in times.items() if holds[name]}) if any(holds.values()) else []
    candidates = []
    for name, taken in times.items():
        row = summary(taken, times[equal[0]] if equal else None)
        candidates.append(
            RuntimeCandidate(
                runtime=name,
                p50_ms=row["p50_ms"],
                ratio_to_choice=row["ratio_to_reference"],
                ratio_ci95=row["ratio_ci95"],
                validation_loss=validation[name].loss,
                validation_agreement=validation[name].agreement,
                holds=holds[name],
            )
        )
    return RuntimeChoice(
        batch=batch,
        runtime=equal[0] if equal else None,
        tied=tuple(equal[1:]),
        allowed_loss=allowed,
        candidates=tuple(candidates),
        left_out=dict(left_out),
    )
