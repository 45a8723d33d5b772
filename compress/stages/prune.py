"""The `prune` stage: channels are removed, and what is left is repaired, in one round or several."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from compress.data.prepared import Split
from compress.data.preprocess import Preprocess
from compress.deployment.runtimes import thread_count
from compress.measurement.compute import macs, training_macs
from compress.models.architecture import Architecture, Network
from compress.models.checkpoints import changed_sizes, load_variant, save_variant, unpruned_network
from compress.pipeline.plan import PlannedStage
from compress.recipe.schema import PruneStage
from compress.stages.context import Metrics, StageContext, parts, write_network
from compress.stages.fitting import charge, fit_stage, new_ledger
from compress.stages.latency_search import LatencyTrials
from compress.utils.console import say, task
from compress.utils.hashing import key_of

if TYPE_CHECKING:
    from compress.pruning.sensitivity import SensitivityRow

TAYLOR_IMAGES = 1024  # labelled train images whose loss ranks channels


@dataclass(frozen=True)
class State:
    """A network on its way to the target: what it has cost, and what was found out about it."""

    model: nn.Module
    architecture: Architecture
    ledger: Metrics
    found: dict[str, list[Metrics]]

    def write(self, folder: Path) -> None:
        save_variant(folder, Network(self.model, self.architecture))
        (folder / "state.json").write_text(json.dumps({"ledger": self.ledger, "found": self.found}))

    @classmethod
    def read(cls, folder: Path) -> State:
        told = json.loads((folder / "state.json").read_text())
        network = load_variant(folder)
        return cls(network.model, network.architecture, told["ledger"], told["found"])


def make_pruned(work: StageContext, unit: PlannedStage, folder: Path) -> None:
    """Removal of channels, then repair; in `rounds` steps whose targets fall by the same factor.

    The states between are entries of the store: a stage that is made again goes on with the same network, also where it
    was found by measuring, which would not come out the same again; and processes that only join the repair find it.
    """
    stage = unit.stage
    assert isinstance(stage, PruneStage) and unit.parent
    network = load_variant(work.folder(unit.parent))
    dense = network.model
    state = State(dense, network.architecture, new_ledger(work.metrics(unit.parent)["training"]), {})
    for number in range(1, stage.rounds + 1):
        state = _stored(work, unit, f"pruned-{number}", partial(_prune, work, unit, state, dense, number))
        if number < stage.rounds:
            place = folder / "scratch" / f"repair-{number}"
            state = _stored(work, unit, f"round-{number}", partial(_repair, work, unit, state, place))
    state = _repair(work, unit, state, folder)
    pruning = {"widths": _widths(dense, state.model), **state.found}
    write_network(work, unit, folder, state.model, state.architecture, state.ledger, pruning=pruning)


def _stored(work: StageContext, unit: PlannedStage, name: str, make: Callable[[], State]) -> State:
    """A state between, from the store or made now."""
    key = key_of(unit=unit.key, state=name)
    folder, was_there = work.store.get(key, f"{unit.id}, {name}", lambda place: make().write(place))
    if was_there:
        say(f"  {unit.id}: {name} taken from the store")
    return State.read(folder)


def _repair(work: StageContext, unit: PlannedStage, state: State, place: Path) -> State:
    stage = unit.stage
    assert isinstance(stage, PruneStage)
    own = copy.deepcopy(state.ledger)  # a fit charges the ledger that it is given
    ledger = fit_stage(work, unit, place, state.model, state.architecture, stage.repair, own)
    ledger["curve"] = [*state.ledger["curve"], *ledger["curve"]]
    return replace(state, ledger=ledger)


def _prune(work: StageContext, unit: PlannedStage, state: State, dense: nn.Module, number: int) -> State:
    """The state without the channels that the target of a round takes."""
    from compress.pruning.channels import prune_channels
    from compress.pruning.gradients import accumulate_gradients
    from compress.pruning.sensitivity import curves_by_layer

    stage = unit.stage
    assert isinstance(stage, PruneStage)
    model, side = state.model, state.architecture.resolution
    ledger, found = copy.deepcopy(state.ledger), copy.deepcopy(state.found)
    preprocess = state.architecture.preprocess
    if stage.importance == "taylor":
        rows = np.random.default_rng(work.recipe.seed).permutation(len(work.data.train.images))[:TAYLOR_IMAGES]
        accumulate_gradients(model, _labelled(work.data.train, preprocess, np.sort(rows)))
        charge(ledger, f"importance: {len(rows)} images", len(rows) * training_macs(model, side))
    torch.manual_seed(work.recipe.seed if stage.repair.seed is None else stage.repair.seed)  # for `random`
    curves = None
    if stage.analyse:
        analysed = _analyse(work, unit, state, preprocess, ledger)
        curves = curves_by_layer(analysed)
        found.setdefault("sensitivity", []).extend({**row, "round": number} for row in analysed)
    settings = _target_of_round(stage, number / stage.rounds)
    threads = thread_count(work.recipe.measure.threads)
    trials = LatencyTrials(dense, side, settings.target_latency, threads) if settings.target_latency else None
    pruned = prune_channels(model, side, settings, dense, latency=trials, curves=curves)
    model.zero_grad(set_to_none=True)
    if trials:
        found.setdefault("latency_trials", []).extend({**row, "round": number} for row in trials.rows)
        charge(ledger, f"search: {len(trials.rows)} networks timed", trials.macs)
    sizes = changed_sizes(pruned, unpruned_network(state.architecture))
    return State(pruned, state.architecture.with_sizes(sizes), ledger, found)


def _target_of_round(stage: PruneStage, progress: float) -> PruneStage:
    """The stage with the target that a round aims at: rounds are steps of the same factor."""
    changed: dict[str, Any] = {}
    for name in ("target_macs", "target_params"):
        if getattr(stage, name) is not None:
            changed[name] = getattr(stage, name) ** progress
    if stage.target_latency:
        share = stage.target_latency.share**progress
        changed["target_latency"] = stage.target_latency.model_copy(update={"share": share})
    return stage.model_copy(update=changed)


def _analyse(
    work: StageContext, unit: PlannedStage, state: State, preprocess: Preprocess, ledger: Metrics
) -> list[SensitivityRow]:
    """Rows of `compress.pruning.sensitivity`, by the accuracy on validation; the ledger is charged."""
    from compress.pruning.sensitivity import coupled_layers, sensitivity

    stage = unit.stage
    assert isinstance(stage, PruneStage)
    model, side, split = state.model, state.architecture.resolution, work.data.validation
    spent = 0

    def top1(network: nn.Module) -> float:
        nonlocal spent
        spent += len(split.images) * macs(network, side)
        return _accuracy(network, preprocess, split)

    rows = []
    trials = len(coupled_layers(model, side, stage)) * len(stage.analyse)
    with task(f"{unit.id}: each layer pruned alone", trials) as advance:
        for row in sensitivity(model, side, stage, stage.analyse, top1):
            rows.append(row)
            advance()
    charge(ledger, f"sensitivity: {len(rows)} networks on validation", spent)
    return rows


@torch.no_grad()
def _accuracy(network: nn.Module, preprocess: Preprocess, split: Split) -> float:
    right = 0
    for pixels, labels in _labelled(split, preprocess, np.arange(len(split.images))):
        right += int((network(pixels).argmax(1) == labels).sum())
    return right / len(split.images)


def _labelled(split: Split, preprocess: Preprocess, rows: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
    assert split.labels is not None
    for chosen in parts(rows, 64):
        yield preprocess(torch.from_numpy(split.images[chosen])), torch.from_numpy(split.labels[chosen])


def _widths(dense: nn.Module, pruned: nn.Module) -> dict[str, list[int]]:
    """Outputs (before, after) of every convolution and linear layer."""
    return {
        name: [_outputs(module), _outputs(pruned.get_submodule(name))]
        for name, module in dense.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }


def _outputs(module: nn.Module) -> int:
    return module.weight.shape[0]  # type: ignore[index, return-value]
