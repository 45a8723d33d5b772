"""Runtime selection of `runtimes: auto`: the fastest artifact of a variant within the allowed accuracy loss."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from compress.benchmark.targets import BenchTargets
from compress.measurement.latency import fastest, measure_interleaved, speedup, summary
from compress.results import RuntimeCandidate, RuntimeChecks, RuntimeChoice, ValidationCheck
from compress.stages.context import StageContext
from compress.stages.export.make import CHECKS


def select_runtimes(context: StageContext, targets: BenchTargets) -> dict[str, tuple[RuntimeChoice, ...]]:
    """Benchmark the artifacts of every `runtimes: auto` export in interleaved rounds, and select one per batch size.

    Returns:
        Choices by variant, one per batch size. `runtime` is None where no artifact is within the allowed loss. `tied`
        are those as fast within the interval; the choice is the first in registry order.
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
            times = measure_interleaved(candidates, measure.rounds)
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
    """Select the fastest artifact within the allowed accuracy loss; the first one if several are as fast.

    Args:
        times: Milliseconds by runtime, one value per round.
        validation: Accuracy loss on validation by runtime.
        allowed: Allowed accuracy loss, a fraction.
        batch: Batch size.
        left_out: Skipped runtimes, with the reason.
    """
    holds = {name: validation[name].loss <= allowed + 1e-9 for name in times}
    equal = fastest({name: taken for name, taken in times.items() if holds[name]}) if any(holds.values()) else []
    candidates = []
    for name, taken in times.items():
        ratio, interval = speedup(taken, times[equal[0]]) if equal else (None, None)
        candidates.append(
            RuntimeCandidate(
                runtime=name,
                p50_ms=summary(taken)["p50_ms"],
                ratio_to_choice=ratio,
                ratio_ci95=interval,
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
