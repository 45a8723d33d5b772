"""Runtime selection of `runtimes: auto`: the fastest artifact of a variant within the allowed accuracy loss."""

from __future__ import annotations

from collections.abc import Mapping

from compress.efficiency.timing import fastest, latency_ratio
from compress.results import LatencyRow, RuntimeCandidate, RuntimeChecks, RuntimeChoice, ValidationCheck
from compress.stages.context import StageContext
from compress.stages.export.make import CHECKS


def select_runtimes(
    context: StageContext, latency: Mapping[str, tuple[LatencyRow, ...]]
) -> dict[str, tuple[RuntimeChoice, ...]]:
    """Select an artifact of every `runtimes: auto` export per batch size, by the latency of its runtimes.

    Returns:
        Choices by variant, one per batch size. `runtime` is None where no artifact is within the allowed loss. `tied`
        are those as fast within the interval; the choice is the first in registry order.
    """
    choices: dict[str, tuple[RuntimeChoice, ...]] = {}
    for planned in context.plan.exports:
        allowed, variant = planned.stage.allowed_loss, planned.parent
        if allowed is None or variant is None:
            continue
        checks = RuntimeChecks.read(context.folder(planned.id) / CHECKS)
        for batch in context.recipe.measure.batches:
            by_runtime = {row.runtime: row for row in latency[variant] if row.batch == batch}
            rows = {runtime: by_runtime[runtime] for runtime in checks.validation}
            choice = choose(rows, checks.validation, allowed, batch=batch, left_out=checks.left_out)
            choices[variant] = (*choices.get(variant, ()), choice)
    return choices


def choose(
    rows: Mapping[str, LatencyRow],
    validation: Mapping[str, ValidationCheck],
    allowed: float,
    *,
    batch: int,
    left_out: Mapping[str, str],
) -> RuntimeChoice:
    """Select the fastest artifact within the allowed accuracy loss; the first one if several are as fast.

    Args:
        rows: Latency by runtime, at one batch size.
        validation: Accuracy loss on validation by runtime.
        allowed: Allowed accuracy loss, a fraction.
        batch: Batch size.
        left_out: Skipped runtimes, with the reason.
    """
    holds = {name: validation[name].loss <= allowed + 1e-9 for name in rows}
    equal = fastest({name: row.rounds_ms for name, row in rows.items() if holds[name]}) if any(holds.values()) else []
    candidates = []
    for name, row in rows.items():
        ratio, low, high = latency_ratio(rows[equal[0]], row) if equal else (None, None, None)
        candidates.append(
            RuntimeCandidate(
                runtime=name,
                p50_ms=row.p50_ms,
                ratio_to_choice=ratio,
                ratio_ci95=None if low is None or high is None else (low, high),
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
