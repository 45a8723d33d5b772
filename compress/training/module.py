"""The one LightningModule: a network, the images that it is fitted on, and a teacher's answers where it has one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from compress.data.arrays import Split
from compress.data.preprocess import Preprocess
from compress.data.views import render
from compress.errors import CompressError
from compress.recipe.schema import Distillation, Fit, Views
from compress.training.losses import distillation_loss, embedding_loss, labelled_cross_entropy


@dataclass(frozen=True)
class Answers:
    """A teacher's stored embeddings, one file a view, and the head that turns them into logits."""

    files: Sequence[Path]
    head: nn.Module


class Images(Dataset[dict[str, Tensor]]):
    """Images of several splits in a row, given out as whole batches: uint8 pixels, index and label (-1: none)."""

    def __init__(self, splits: Sequence[Split]) -> None:
        self.arrays = [split.images for split in splits]
        self.starts = np.cumsum([0] + [len(array) for array in self.arrays])
        self.labels = np.concatenate(
            [np.full(len(s.images), -1) if s.labels is None else np.asarray(s.labels) for s in splits]
        ).astype(np.int64)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        index = np.asarray(indices)
        pixels = np.empty((len(index), *self.arrays[0].shape[1:]), np.uint8)
        for array, start, end in zip(self.arrays, self.starts, self.starts[1:], strict=False):
            rows = np.flatnonzero((index >= start) & (index < end))
            pixels[rows] = array[index[rows] - start]
        return {
            "images": torch.from_numpy(pixels),
            "index": torch.from_numpy(index),
            "labels": torch.from_numpy(self.labels[index]),
        }


class Fitting(L.LightningModule):
    """Fits `network`. What an epoch does depends on the weights, the seed and the epoch's number alone."""

    def __init__(
        self,
        network: nn.Module,
        preprocess: Preprocess,
        train: Sequence[Split],
        validation: Split,
        views: Views,
        settings: Fit,
        answers: Answers | None,
        *,
        seed: int,
        image_macs: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.preprocess = preprocess
        self.train_images = Images(train)
        self.validation = Images([validation])
        self.views = views
        self.settings = settings
        self.seed = seed
        self.head = answers.head.requires_grad_(False) if answers else None
        self.embeddings = [np.load(file, mmap_mode="r") for file in answers.files] if answers else []
        self.projection = self._projection()
        extra = 3 * self.projection.weight.numel() if self.projection else 0  # forward, and backward to both sides
        self.step_macs = settings.batch * (image_macs + extra)
        self.curve: list[dict[str, float]] = []
        self.last_loss = math.nan
        self._losses: list[Tensor] = []
        self._right: list[Tensor] = []

    def setup(self, stage: str) -> None:
        if self.trainer.strategy.root_device.type == "cuda":  # on a CPU contiguous weights are the faster ones
            self.network.to(memory_format=torch.channels_last)
        if self.projection is not None:
            self._hook = self._classifier().register_forward_pre_hook(self._keep_features)

    def teardown(self, stage: str) -> None:
        if self.projection is not None:
            self._hook.remove()

    def _keep_features(self, _: nn.Module, given: tuple[Tensor]) -> None:
        self._features = given[0]

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        world, rank = self.trainer.world_size, self.trainer.global_rank
        whole = len(self.train_images) >= self.settings.batch * world
        sampler: DistributedSampler[Any] = DistributedSampler(
            self.train_images, world, rank, seed=self.seed, drop_last=whole
        )
        return DataLoader(
            self.train_images, self.settings.batch, sampler=sampler, collate_fn=_as_it_is, drop_last=whole
        )

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        world, rank = self.trainer.world_size, self.trainer.global_rank
        sampler: DistributedSampler[Any] = DistributedSampler(self.validation, world, rank, shuffle=False)
        return DataLoader(self.validation, 256, sampler=sampler, collate_fn=_as_it_is)

    def configure_optimizers(self) -> Any:
        settings = self.settings
        shapes = [p for p in self.parameters() if p.requires_grad]
        groups = [  # biases and normalisation are not decayed
            {"params": [p for p in shapes if p.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [p for p in shapes if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer: torch.optim.Optimizer
        if settings.optimizer == "sgd":
            optimizer = torch.optim.SGD(groups, settings.lr, momentum=0.9, nesterov=True)
        else:
            optimizer = torch.optim.AdamW(groups, settings.lr, fused=True)  # 3.5x faster steps on a CPU
        total = max(1, int(self.trainer.estimated_stepping_batches))
        warmup = round(settings.warmup * total)

        def rate(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        torch.manual_seed(self.seed * 1_000_003 + self.current_epoch)  # dropout is the same after a resumption

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        index = batch["index"]
        # A stored view comes round again every len(embeddings) epochs; without a teacher every epoch has its own.
        view = self.current_epoch % len(self.embeddings) if self.embeddings else self.current_epoch
        logits = self._logits(render(batch["images"], index, view, self.seed, self.views))
        loss = labelled_cross_entropy(logits, batch["labels"], self.settings.label_smoothing)
        if self.head is not None and isinstance(self.settings, Distillation):
            rows = torch.from_numpy(self.embeddings[view][index.cpu().numpy()]).to(logits.device)
            with torch.no_grad():
                answers = self.head(rows.float())
            divergence = distillation_loss(logits, answers, self.settings.temperature)
            loss = self.settings.ce_weight * loss + self.settings.kd_weight * divergence
            if self.projection is not None:
                mapped = self.projection(self._features)
                loss = loss + self.settings.embedding_weight * embedding_loss(mapped, rows.to(mapped.dtype))
        self._losses.append(loss.detach())
        return loss

    def validation_step(self, batch: dict[str, Tensor], _: int) -> None:
        self._right.append((self._logits(batch["images"]).argmax(1) == batch["labels"]).float())

    def on_validation_epoch_end(self) -> None:
        right, self.last_loss = torch.cat(self._right), float(torch.stack(self._losses).mean())
        self._right.clear()
        self._losses.clear()
        if not math.isfinite(self.last_loss):
            epoch = self.current_epoch + 1
            raise CompressError(f"the loss is {self.last_loss} in epoch {epoch}: lower `lr`, or look at the data")
        top1 = float(self.all_gather(right.mean()).mean())
        spent = (self.current_epoch + 1) * self.trainer.num_training_batches * self.trainer.world_size * self.step_macs
        self.curve.append({"macs": float(spent), "top1": round(top1, 6)})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["curve"] = self.curve

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.curve = checkpoint["curve"]

    def _projection(self) -> nn.Linear | None:
        """A layer from the student's features, which its classifier reads, to the width of the teacher's embeddings.

        It is fitted with the student and left behind afterwards.
        """
        if not (self.embeddings and isinstance(self.settings, Distillation) and self.settings.embedding_weight):
            return None
        torch.manual_seed(self.seed)
        return nn.Linear(self._classifier().in_features, self.embeddings[0].shape[1])

    def _classifier(self) -> nn.Linear:
        for module in reversed(list(self.network.modules())):
            if isinstance(module, nn.Linear):
                return module
        raise CompressError("`embedding_weight` needs a student whose classifier is a linear layer")

    def _logits(self, images: Tensor) -> Tensor:
        pixels = self.preprocess(images).contiguous(memory_format=torch.channels_last)
        return self.network(pixels)  # type: ignore[no-any-return]


def _as_it_is(batch: Any) -> Any:
    return batch
