"""The one LightningModule: a network, the images that it is fitted on, and a teacher's answers where it has one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from compress.data.prepared import Split
from compress.data.preprocess import Preprocess
from compress.data.views import render
from compress.models.factory import classifier
from compress.recipe.data import Views
from compress.recipe.fit import Distillation, Fit
from compress.training.dataset import Images, in_order, shuffled
from compress.training.hooks import Tap, hint_maps, map_pairs, open_taps
from compress.training.losses import labelled_cross_entropy
from compress.training.mixing import mixed
from compress.training.objective import Objective, Step, reads_features
from compress.training.optim import LOWERED, make_optimizer, rate_of
from compress.training.teacher_signal import OnlineTeacher, TeacherSignal
from compress.utils.errors import CompressError

GPU_SHARE = 0.5  # of the free memory of a GPU that images may take
EXPLODED = 1000.0  # times the first step's loss, or 1 where that is more
LOOK_EVERY = 50  # steps after which a loss is read: each reading waits for the device


class Diverged(CompressError):
    """The loss is no number any more, or has exploded; `at_once`: in the epoch's first step, so before the epoch."""

    def __init__(self, loss: float, epoch: int, at_once: bool) -> None:
        self.loss, self.epoch, self.at_once = loss, epoch, at_once
        super().__init__(f"the loss is {loss:.3g} in epoch {epoch}")


