"""The LightningModule of every fit: a network, the images that it is fitted on, and a teacher if it has one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.utils.data import DataLoader

from compress.data.prepared import Split
from compress.data.preprocess import Preprocess
from compress.data.views import render
from compress.measurement.accuracy import bits
from compress.measurement.device import name_device
from compress.models.embedding import encoder_of
from compress.recipe.data import Views
from compress.recipe.fit import Distillation, Fit
from compress.training.batches import device_batch, rank_images, step_images
from compress.training.dataset import Batch, ImageDataset, eval_loader, train_loader
from compress.training.formats import Format
from compress.training.freeze import frozen_norms, trains_batch_norm
from compress.training.hooks import DistillationHooks, register_hooks
from compress.training.losses.ce import labelled_cross_entropy
from compress.training.mixing import mix_batch
from compress.training.objective import make_objective
from compress.training.optim import DIVERGENCE_LR_FACTOR, lr_factor, make_ema, make_optimizer
from compress.training.state import Diverged, DivergedEpoch, EpochPoint, FitState
from compress.training.teacher_signal import CachedTeacher, TeacherSignal
from compress.utils.errors import UsageError
from compress.utils.machine_faults import is_out_of_memory

GPU_SHARE = 0.5  # of the free memory of a GPU that preloaded images may take
EXPLODED = 1000.0  # times the first step's loss, or 1 if that is more
CHECK_EVERY = 50  # steps between two losses that are read: each reading waits for the device


class FitModule(L.LightningModule):
    """Fits `network`; an epoch depends on nothing but the weights, the seed and the epoch's number.

    Args:
        network: Pixels `[b, 3, r, r]` to logits `[b, classes]`; trained in place.
        validation: The split whose accuracy follows each epoch, and selects a checkpoint if the settings say so.
        teacher: The teacher, or None to learn from labels alone.
        seed: Seed of the views, and of all else unless the settings have their own.
        image_macs: MACs of the network's forward and backward pass per image.
    """

    def __init__(
        self,
        network: nn.Module,
        preprocess: Preprocess,
        train: Sequence[Split],
        validation: Split,
        views: Views,
        settings: Fit,
        teacher: TeacherSignal | None,
        *,
        seed: int,
        image_macs: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.preprocess = preprocess
        self.train_images = ImageDataset(train)
        self.validation_images = ImageDataset([validation])
        self.views = views
        self.settings = settings
        self.view_seed = seed
        self.seed = seed if settings.seed is None else settings.seed
        self.teacher = teacher
        self.format = Format()  # of its steps; `fit` sets it
        self.objective = (
            make_objective(settings, network, preprocess, teacher, self.seed)
            if teacher and isinstance(settings, Distillation)
            else None
        )
        self.ema = make_ema(network, settings.ema) if settings.ema else None
        self.image_macs = image_macs + (self.teacher.image_macs if self.teacher else 0)
        self.devices = 1  # in this and in the images of a step, until `setup` knows how many there are
        self.step_images = step_images(len(self.train_images), settings.batch, 1)
        self.state = FitState()
        self.last_loss = math.nan
        self._losses: list[Tensor] = []
        self._correct: list[Tensor] = []
        self._finite: list[Tensor] = []
        self._hooks = DistillationHooks()

    @property
    def step_macs(self) -> int:
        """MACs of a step on all devices, forward and backward."""
        losses = self.objective.step_macs(self._device_images) if self.objective else 0
        return self.step_images * self.image_macs + self.devices * losses

    @property
    def _device_images(self) -> int:
        return self.step_images // self.devices

    def setup(self, stage: str) -> None:
        self.devices = self.trainer.world_size
        self.step_images = step_images(len(self.train_images), self.settings.batch, self.devices)
        if self._device_images < 2 and trains_batch_norm(self.network, self.settings.freeze):
            least = 2 * self.devices
            raise UsageError(
                f"batch norm needs two or more images per device, and a step has {self.step_images} on "
                f"{self.devices}; set `batch` to {least} or more, with as many train images"
            )
        if self.objective:
            self.objective.refuse_idle_losses(self._device_images, len(self.train_images))
        device = self.trainer.strategy.root_device
        for network in (self.network, self.ema):
            if network is None:
                continue
            name_device(network, device)
            if self.format.channels_last:
                network.to(memory_format=torch.channels_last)
        if device.type == "cuda" and self.train_images.nbytes < GPU_SHARE * torch.cuda.mem_get_info(device)[0]:
            self.train_images.preload(device)
        if self.objective and self.teacher and isinstance(self.settings, Distillation):
            self._hooks = register_hooks(self.settings, self.network, self.teacher, self.objective.classifier)
        if self.settings.compile:
            self.network.compile()

    def teardown(self, stage: str) -> None:
        self._hooks.remove()

    def train_dataloader(self) -> DataLoader[Batch]:
        world, rank = self.trainer.world_size, self.trainer.global_rank
        epoch, pinned, each = len(self.state.curve), self._on_cuda, device_batch(self.settings.batch, world)
        return train_loader(self.train_images, each, world, rank, self.seed, epoch=epoch, pinned=pinned)

    def val_dataloader(self) -> DataLoader[Batch]:
        world, rank = self.trainer.world_size, self.trainer.global_rank
        return eval_loader(self.validation_images, 256, world, rank, pinned=self._on_cuda)

    @property
    def _on_cuda(self) -> bool:
        return bool(self.trainer.strategy.root_device.type == "cuda")

    def configure_optimizers(self) -> Any:
        parameters = [*self.network.parameters(), *(self.objective.parameters() if self.objective else ())]
        # Lightning clips no gradients of fused optimizers in mixed precision.
        fused = self.settings.clip is None or self.trainer.precision == "32-true"
        optimizer = make_optimizer(parameters, self.settings, fused)
        factor = lr_factor(self.settings, self._total_steps)
        lowered = DIVERGENCE_LR_FACTOR ** len(self.state.diverged)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lowered * factor(step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    @property
    def _total_steps(self) -> int:
        return max(1, int(self.trainer.estimated_stepping_batches))

    def on_train_start(self) -> None:
        if self.state.diverged:  # the checkpoint that was gone back to has the learning rate of before
            scheduler: Any = self.lr_schedulers()
            for group, base, factor in zip(
                scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True
            ):
                group["lr"] = base * factor(scheduler.last_epoch)

    def on_train_epoch_start(self) -> None:
        torch.manual_seed(self.seed * 1_000_003 + self.current_epoch)  # same dropout in a resumed fit
        for norm in frozen_norms(self.network, self.settings.freeze):
            norm.eval()  # it would go on averaging the statistics of the batches

    def training_step(self, batch: Batch, number: int) -> Tensor:
        rng = np.random.default_rng((self.seed, self.current_epoch, number, self.global_rank))
        # A teacher's views come round again every `views` epochs; without a teacher every epoch has its own.
        view = self.current_epoch % self.teacher.views if self.teacher else self.current_epoch
        images, share = render(self.train_images.pixels(batch), batch["index"], view, self.view_seed, self.views), 1.0
        if self.settings.mix:
            images, share = mix_batch(images, self.settings.mix, rng)
        logits = self._logits(self.network, images)
        loss = self._loss(logits, images, batch, view, rng, share)
        self._losses.append(loss.detach())
        if self.trainer.world_size == 1 and number % CHECK_EVERY == 0:  # of several processes, one would stop alone
            self._check(float(loss.detach()), at_once=number == 0)
        return loss

    def _loss(
        self, logits: Tensor, images: Tensor, batch: Batch, view: int, rng: np.random.Generator, share: float
    ) -> Tensor:
        """Return the loss of a batch; `share` of an image is its own, the rest of the one at the opposite place."""
        index, labels, smoothing, teacher = batch["index"], batch["labels"], self.settings.label_smoothing, self.teacher
        if self.objective is None or teacher is None:
            loss = labelled_cross_entropy(logits, labels, smoothing)
            if share < 1:
                loss = share * loss + (1 - share) * labelled_cross_entropy(logits, labels.flip(0), smoothing)
            return loss
        cached = teacher if isinstance(teacher, CachedTeacher) else None
        embeddings = teacher.embeddings(index, view, images)
        objective = partial(
            self.objective,
            logits,
            self._hooks.features.value if self._hooks.features else logits,
            progress=self.global_step / self._total_steps,
            label_smoothing=smoothing,
            sample_negatives=partial(cached.sample_negatives, index, view=view, rng=rng) if cached else None,
            maps=self._hooks.map_pairs(),
        )
        total: Tensor = objective(embeddings, labels)
        if share < 1:  # an online teacher has seen the mixed image, a cached one both of each pair apart
            other = embeddings.flip(0) if cached else embeddings
            total = share * total + (1 - share) * objective(other, labels.flip(0))
        return total

    def _check(self, loss: float, *, at_once: bool = False) -> None:
        """Remember the first loss of a fit, and raise `Diverged` for one that is not finite or far above it."""
        if self.state.first_loss is None:
            self.state.first_loss = loss
        if not math.isfinite(loss) or loss > EXPLODED * max(1.0, self.state.first_loss):
            raise Diverged(loss, self.current_epoch + 1, at_once)

    def go_back(self, diverged: Diverged) -> None:
        """Reset the state for a fit that starts again from its last good checkpoint, and record why."""
        again: DivergedEpoch = {"epoch": diverged.epoch, "loss": str(diverged.loss)}
        self.state = FitState(diverged=[*self.state.diverged, again])
        self._clear()

    def _clear(self) -> None:
        for gathered in (self._losses, self._correct, self._finite):
            gathered.clear()

    def on_train_batch_end(self, *_: Any) -> None:
        if self.objective is not None and self.objective.uses_head:
            self.objective.fold_into(self.network)
        if self.ema is not None:
            self.ema.update_parameters(self.network)

    def on_validation_model_eval(self) -> None:
        for network in (self.network, None if self.ema is None else self.ema.module):
            if network is not None and not isinstance(encoder_of(network), GraphModule):
                network.train()  # networks such as LeViT cache what they computed of earlier weights, until they train
        super().on_validation_model_eval()

    def validation_step(self, batch: Batch, _: int) -> None:
        network = self.network if self.ema is None else self.ema.module
        logits = self._logits(network, batch["images"])
        self._correct.append((logits.argmax(1) == batch["labels"]).float())
        self._finite.append(torch.isfinite(logits).all())

    def on_validation_epoch_end(self) -> None:
        loss = torch.stack(self._losses).mean()
        loss = torch.where(torch.stack(self._finite).all(), loss, math.nan)  # no loss has the last step's weights
        count, world = len(self.validation_images), self.trainer.world_size
        correct = torch.cat(self._correct)[: rank_images(count, world, self.trainer.global_rank)]
        gathered = self.all_gather(torch.stack([loss, correct.sum()])).view(-1, 2)
        self.last_loss, top1 = float(gathered[:, 0].mean()), round(float(gathered[:, 1].sum()) / count, 6)
        right = bits(correct.bool().cpu().numpy())
        self._clear()
        self._check(self.last_loss)
        spent = (self.current_epoch + 1) * int(self.trainer.num_training_batches) * self.step_macs
        if self.settings.select_on != "last" and top1 > max((p["top1"] for p in self.state.curve), default=-1.0):
            self.state.best = {name: value.detach().cpu().clone() for name, value in self.final_weights().items()}
        point: EpochPoint = {"macs": float(spent), "top1": top1}
        if world == 1:  # of several processes, each has seen a share of the images
            point["right"] = right
        self.state.curve.append(point)
        self.trainer.should_stop = self.out_of_patience

    @property
    def out_of_patience(self) -> bool:
        """Whether no epoch was better for as long as the settings allow."""
        tops = [point["top1"] for point in self.state.curve]
        patience = self.settings.patience
        return patience is not None and bool(tops) and len(tops) - 1 - tops.index(max(tops)) >= patience

    def final_weights(self) -> Mapping[str, Tensor]:
        """Return the weights that the fit would end with now: the moving average if there is one."""
        return (self.network if self.ema is None else self.ema.module).state_dict()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["fit_state"] = dict(vars(self.state))
        checkpoint["format"] = str(self.format)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        before = self.state.diverged
        self.state = FitState(**checkpoint["fit_state"])
        self.state.diverged = max(before, self.state.diverged, key=len)  # the checkpoint may be older than a divergence
        self.trainer.should_stop = self.out_of_patience

    def _logits(self, network: nn.Module, images: Tensor) -> Tensor:
        pixels = self.preprocess(images).contiguous(memory_format=torch.channels_last)
        try:
            with self.format.convolutions():
                return network(pixels)  # type: ignore[no-any-return]
        except RuntimeError as error:  # fake quantization refuses a scale that is not finite
            if is_out_of_memory(error) or not _has_overflowed(network):
                raise
            raise Diverged(math.nan, self.current_epoch + 1, at_once=not self._losses) from error


def _has_overflowed(network: nn.Module) -> bool:
    """Whether weights, or ranges that observers saw, are not finite; unseen ones are infinite the other way."""
    ends = {"min_val": -math.inf, "max_val": math.inf}
    seen = (
        value.isnan() | (value == ends.get(name.rsplit(".", 1)[-1], math.nan))
        for name, value in network.named_buffers()
        if value.is_floating_point()
    )
    weights = (~value.isfinite() for value in network.parameters())
    return any(bool(wrong.any()) for wrong in (*weights, *seen))
