"""Robustness of a run: which networks and files are evaluated on corrupted images, and what their predictions show.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from compress.data.corruptions import SEVERITIES, VERSION, benchmark, conditions
from compress.data.prepared import ImageData
from compress.efficiency.confidence import Estimate
from compress.efficiency.files import FileKey, base_key, file_keys
from compress.efficiency.intervals import paired_difference, wilson
from compress.efficiency.robustness import Corrupted, Excess, excess_losses, mean_corruption_error
from compress.pipeline.file_units import FileUnit, file_units
from compress.recipe.measure import Corruption
from compress.results.robustness import (
    CorruptedAccuracy,
    CorruptedFile,
    CorruptedLoss,
    CorruptionChange,
    CorruptionExcess,
    Robustness,
)
from compress.results.stored import predictions_file
from compress.results.variant import Variant
from compress.stages.planned import Plan
from compress.store.store import Store

Condition = tuple[Corruption, int]


def corruption_units(plan: Plan, store: Store) -> list[FileUnit]:
    """Return what to evaluate, in order; nothing where the recipe names no corruptions. All stages must be stored."""
    wanted = conditions(plan.recipe.measure.corruption_names)
    return file_units(plan, store, kind="corruptions", revision=VERSION, conditions=wanted) if wanted else []


def read_robustness(plan: Plan, store: Store, data: ImageData, variants: Sequence[Variant]) -> Robustness | None:
    """Return what a run found on corrupted images; None where its recipe names none, or nothing could be evaluated."""
    names = plan.recipe.measure.corruption_names
    if not names:
        return None
    labels, found = np.asarray(data.test.labels), {}
    for unit in corruption_units(plan, store):
        if store.has(unit.key):
            found[unit.file] = np.load(predictions_file(store.path(unit.key), unit.name)) == labels
    side = max(data.test.images.shape[-2:])
    return robustness(plan.references, variants, found, names, side) if found else None


def robustness(
    references: Sequence[str],
    variants: Sequence[Variant],
    correct: Mapping[FileKey, NDArray[np.bool_]],
    corruptions: Sequence[Corruption],
    side: int,
) -> Robustness:
    """Describe predictions on corrupted images, and compare them with those of every reference.

    Args:
        references: Ids of the references.
        variants: All variants.
        correct: Whether predictions are correct, `[1 + conditions, images]`, those before corruption first.
        corruptions: Kinds of corruption, in the order of the conditions.
        side: Longer side of the images in pixels.
    """
    keys = [key for key in file_keys(variants) if key in correct]
    wanted = conditions(corruptions)
    return Robustness(
        benchmark=benchmark(side),
        images=next(iter(correct.values())).shape[1],
        files=tuple(_accuracies(key, correct[key], wanted) for key in keys),
        changes=tuple(
            change
            for reference in references
            if (base := base_key(reference, variants)) in correct
            for change in _changes(base, [key for key in keys if key[0] != reference], correct, wanted)
        ),
    )


def _accuracies(key: FileKey, correct: NDArray[np.bool_], wanted: Sequence[Condition]) -> CorruptedFile:
    variant, runtime, precision = key
    return CorruptedFile(
        variant=variant,
        runtime=runtime,
        precision=precision,
        clean=float(correct[0].mean()),
        accuracies=tuple(
            CorruptedAccuracy(
                corruption=corruption,
                severity=severity,
                top1=float(rows.mean()),
                ci95=wilson(int(rows.sum()), len(rows)),
            )
            for (corruption, severity), rows in zip(wanted, correct[1:], strict=True)
        ),
    )


def _changes(
    base: FileKey, keys: Sequence[FileKey], correct: Mapping[FileKey, NDArray[np.bool_]], wanted: Sequence[Condition]
) -> list[CorruptionChange]:
    """Compare files with what stands for a reference."""
    before, after = _by_corruption(correct[base], wanted), [_by_corruption(correct[key], wanted) for key in keys]
    found = excess_losses(before, after)
    return [_change(base, key, correct, wanted, excess) for key, excess in zip(keys, found, strict=True)]


def _change(
    base: FileKey,
    key: FileKey,
    correct: Mapping[FileKey, NDArray[np.bool_]],
    wanted: Sequence[Condition],
    excess: Mapping[str, Excess],
) -> CorruptionChange:
    clean, *losses = (_loss(before, after) for before, after in zip(correct[base], correct[key], strict=True))
    before, after = (_by_corruption(correct[each], wanted) for each in (base, key))
    error = mean_corruption_error(before, after)
    return CorruptionChange(
        reference=base[0],
        reference_runtime=base[1],
        variant=key[0],
        runtime=key[1],
        precision=key[2],
        clean_difference=clean[0],
        clean_difference_ci95=clean[1],
        losses=tuple(
            CorruptedLoss(corruption=corruption, severity=severity, difference=difference, ci95=ends)
            for (corruption, severity), (difference, ends) in zip(wanted, losses, strict=True)
        ),
        excess=_excess(excess),
        mean_corruption_error=error.value if error else None,
        mean_corruption_error_ci95=_from_zero(error) if error else None,
    )


def _excess(found: Mapping[str, Excess]) -> tuple[CorruptionExcess, ...]:
    rows = [
        CorruptionExcess(
            corruption=name,
            difference=each.loss,
            beyond_clean=each.beyond.value,
            beyond_clean_ci95=each.beyond.interval,
            p_adjusted=each.p_adjusted,
            worse=each.shown,
        )
        for name, each in found.items()
    ]
    return tuple(sorted(rows, key=lambda row: -row.beyond_clean))


def _loss(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> tuple[float, tuple[float, float]]:
    """Return the accuracy lost on the same images, with its interval."""
    paired = paired_difference(int((before & ~after).sum()), int((~before & after).sum()), len(before))
    return paired.difference, (paired.low, paired.high)


def _by_corruption(correct: NDArray[np.bool_], wanted: Sequence[Condition]) -> Corrupted:
    names = dict.fromkeys(corruption for corruption, _ in wanted)
    parts = correct[1:].reshape(len(names), len(SEVERITIES), -1)
    return Corrupted(correct[0], dict(zip(names, parts, strict=True)))


def _from_zero(estimate: Estimate) -> tuple[float, float]:
    low, high = estimate.interval
    return max(0.0, low), high
