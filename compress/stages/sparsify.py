"""The `sparsify` stage: weights that become zero while the network is repaired."""

from __future__ import annotations

import zlib
from pathlib import Path

from compress.models.checkpoints import load_variant, save_variant
from compress.pipeline.plan import PlannedStage
from compress.pruning.sparsity import Sparsify, add_masks, mask_smallest, mask_two_of_four, remove_masks
from compress.recipe.schema import SparsifyStage
from compress.stages.context import StageContext, write_network
from compress.stages.fitting import fit_stage, new_ledger
from compress.utils.console import say


def make_sparse(work: StageContext, unit: PlannedStage, folder: Path) -> None:
    """Masks, then repair under them; unstructured sparsity rises meanwhile."""
    stage = unit.stage
    assert isinstance(stage, SparsifyStage) and unit.parent
    network = load_variant(work.folder(unit.parent))
    model, architecture = network.model, network.architecture
    masks = add_masks(model, stage.keep)
    counted = sum(int(mask.mask.sum()) for mask in masks.values())
    left, rising = [], []
    if stage.pattern == "2:4":
        left = mask_two_of_four(model, masks)
        if left:
            say(f"  {unit.id}: not a multiple of four input channels, stays dense: {', '.join(left)}")
    else:
        rising = [Sparsify(model, masks, counted, stage.share, stage.until)]
    ledger = new_ledger(work.metrics(unit.parent)["training"])
    ledger = fit_stage(work, unit, folder, model, architecture, stage.repair, ledger, *rising)
    if stage.pattern == "unstructured":
        mask_smallest(model, masks, counted, stage.share)  # a repair of no epochs has not done it
    zeros = counted - sum(int(mask.mask.sum()) for mask in masks.values())
    remove_masks(model, masks)
    save_variant(folder, network)
    record = {
        "pattern": stage.pattern,
        "zeros": zeros,
        "weights": counted,
        "left_dense": left,
        "compressed_bytes": _compressed(folder / "model.safetensors"),
        "parent_compressed_bytes": _compressed(work.folder(unit.parent) / "model.safetensors"),
    }
    write_network(work, unit, folder, model, architecture, ledger, sparsity=record)


def _compressed(weights: Path) -> int:
    """Bytes of a weights file after zlib's default compression."""
    packer, size = zlib.compressobj(), 0
    with weights.open("rb") as file:
        while part := file.read(1 << 20):
            size += len(packer.compress(part))
    return size + len(packer.flush())
