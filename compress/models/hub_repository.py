"""Files of a Hugging Face repository: weights, and a `config.json` that timm or the loader beside it builds from."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compress.data.preprocess import Preprocess
from compress.models import hub_loader
from compress.models.architecture import Architecture, Network
from compress.models.catalog import catalog
from compress.models.checkpoints import WEIGHTS, save_weights
from compress.models.factory import takes_size, torchvision_arguments
from compress.models.names import LOCAL, split_name
from compress.utils.errors import CompressError, UsageError, first_line

CONFIG, LOADER = "config.json", "load_model.py"
OWN_NETWORKS = "cifar_"  # beginning of the names of networks that this package registers with timm
PACKAGES = {
    "timm": ("timm",),
    "torchvision": ("timm", "torchvision"),  # timm has the transform
    "open_clip": ("timm", "open_clip_torch"),
}


@dataclass(frozen=True)
class Repository:
    """How the network of a repository is loaded."""

    by_timm: bool  # by timm alone, without the loader
    packages: tuple[str, ...]  # what loading it needs besides torch

    @property
    def files(self) -> tuple[str, ...]:
        return (CONFIG, WEIGHTS) if self.by_timm else (CONFIG, WEIGHTS, LOADER)


def write_repository(network: Network, folder: Path) -> Repository:
    """Write the network's files into `folder` and load them again: only one that gives the same logits is kept.

    Raises:
        UsageError: it is an embedding student, whose classes are a file of their own.
        CompressError: neither timm nor the loader builds the network.
    """
    architecture = network.architecture
    if architecture.embedding:
        what = "an embedding student gives embeddings, and timm and the loader give logits"
        raise UsageError(f"{what}; export it and upload its artifacts: hf upload OWNER/NAME ARTIFACTS")
    save_weights(network.model.state_dict(), folder / WEIGHTS)
    own = architecture.library == "timm" and architecture.model.startswith(OWN_NETWORKS)
    packages = (*PACKAGES[architecture.library], *(("compress-model",) if own else ()))
    reason = ""
    for by_timm, config in _configs(network, own):
        (folder / CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")
        (folder / LOADER).unlink(missing_ok=True)
        if not by_timm:
            shutil.copyfile(hub_loader.__file__, folder / LOADER)
        try:
            if same_logits(load_repository(folder, by_timm), network.model, architecture.resolution):
                return Repository(by_timm, packages)
            reason = "it gives other logits"
        except Exception as error:  # whatever a library makes of arguments that it does not have
            reason = f"{type(error).__name__}: {first_line(error)}"
    raise CompressError(f"{architecture.model} cannot be loaded from a repository ({reason}); push another variant")


def load_repository(folder: Path, by_timm: bool) -> nn.Module:
    """Load the network of a repository in eval mode, as its users do."""
    if not by_timm:
        return hub_loader.load_model(folder)
    import timm

    return timm.create_model(f"{LOCAL}{folder}", pretrained=True).eval()  # type: ignore[no-any-return]


@torch.no_grad()
def same_logits(first: nn.Module, second: nn.Module, side: int) -> bool:
    """Whether two networks give the same logits for two images of noise, within rounding."""
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    own, other = first.eval()(images), second.eval()(images)
    return own.shape == other.shape and torch.allclose(own, other, rtol=1e-4, atol=1e-5 * float(own.abs().max()))


def _configs(network: Network, own: bool) -> Iterator[tuple[bool, dict[str, Any]]]:
    """Yield configurations to try, with whether timm loads them: timm's own first, where nothing was pruned."""
    architecture = network.architecture
    for name, arguments in _builds(architecture):
        if architecture.library == "timm" and not architecture.sizes and not own:
            yield True, _timm_config(network, name, arguments)
    for name, arguments in _builds(architecture):
        built: dict[str, Any] = {"model": name, "arguments": arguments}
        yield (
            False,
            {
                "library": architecture.library,
                "network": built if architecture.config is None else architecture.config,
                "sizes": architecture.sizes,
                "num_classes": len(architecture.classes),
                "label_names": list(architecture.classes),
                "pretrained_cfg": data_config(architecture.preprocess),
            },
        )


def _builds(architecture: Architecture) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and arguments with which the library may build the network."""
    name, side, options = architecture.model, architecture.resolution, dict(architecture.options)
    if architecture.library == "timm":
        known = catalog("timm")
        assert known
        name = split_name("timm", name, known).model
        if takes_size(name):
            yield name, {**options, "img_size": side}
        yield name, options
    elif architecture.library == "torchvision":
        yield torchvision_arguments(name, side, options, pretrained=False)
    else:
        yield name, options


def _timm_config(network: Network, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return timm's `config.json`; its `pretrained_cfg` also says which layers to replace for other classes."""
    architecture, own = network.architecture, getattr(network.model, "pretrained_cfg", None) or {}
    kept = {key: own[key] for key in ("first_conv", "classifier", "fixed_input_size") if own.get(key) is not None}
    config: dict[str, Any] = {
        "architecture": name,
        "num_classes": len(architecture.classes),
        "num_features": int(getattr(network.model, "num_features", 0)),
        "label_names": list(architecture.classes),
        "pretrained_cfg": {
            **kept,
            **data_config(architecture.preprocess),
            "num_classes": len(architecture.classes),
            "custom_load": False,
        },
    }
    return {**config, "model_args": arguments} if arguments else config


def data_config(preprocess: Preprocess) -> dict[str, Any]:
    """Return preprocessing as timm's data configuration, of which `timm.data.create_transform` makes the transform."""
    side = preprocess.resolution
    return {
        "input_size": [3, side, side],
        "mean": list(preprocess.mean),
        "std": list(preprocess.std),
        "interpolation": preprocess.interpolation,
        "crop_pct": crop_share(side, preprocess.geometry.resize),
        "crop_mode": preprocess.crop_mode,
    }


def crop_share(side: int, resize: int) -> float:
    """Return a share of the resized side with which timm's floor(side / share) is `resize`, the roundest that is."""
    shares = (round(side / resize, digits) for digits in range(1, 8))
    return next((share for share in shares if share > 0 and math.floor(side / share) == resize), side / (resize + 0.5))
