"""Stages that make a network narrower: `prune`, and its control `shrink`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compress.data.preprocess import Preprocess
from compress.measurement.compute import macs, training_macs
from compress.models.checkpoints import changed_sizes, load_variant, plain_network, save_variant
from compress.pipeline.fitting import charge, distil, fit_network, learnt_from, new_ledger, new_student
from compress.pipeline.plan import Unit
from compress.pipeline.work import Metrics, Work, parts, write_network
from compress.progress import say
from compress.recipe.schema import Channels, Distillation, DistillStage, Fit, PruneStage, ShrinkStage, TrainStage
from compress.training.dead_taps import without_dead_taps

TAYLOR_IMAGES = 1024  # labelled train images whose loss ranks channels


def make_pruned(work: Work, unit: Unit, folder: Path) -> None:
    """Removal of channels, then repair; in `rounds` steps whose targets fall by the same factor."""
    stage = unit.stage
    assert isinstance(stage, PruneStage) and unit.parent
    dense, architecture = load_variant(work.folder(unit.parent))
    model, ledger = dense, new_ledger(work.metrics(unit.parent)["training"])
    scratch = folder / "scratch"
    first = 1
    for number in range(stage.rounds - 1, 0, -1):
        if (scratch / f"round-{number}").is_dir():
            model, architecture = load_variant(scratch / f"round-{number}")
            ledger = json.loads((scratch / f"round-{number}" / "ledger.json").read_text())
            say(f"  {unit.id}: goes on after round {number} of {stage.rounds}")
            first = number + 1
            break
    for number in range(first, stage.rounds + 1):
        model = _prune(work, model, dense, architecture, stage, number / stage.rounds, ledger)
        architecture = {**architecture, "sizes": changed_sizes(model, plain_network(architecture))}
        last = number == stage.rounds
        place = folder if stage.rounds == 1 else scratch / f"repair-{number}"
        curve = ledger["curve"]
        ledger = fit_stage(work, unit, place, model, architecture, stage.repair, ledger)
        ledger["curve"] = [*curve, *ledger["curve"]]
        if not last:
            _keep_round(scratch / f"round-{number}", model, architecture, ledger)
    write_network(work, unit, folder, model, architecture, ledger)


def make_shrunk(work: Work, unit: Unit, folder: Path) -> None:
    """The pruned network's control: as narrow from the start, and trained for as much compute."""
    from compress.pruning.channels import prune_channels

    stage = unit.stage
    assert isinstance(stage, ShrinkStage) and unit.parent
    pruned = work.plan.unit(unit.parent)
    source = work.plan.first_fit(pruned)
    new = source.student.model_copy(update={"pretrained": False, "checkpoint": None})
    source = source.model_copy(update={"student": new, "seed": stage.seed})
    model, architecture = new_student(work, source)
    side = architecture["resolution"]
    share = (work.metrics(unit.parent)["inference"]["macs"] + 0.5) / macs(model, side)
    narrow = Channels(target_macs=share, importance="random", round_to=1)  # as near to its MACs as can be
    model = prune_channels(model, side, narrow)
    architecture = {**architecture, "sizes": changed_sizes(model, plain_network(architecture))}
    epochs = _affordable_epochs(work, unit, model, side, source)
    say(f"  {unit.id}: {epochs} epochs take what {unit.parent} took")
    source = source.model_copy(update={"epochs": epochs})
    training = fit_stage(work, unit, folder, model, architecture, source, new_ledger())
    write_network(work, unit, folder, model, architecture, training)


def fit_stage(
    work: Work, unit: Unit, folder: Path, model: nn.Module, architecture: dict[str, Any], settings: Fit, ledger: Metrics
) -> Metrics:
    """Fit a network to the teacher that the stage descends from, or to labels where there is none."""
    if unit.teacher and isinstance(settings, Distillation):
        return distil(work, unit, folder, model, architecture, settings, ledger)
    return fit_network(work, unit, folder, model, architecture, settings, [work.data.train], None, ledger)


def _prune(
    work: Work,
    model: nn.Module,
    dense: nn.Module,
    architecture: dict[str, Any],
    stage: PruneStage,
    progress: float,
    ledger: Metrics,
) -> nn.Module:
    from compress.pruning.channels import prune_channels
    from compress.pruning.gradients import keep_gradients

    if stage.importance == "taylor":
        rows = np.random.default_rng(work.recipe.seed).permutation(len(work.data.train.images))[:TAYLOR_IMAGES]
        keep_gradients(model, _labelled(work, Preprocess.from_dict(architecture["preprocess"]), np.sort(rows)))
        charge(ledger, f"importance: {len(rows)} images", len(rows) * training_macs(model, architecture["resolution"]))
    targets = {name: getattr(stage, name) for name in ("target_macs", "target_params")}
    settings = stage.model_copy(update={name: value and value**progress for name, value in targets.items()})
    torch.manual_seed(work.recipe.seed)  # for `random`
    pruned = prune_channels(model, architecture["resolution"], settings, dense)
    model.zero_grad(set_to_none=True)
    return pruned


def _labelled(work: Work, preprocess: Preprocess, rows: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
    train = work.data.train
    assert train.labels is not None
    for chosen in parts(rows, 64):
        yield preprocess(torch.from_numpy(train.images[chosen])), torch.from_numpy(train.labels[chosen])


def _keep_round(place: Path, model: nn.Module, architecture: dict[str, Any], ledger: Metrics) -> None:
    aside = place.with_suffix(".partial")
    aside.mkdir(parents=True, exist_ok=True)
    save_variant(aside, architecture, model.state_dict())
    (aside / "ledger.json").write_text(json.dumps(ledger))
    aside.rename(place)


def _affordable_epochs(work: Work, unit: Unit, model: nn.Module, side: int, settings: TrainStage | DistillStage) -> int:
    """Epochs of `settings` that come nearest to the training compute of the pruned network."""
    assert unit.parent
    left = work.metrics(unit.parent)["training"]["macs"]
    with without_dead_taps(model, side):
        forward, training = macs(model, side), training_macs(model, side)
    splits, views = [work.data.train], 0
    asked = 0
    if unit.teacher and isinstance(settings, DistillStage):
        splits, views = learnt_from(work.data, settings)
        asked = work.metrics(unit.teacher)["inference"]["macs"]
    images = sum(len(split.images) for split in splits)
    epoch = images * training + len(work.data.validation.images) * forward
    if views and settings.teacher == "live":  # type: ignore[union-attr]
        epoch += images * asked
    else:
        left -= views * images * asked
    return max(1, round(int(left) / int(epoch)))
