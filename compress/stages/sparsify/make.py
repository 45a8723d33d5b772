"""Make the variant of a `sparsify` stage: mask weights and repair the network."""

from __future__ import annotations

import tempfile
import zlib
from pathlib import Path

from compress.models.checkpoints import WEIGHTS, save_variant
from compress.pruning.groups import kept_layers
from compress.pruning.sparsity import (
    Sparsify,
    add_masks,
    mask_smallest,
    mask_two_of_four,
    remove_masks,
    unmaskable,
)
from compress.results import Ledger, Sparsity
from compress.stages.context import StageContext
from compress.stages.evaluation import store_network
from compress.stages.fitting import fit_stage
from compress.stages.planned import PlannedStage
from compress.stages.sparsify import SparsifyStage
from compress.utils.console import say
from compress.utils.messages import truncate_list


def make_sparse(context: StageContext, planned: PlannedStage, folder: Path) -> None:
    """Mask weights and train under the masks; unstructured sparsity increases during training."""
    stage = planned.stage
    assert isinstance(stage, SparsifyStage) and planned.parent
    network = context.parent_network(planned.parent)
    with tempfile.TemporaryDirectory() as own:  # on several devices, all processes make this stage in `folder`
        save_variant(Path(own), network)  # of a teacher, the store has the head alone
        parent_bytes = _compressed_bytes(Path(own) / WEIGHTS)
    model = network.model
    kept = kept_layers(model, network.architecture.resolution, stage.keep)
    dense = unmaskable(model, kept)
    masks = add_masks(model, kept)
    counted = sum(int(mask.mask.sum()) for mask in masks.values())
    if dense:
        share = sum(dense.values()) / (sum(dense.values()) + sum(mask.mask.numel() for mask in masks.values()))
        say(f"  {planned.id}: left dense, {share:.1%} of the weights, cannot be masked: {truncate_list(dense)}")
    left_dense, callbacks = [*dense], []
    if stage.pattern == "2:4":
        if misfits := mask_two_of_four(model, masks):
            say(f"  {planned.id}: left dense, input channels not a multiple of 4: {', '.join(misfits)}")
        left_dense += misfits
    else:
        callbacks = [Sparsify(model, masks, counted, stage.share, stage.until)]
    ledger = Ledger.start(context.metrics(planned.parent).training)
    ledger = fit_stage(context, planned, folder, network, stage.repair, ledger, *callbacks)
    if stage.pattern == "unstructured":
        mask_smallest(model, masks, counted, stage.share)  # with 0 repair epochs no callback has masked them
    zeros = counted - sum(int(mask.mask.sum()) for mask in masks.values())
    remove_masks(model, masks)
    save_variant(folder, network)
    sparsity = Sparsity(
        pattern=stage.pattern,
        zeros=zeros,
        weights=counted,
        left_dense=tuple(left_dense),
        compressed_bytes=_compressed_bytes(folder / WEIGHTS),
        parent_compressed_bytes=parent_bytes,
    )
    store_network(context, planned.id, folder, network, ledger, sparsity=sparsity)


def _compressed_bytes(weights: Path) -> int:
    """Return the size of a weights file after zlib's default compression."""
    packer, size = zlib.compressobj(), 0
    with weights.open("rb") as file:
        while part := file.read(1 << 20):
            size += len(packer.compress(part))
    return size + len(packer.flush())
