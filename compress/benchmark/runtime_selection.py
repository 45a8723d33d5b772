"""Runtime selection of `runtimes: auto`: the fastest artifact of a variant within the allowed accuracy loss."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from compress.efficiency.files import name_of
from compress.efficiency.slower import is_slower, rows_against
from compress.efficiency.timing import Ratio, fastest, latency_ratio
from compress.results import LatencyRow, RuntimeCandidate, RuntimeChecks, RuntimeChoice, ValidationCheck
from compress.stages.context import StageContext
from compress.stages.export.make import CHECKS

NOT_TIMED = "could not be timed"


def select_runtimes(
    context: StageContext, latency: Mapping[str, tuple[LatencyRow, ...]]
) -> dict[str, tuple[RuntimeChoice, ...]]:
    """Select an artifact of every `runtimes: auto` export per batch size, by the latency of its runtimes.

    Returns:
        Choices by variant, one per batch size. `runtime` is None where no artifact is within the allowed loss, or each
        of those is slower than its FP32 file. `tied` are those as fast within the interval; the choice is the first in
        registry order.
    """
    choices: dict[str, tuple[RuntimeChoice, ...]] = {}
    for planned in context.plan.exports:
        allowed, variant = planned.stage.allowed_loss, planned.parent
        if allowed is None or variant is None:
            continue
        checks = RuntimeChecks.read(context.folder(planned.id) / CHECKS)
        ratios = _against_float(context, variant, latency)
        for batch in context.recipe.measure.batches:
            by_name = {name_of(row): row for row in latency[variant] if row.batch == batch}
            rows = {name: by_name[name] for name in checks.validation if name in by_name}
            slower = {name for (name, size), ratio in ratios.items() if size == batch and is_slower(ratio)}
            left_out = {
                **checks.left_out,
                **dict.fromkeys((name for name in checks.validation if name not in rows), NOT_TIMED),
            }
            choice = choose(rows, checks.validation, allowed, batch=batch, left_out=left_out, slower=slower)
            choices[variant] = (*choices.get(variant, ()), choice)
    return choices


def _against_float(
    context: StageContext, variant: str, latency: Mapping[str, tuple[LatencyRow, ...]]
) -> dict[tuple[str, int], Ratio]:
    """Compare a quantized variant with the float one that it was made from, by runtime and batch; else empty."""
    planned = context.plan.stage(variant)
    if not planned.stage.is_quantized or not planned.parent:
        return {}
    return rows_against(latency.get(planned.parent, ()), latency[variant])


def choose(
    rows: Mapping[str, LatencyRow],
    validation: Mapping[str, ValidationCheck],
    allowed: float,
    *,
    batch: int,
    left_out: Mapping[str, str],
    slower: Collection[str] = (),
) -> RuntimeChoice:
    """Select the fastest artifact within the allowed accuracy loss; the first one if several are as fast.

    Args:
        rows: Latency by name of the file, at one batch size.
        validation: Accuracy loss on validation by name of the file.
        allowed: Allowed accuracy loss, a fraction.
        batch: Batch size.
        left_out: Skipped runtimes, with the reason.
        slower: Runtimes whose quantized artifact is slower than its FP32 one, which are never selected.
    """
    holds = {name: validation[name].loss <= allowed + 1e-9 for name in rows}
    able = {name: row.rounds_ms for name, row in rows.items() if holds[name] and name not in slower}
    equal = fastest(able) if able else []
    candidates = []
    for name, row in rows.items():
        ratio, low, high = latency_ratio(rows[equal[0]], row) if equal else (None, None, None)
        candidates.append(
            RuntimeCandidate(
                runtime=row.runtime,
                precision=row.precision,
                p50_ms=row.p50_ms,
                ratio_to_choice=ratio,
                ratio_ci95=None if low is None or high is None else (low, high),
                validation_loss=validation[name].loss,
                validation_agreement=validation[name].agreement,
                holds=holds[name],
                slower_than_fp32=True if name in slower else None,
            )
        )
    return RuntimeChoice(
        batch=batch,
        runtime=rows[equal[0]].runtime if equal else None,
        precision=rows[equal[0]].precision if equal else None,
        tied=tuple(equal[1:]),
        allowed_loss=allowed,
        candidates=tuple(candidates),
        left_out=dict(left_out),
    )