class Fitting(L.LightningModule):
    """Fits `network`. What an epoch does depends on the weights, the seed and the epoch's number alone.

    Args:
        chosen_on: the images whose accuracy follows each epoch, and chooses one where the settings say so.
        seed: of the views, and of everything else where the settings have none of their own.
        image_macs: of forward and backward pass, for one image.
    """

    def __init__(
        self,
        network: nn.Module,
        preprocess: Preprocess,
        train: Sequence[Split],
        chosen_on: Split,
        views: Views,
        settings: Fit,
        answers: TeacherSignal | None,
        *,
        seed: int,
        image_macs: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.preprocess = preprocess
        self.train_images = Images(train)
        self.chosen_on = Images([chosen_on])
        self.views = views
        self.settings = settings
        self.view_seed = seed
        self.seed = seed if settings.seed is None else settings.seed
        self.answers = answers
        self.objective = self._objective()
        self.average = _average(network, settings.ema) if settings.ema else None
        image_macs += self.objective.macs if self.objective else 0
        image_macs += self.answers.image_macs if self.answers else 0
        self.step_images = min(settings.batch, len(self.train_images))
        self.step_macs = self.step_images * image_macs
        self.curve: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}
        self.last_loss = math.nan
        self.first_loss: float | None = None
        self.diverged: list[dict[str, Any]] = []
        self._losses: list[Tensor] = []
        self._right: list[Tensor] = []
        self._sane: list[Tensor] = []
        self._taps: dict[str, Tap] = {}

    def _objective(self) -> Objective | None:
        settings = self.settings
        if self.answers is None or not isinstance(settings, Distillation):
            return None
        torch.manual_seed(self.seed)
        features = classifier(self.network)[1].in_features if reads_features(settings) else 0
        if settings.classifier == "teacher":
            classifier(self.network)[1].requires_grad_(False)  # it is computed from what is trained
        hint = hint_maps(settings.losses, self.network, self.preprocess, self.answers)
        return Objective(settings, self.answers.head, features, self.answers.width, hint)

    def setup(self, stage: str) -> None:
        device = self.trainer.strategy.root_device
        if device.type == "cuda":  # on a CPU contiguous weights are the faster ones
            self.network.to(memory_format=torch.channels_last)
            if self.train_images.bytes < GPU_SHARE * torch.cuda.mem_get_info(device)[0]:
                self.train_images.keep_on(device)
        if self.answers is not None and isinstance(self.settings, Distillation):
            self._taps = open_taps(self.settings, self.network, self.answers)
        if self.settings.compile:
            self.network.compile()

    def teardown(self, stage: str) -> None:
        for tap in self._taps.values():
            tap.close()

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        world, rank = self.trainer.world_size, self.trainer.global_rank
        share = max(1, self.settings.batch // world)  # the batch is that of all devices together
        return shuffled(self.train_images, share, world, rank, self.seed)

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return in_order(self.chosen_on, 256, self.trainer.world_size, self.trainer.global_rank)

    def configure_optimizers(self) -> Any:
        parameters = [*self.network.parameters(), *(self.objective.parameters() if self.objective else ())]
        # Lightning clips no gradients of fused optimizers in mixed precision.
        fused = self.settings.clip is None or self.trainer.precision == "32-true"
        optimizer = make_optimizer(parameters, self.settings, fused)
        rate = rate_of(self.settings, max(1, int(self.trainer.estimated_stepping_batches)))
        share = LOWERED ** len(self.diverged)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: share * rate(step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_start(self) -> None:
        if self.diverged:  # the state that was gone back to has the rate of before
            scheduler: Any = self.lr_schedulers()
            for group, base, rate in zip(
                scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True
            ):
                group["lr"] = base * rate(scheduler.last_epoch)

    def on_train_epoch_start(self) -> None:
        torch.manual_seed(self.seed * 1_000_003 + self.current_epoch)  # dropout is the same after a resumption

    def training_step(self, batch: dict[str, Tensor], number: int) -> Tensor:
        rng = np.random.default_rng((self.seed, self.current_epoch, number, self.global_rank))
        # A teacher's view comes round again every `views` epochs; without a teacher every epoch has its own.
        view = self.current_epoch % self.answers.views if self.answers else self.current_epoch
        images, share = render(self.train_images.pixels(batch), batch["index"], view, self.view_seed, self.views), 1.0
        if self.settings.mix:
            images, share = mixed(images, self.settings.mix, rng)
        logits = self._logits(self.network, images)
        loss = self._loss(logits, images, batch, view, rng, share)
        self._losses.append(loss.detach())
        if self.trainer.world_size == 1 and number % LOOK_EVERY == 0:  # of several processes, one would stop alone
            self._check(float(loss.detach()), at_once=number == 0)
        return loss

    def _check(self, loss: float, *, at_once: bool = False) -> None:
        """Remember the first loss of a fit, and stop where a later one is no number or far beyond it."""
        if self.first_loss is None:
            self.first_loss = loss
        if not math.isfinite(loss) or loss > EXPLODED * max(1.0, self.first_loss):
            raise Diverged(loss, self.current_epoch + 1, at_once)

    def go_back(self, diverged: Diverged) -> None:
        """Forget what has happened since the state that the next fit starts from, but that it diverged."""
        self.diverged.append({"epoch": diverged.epoch, "loss": str(diverged.loss)})
        self.curve, self.best, self.first_loss = [], {}, None
        self._clear()

    def _clear(self) -> None:
        for gathered in (self._losses, self._right, self._sane):
            gathered.clear()

    def _loss(
        self,
        logits: Tensor,
        images: Tensor,
        batch: dict[str, Tensor],
        view: int,
        rng: np.random.Generator,
        share: float,
    ) -> Tensor:
        labels, smoothing, answers = batch["labels"], self.settings.label_smoothing, self.answers
        if self.objective is None or answers is None:
            loss = labelled_cross_entropy(logits, labels, smoothing)
            if share < 1:
                loss = share * loss + (1 - share) * labelled_cross_entropy(logits, labels.flip(0), smoothing)
            return loss
        step = Step(
            logits=logits,
            features=self._taps["features"].value if "features" in self._taps else logits,
            told=answers.of(batch["index"], view, images),
            labels=labels,
            progress=self.global_step / max(1, int(self.trainer.estimated_stepping_batches)),
            others=self._others(answers, batch["index"], view, rng),
            maps=map_pairs(self._taps),
            smoothing=smoothing,
        )
        loss = self.objective(step)
        if share < 1:  # a live teacher has seen the mixed image, a stored one both of each pair apart
            told = step.told if isinstance(answers, OnlineTeacher) else step.told.flip(0)
            loss = share * loss + (1 - share) * self.objective(replace(step, told=told, labels=labels.flip(0)))
        return loss  # type: ignore[no-any-return]

    def _others(
        self, answers: TeacherSignal, index: Tensor, view: int, rng: np.random.Generator
    ) -> Callable[[int], Tensor] | None:
        """Draws embeddings of images that are not in the batch."""
        return None if isinstance(answers, OnlineTeacher) else lambda count: answers.others(index, count, view, rng)

    def on_train_batch_end(self, *_: Any) -> None:
        if self.objective is not None and self.objective.settings.classifier == "teacher":
            self.objective.fold_into(classifier(self.network)[1])
        if self.average is not None:
            self.average.update_parameters(self.network)

    def validation_step(self, batch: dict[str, Tensor], _: int) -> None:
        network = self.network if self.average is None else self.average.module
        logits = self._logits(network, batch["images"])
        self._right.append((logits.argmax(1) == batch["labels"]).float())
        self._sane.append(torch.isfinite(logits).all())

    def on_validation_epoch_end(self) -> None:
        loss = torch.stack(self._losses).mean()
        loss = torch.where(torch.stack(self._sane).all(), loss, math.nan)  # the last step's weights are no step's loss
        means = torch.stack([loss, torch.cat(self._right).mean()])
        self.last_loss, top1 = self.all_gather(means).view(-1, 2).mean(0).tolist()
        self._clear()
        self._check(self.last_loss)
        top1 = round(top1, 6)
        spent = (self.current_epoch + 1) * int(self.trainer.num_training_batches) * self.step_macs
        if self.settings.select_on != "last" and top1 > max((p["top1"] for p in self.curve), default=-1.0):
            self.best = {name: value.detach().cpu().clone() for name, value in self.kept().items()}
        self.curve.append({"macs": float(spent), "top1": top1})
        self.trainer.should_stop = self.out_of_patience

    @property
    def out_of_patience(self) -> bool:
        """Whether no epoch was better for as long as the settings allow."""
        tops = [point["top1"] for point in self.curve]
        patience = self.settings.patience
        return patience is not None and bool(tops) and len(tops) - 1 - tops.index(max(tops)) >= patience

    def kept(self) -> Mapping[str, Tensor]:
        """The weights that count at this moment: the moving average where there is one."""
        return (self.network if self.average is None else self.average.module).state_dict()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["curve"], checkpoint["best"] = self.curve, self.best
        checkpoint["first_loss"], checkpoint["diverged"] = self.first_loss, self.diverged

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.curve, self.best = checkpoint["curve"], checkpoint["best"]
        self.first_loss = checkpoint.get("first_loss")
        self.diverged = max(self.diverged, checkpoint.get("diverged", []), key=len)  # it may be gone back to
        self.trainer.should_stop = self.out_of_patience

    def _logits(self, network: nn.Module, images: Tensor) -> Tensor:
        pixels = self.preprocess(images).contiguous(memory_format=torch.channels_last)
        return network(pixels)  # type: ignore[no-any-return]


def _average(network: nn.Module, decay: float) -> AveragedModel:
    """Moving average of the weights; its decay rises in the first steps, whose weights are worth little."""

    @torch.no_grad()
    def average(averages: Any, currents: Any, count: Any) -> None:
        now = min(decay, (1 + int(count)) / (10 + int(count)))
        for mean, current in zip(averages, currents, strict=True):
            mean.copy_(current.lerp(mean, now) if mean.is_floating_point() else current)

    return AveragedModel(network, multi_avg_fn=average, use_buffers=True).requires_grad_(False)
