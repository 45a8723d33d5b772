"""Make the variant of a `prune` stage: remove channels and repair the network, in one or several rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from compress.data.preprocess import Preprocess
from compress.data.source import Rows
from compress.measurement.compute import macs, training_macs
from compress.measurement.device import exact_float32, on_device
from compress.measurement.predict import labelled_batches
from compress.models.architecture import Network
from compress.models.checkpoints import changed_sizes, load_variant, save_variant, unpruned_network
from compress.pruning.channels import accumulate_gradients
from compress.pruning.prunable import Prunable, describe_left, find_prunable
from compress.pruning.search import prune_channels
from compress.pruning.sensitivity import SensitivityRow, curves_by_layer, sensitivity
from compress.results import LatencyTrial, LayerSensitivity, Ledger, Pruning, Record
from compress.stages.context import StageContext
from compress.stages.evaluation import store_network
from compress.stages.fitting import fit_stage
from compress.stages.planned import PlannedStage
from compress.stages.prune import PruneStage
from compress.stages.prune.latency_search import LatencySearch
from compress.utils.console import say, task
from compress.utils.hashing import key_of
from compress.utils.system import thread_count

STATE = "state.json"
TAYLOR_IMAGES = 1024  # labelled train images for Taylor importance


class Findings(Record):
    """Findings of the channel search so far; None where there was no search, or no layer is left whole."""

    sensitivity: tuple[LayerSensitivity, ...] | None = None
    latency_trials: tuple[LatencyTrial, ...] | None = None
    left_whole: tuple[str, ...] | None = None


class _Progress(Record):
    """`state.json`, stored beside the network of a state."""

    ledger: Ledger
    findings: Findings


@dataclass(frozen=True)
class State:
    """An intermediate network, its training ledger, and the findings so far."""

    network: Network
    ledger: Ledger
    findings: Findings

    def write(self, folder: Path) -> None:
        save_variant(folder, self.network)
        progress = _Progress(ledger=self.ledger, findings=self.findings)
        progress.write(folder / STATE)

    @classmethod
    def read(cls, folder: Path) -> State:
        progress = _Progress.read(folder / STATE)
        return cls(load_variant(folder), progress.ledger, progress.findings)


@dataclass(frozen=True)
class _Job:
    """The prune stage being made, and the dense network that it starts from."""

    context: StageContext
    planned: PlannedStage
    stage: PruneStage
    dense: nn.Module


def make_pruned(context: StageContext, planned: PlannedStage, folder: Path) -> None:
    """Remove channels and repair, in `rounds` steps whose targets decrease by the same factor.

    Intermediate states are store entries. A resumed stage continues with the same network, even if a latency search,
    which is not reproducible, selected it; and all processes of a multi-device repair load the same network.
    """
    stage = planned.stage
    assert isinstance(stage, PruneStage) and planned.parent
    network = context.parent_network(planned.parent)
    job = _Job(context, planned, stage, network.model)
    state = State(network, Ledger.start(context.metrics(planned.parent).training), Findings())
    for number in range(1, stage.rounds + 1):
        state = _stored(job, f"pruned-{number}", partial(_prune, job, state, number))
        if number < stage.rounds:
            state = _stored(
                job, f"round-{number}", partial(_repair, job, state, folder / "scratch" / f"repair-{number}")
            )
    state = _repair(job, state, folder)
    pruning = Pruning(widths=_widths(job.dense, state.network.model), **dict(state.findings))
    notes = [describe_left(pruning.left_whole)] if pruning.left_whole else []
    store_network(context, planned.id, folder, state.network, state.ledger, notes, pruning=pruning)


def _stored(job: _Job, name: str, make: Callable[[], State]) -> State:
    """Return an intermediate state, from the store or newly made."""
    key = key_of(unit=job.planned.key, state=name, layout=2)
    label = f"{job.planned.id}, {name}"
    folder, stored = job.context.store.get(key, label, lambda folder: make().write(folder))
    if stored:
        say(f"  {job.planned.id}: {name} taken from the store")
    return State.read(folder)


def _repair(job: _Job, state: State, folder: Path) -> State:
    ledger = fit_stage(job.context, job.planned, folder, state.network, job.stage.repair, state.ledger)
    return replace(state, ledger=ledger.model_copy(update={"curve": (*state.ledger.curve, *ledger.curve)}))


def _prune(job: _Job, state: State, number: int) -> State:
    """Return the state after pruning to the target of a round."""
    stage, context = job.stage, job.context
    model, side, preprocess = state.network.model, state.network.architecture.resolution, state.network.preprocess
    ledger, findings = state.ledger, state.findings
    if stage.importance == "taylor":
        images = context.data.train.images
        rows = np.random.default_rng(context.recipe.seed).permutation(len(images))[:TAYLOR_IMAGES]
        _accumulate_gradients(context, state.network.classifier, preprocess.on_stored(), np.sort(rows))
        ledger = ledger.charge(
            f"importance: {len(rows)} images", len(rows) * training_macs(state.network.classifier, side)
        )
    torch.manual_seed(context.recipe.seed if stage.repair.seed is None else stage.repair.seed)  # for `random`
    prunable = find_prunable(model, side, stage)
    left = tuple(dict.fromkeys((*(findings.left_whole or ()), *prunable.left)))
    findings = findings.model_copy(update={"left_whole": left or None})
    curves = None
    if stage.analyse:
        analysed, ledger = _analyse(job, state, ledger, prunable)
        curves = curves_by_layer(analysed)
        layer_rows = (LayerSensitivity.model_validate({**row, "round": number}) for row in analysed)
        findings = findings.model_copy(update={"sensitivity": (*(findings.sensitivity or ()), *layer_rows)})
    settings = _target_of_round(stage, number / stage.rounds)
    threads = thread_count(context.recipe.measure.threads)
    search = LatencySearch(job.dense, side, settings.target_latency, threads) if settings.target_latency else None
    pruned = prune_channels(
        model,
        side,
        settings,
        job.dense,
        latency=search,
        curves=curves,
        prunable=prunable,
        any_that_reaches=stage.takes_any,
    )
    model.zero_grad(set_to_none=True)
    if search:
        trials = (*(findings.latency_trials or ()), *search.trials(number))
        findings = findings.model_copy(update={"latency_trials": trials})
        ledger = ledger.charge(f"search: {len(search.rows)} networks timed", search.macs)
    architecture = state.network.architecture
    sizes = changed_sizes(pruned, unpruned_network(architecture))
    pruned_network = replace(state.network, model=pruned, architecture=architecture.with_sizes(sizes))
    return State(pruned_network, ledger, findings)


def _target_of_round(stage: PruneStage, progress: float) -> PruneStage:
    """Return the stage with the target of a round: targets decrease by the same factor per round."""
    changed: dict[str, object] = {}
    for name in ("target_macs", "target_params"):
        if getattr(stage, name) is not None:
            changed[name] = getattr(stage, name) ** progress
    if stage.target_latency:
        share = stage.target_latency.share**progress
        changed["target_latency"] = stage.target_latency.model_copy(update={"share": share})
    return stage.model_copy(update=changed)


def _analyse(job: _Job, state: State, ledger: Ledger, prunable: Prunable) -> tuple[list[SensitivityRow], Ledger]:
    """Prune each layer alone and measure validation accuracy."""
    network, stage, context = state.network, job.stage, job.context
    labels = np.asarray(context.data.validation.labels)
    side, spent = network.architecture.resolution, 0

    def top1(candidate: nn.Module) -> float:
        nonlocal spent
        classifier = replace(network, model=candidate).classifier
        spent += len(labels) * macs(classifier, side)
        logits = context.logits(classifier, "validation", network.preprocess)
        return float((logits.argmax(1) == labels).mean())

    rows = []
    trials = len(prunable.groups) * len(stage.analyse)
    with task(f"{job.planned.id}: sensitivity analysis", trials) as advance:
        for row in sensitivity(network.model, side, stage, prunable, stage.analyse, top1):
            rows.append(row)
            advance()
    return rows, ledger.charge(f"sensitivity: {len(rows)} networks on validation", spent)


def _accumulate_gradients(context: StageContext, model: nn.Module, preprocess: Preprocess, rows: Rows) -> None:
    """Accumulate the gradients of train images in the parameters, on the device of the run."""

    def accumulate(images: int) -> None:
        batches = labelled_batches(context.data.train, preprocess, images, rows, context.device)
        with on_device(model, context.device), exact_float32(context.device):
            accumulate_gradients(model, batches)

    context.importance_batch.fit(accumulate)


def _widths(dense: nn.Module, pruned: nn.Module) -> dict[str, tuple[int, int]]:
    """Return the output channels (before, after) of every convolution and linear layer."""
    return {
        name: (_outputs(module), _outputs(pruned.get_submodule(name)))
        for name, module in dense.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }


def _outputs(module: nn.Module) -> int:
    return module.weight.shape[0]  # type: ignore[index, return-value]
