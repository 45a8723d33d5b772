"""Out-of-distribution detection of a run: what is scored, and what the scores show. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

import numpy as np

from compress.data.left_out import LeftOut
from compress.data.ood import OodImages
from compress.data.prepared import ImageData
from compress.efficiency.files import FileKey, base_key, file_keys
from compress.efficiency.intervals import MIN_IMAGES
from compress.efficiency.ood import SCORES, VERSION, Placements, auroc_loss, placements
from compress.efficiency.per_class import LEVEL, holm
from compress.pipeline.file_units import FileUnit, file_units
from compress.results.left_out import LeftOutRecord
from compress.results.ood import Auroc, AurocLoss, OodChange, OodDetection, OodFile
from compress.results.stored import predictions_file
from compress.results.variant import Variant
from compress.stages.planned import Plan
from compress.store.store import Store

Found = Mapping[FileKey, Mapping[str, Placements]]
"""Placements of the images by network or file and score."""


def ood_units(plan: Plan, store: Store, images: str) -> list[FileUnit]:
    """Return what to score, in order, on the OOD images with the key `images`. All stages must be stored."""
    return file_units(plan, store, kind="ood", revision=VERSION, images=images)


def read_ood(
    plan: Plan, store: Store, data: ImageData, images: OodImages | None, variants: Sequence[Variant]
) -> OodDetection | None:
    """Return what a run found; None where its recipe names no OOD images, or nothing could be scored on them."""
    if images is None:
        return None
    found: dict[FileKey, dict[str, Placements]] = {}
    for unit in ood_units(plan, store, images.key):
        if store.has(unit.key):
            scores = np.load(predictions_file(store.path(unit.key), unit.name))
            known, ood = scores[:, : len(data.test)], scores[:, len(data.test) :]
            found[unit.file] = {name: placements(*pair) for name, *pair in zip(SCORES, known, ood, strict=True)}
    return detection(plan.references, variants, found, images.left_out) if found else None


def detection(
    references: Sequence[str], variants: Sequence[Variant], found: Found, left_out: Sequence[LeftOut]
) -> OodDetection:
    """Describe the scores of networks and files, and compare them with those of every reference.

    Args:
        references: Ids of the references.
        variants: All variants.
        found: Placements of the same test images and OOD images.
        left_out: What is in the folder and not among the OOD images, by reason.
    """
    keys = [key for key in file_keys(variants) if key in found]
    first = found[keys[0]][SCORES[0]]
    return OodDetection(
        images=len(first.ood),
        test_images=len(first.known),
        left_out=sum(row.count for row in left_out),
        left_out_by_reason=tuple(LeftOutRecord(**asdict(row)) for row in left_out),
        files=tuple(_file(key, found[key]) for key in keys),
        changes=tuple(change for reference in references for change in _changes(reference, keys, variants, found)),
    )


def _file(key: FileKey, found: Mapping[str, Placements]) -> OodFile:
    variant, runtime, precision = key
    scores = {name: Auroc(auroc=each.auroc, ci95=each.interval) for name, each in found.items()}
    return OodFile(variant=variant, runtime=runtime, precision=precision, **scores)


def _changes(reference: str, keys: Sequence[FileKey], variants: Sequence[Variant], found: Found) -> Iterator[OodChange]:
    base = base_key(reference, variants)
    if base not in found:
        return
    compared = [key for key in keys if key[0] != reference]
    losses = {(key, name): auroc_loss(found[base][name], found[key][name]) for key in compared for name in SCORES}
    adjusted = dict(zip(losses, holm([each.p_above_zero for each in losses.values()]), strict=True))
    first = found[base][SCORES[0]]
    enough = min(len(first.known), len(first.ood)) >= MIN_IMAGES
    for key in compared:
        scores = {
            name: AurocLoss(
                difference=losses[key, name].value,
                ci95=losses[key, name].interval,
                p_adjusted=adjusted[key, name],
                worse=enough and adjusted[key, name] <= LEVEL,
            )
            for name in SCORES
        }
        yield OodChange(
            reference=reference,
            reference_runtime=base[1],
            variant=key[0],
            runtime=key[1],
            precision=key[2],
            **scores,
        )
