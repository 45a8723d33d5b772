"""Names of models and their published weights, and the preprocessing that the weights were published with.

timm          resnet18   resnet18.a1_in1k   hf-hub:timm/resnet18.a1_in1k   local-dir:FOLDER
torchvision   resnet50   resnet50.IMAGENET1K_V2   ResNet50_Weights.IMAGENET1K_V2
open_clip     ViT-B-32   ViT-B-32:laion2b_s34b_b79k   hf-hub:laion/...   local-dir:FOLDER
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from compress.data.geometry import require_geometry
from compress.data.preprocess import Preprocess
from compress.models.catalog import Catalog, catalog
from compress.utils.errors import CompressError, UsageError, first_line
from compress.utils.resources import expand

LOCAL, HUB = "local-dir:", "hf-hub:"
SEPARATORS = {"timm": ".", "torchvision": ".", "open_clip": ":"}


class ModelName(NamedTuple):
    """A model of a library and the tag of its published weights, empty for the library's default."""

    model: str
    tag: str


def split_name(library: str, name: str, known: Catalog) -> ModelName:
    """Split a name into model and tag, and replace deprecated names and torchvision's classes of weights."""
    separator = SEPARATORS[library]
    model, _, tag = name.partition(separator)
    current, _, its_tag = known.aliases.get(model, model).partition(separator)
    return ModelName(current, tag or its_tag)


def published_preprocess(library: str, model: str, resolution: int | None = None) -> Preprocess | None:
    """Return the preprocessing of published weights, from the library's configuration; nothing is downloaded or built.

    Args:
        library: `timm`, `torchvision` or `open_clip`.
        model: Name of the model, with or without the tag of its weights.
        resolution: Side of the network's input; default: that of the weights. The resize before the crop follows it.

    Returns:
        None where the library states none: an unknown name, or a repository of the hub that is not in the local cache.

    Raises:
        UsageError: the library's configuration is not supported, such as images that are not square.
        CompressError: the configuration in a `local-dir:` folder cannot be read.
    """
    readers = {"timm": _timm, "torchvision": _torchvision, "open_clip": _open_clip}
    return readers[library](model, resolution)


def local_config(name: str, file: str) -> Path | None:
    """Find the configuration of a `local-dir:` model, or of a `hf-hub:` model in the local cache; None without one.

    Raises:
        CompressError: the folder has none.
    """
    if name.startswith(LOCAL):
        path = Path(expand(name.removeprefix(LOCAL))) / file
        if not path.is_file():
            raise CompressError(f"{path.parent} is not a model folder: {file} not found")
        return path
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = name.removeprefix(HUB).partition("@")
    path = try_to_load_from_cache(repository, file, revision=revision or None)
    return Path(path) if isinstance(path, str) else None


def timm_config(name: str) -> dict[str, Any] | None:
    """Return timm's configuration of published weights (`PretrainedCfg`) by any name of the model; None if unknown.

    Raises:
        CompressError: the configuration in a `local-dir:` folder cannot be read.
    """
    import timm
    from timm.models._hub import load_model_config_from_path

    if name.startswith((LOCAL, HUB)):
        path = local_config(name, "config.json")
        if path is None:
            return None
        try:
            return dict(load_model_config_from_path(path.parent)[0])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CompressError(f"{path} is not a configuration of timm: {first_line(error)}") from error
    known = catalog("timm")
    assert known
    model, tag = split_name("timm", name, known)
    if tag not in ("", *known.tags.get(model, ())):
        return None
    cfg = timm.get_pretrained_cfg(f"{model}.{tag}" if tag else model)
    return dict(cfg.to_dict()) if cfg else None


def torchvision_weights(name: str) -> Any:
    """Return the member of torchvision's weights enum that a name stands for; None if there is none."""
    from torchvision import models

    known = catalog("torchvision")
    assert known
    model, tag = split_name("torchvision", name, known)
    if not known.tags.get(model):
        return None
    weights = models.get_model_weights(model)
    return weights.__members__.get(tag or "DEFAULT")


def _timm(name: str, resolution: int | None) -> Preprocess | None:
    from timm.data import resolve_data_config

    cfg = timm_config(name)
    if not cfg:
        return None
    # Some weights have another size and crop for tests, which timm uses only if asked.
    at_test_size = resolution is not None and resolution == (cfg.get("test_input_size") or (0,))[-1]
    config = resolve_data_config(pretrained_cfg=cfg, use_test_size=at_test_size)
    height, width = config["input_size"][1:]
    if height != width:
        raise UsageError(f"timm's {name} takes images of {height} x {width} pixels; choose a model of square images")
    side = resolution or height
    return _preprocess(f"timm's {name}", config, side, math.floor(side / config["crop_pct"]), config["crop_mode"])


def _torchvision(name: str, resolution: int | None) -> Preprocess | None:
    weights = torchvision_weights(name)
    if weights is None:
        return None
    transform = weights.transforms()
    config = {key: getattr(transform, key) for key in ("mean", "std")}
    config["interpolation"] = transform.interpolation.value
    (crop,), (resize,) = transform.crop_size, transform.resize_size
    side = resolution or crop
    return _preprocess(f"torchvision's {name}", config, side, resize * side // crop)


def _open_clip(name: str, resolution: int | None) -> Preprocess | None:
    import open_clip
    from open_clip.transform import PreprocessCfg

    if name.startswith((LOCAL, HUB)):
        path = local_config(name, "open_clip_config.json")
        if path is None:
            return None
        try:
            stored = json.loads(path.read_text())
            model, config = stored["model_cfg"], {**vars(PreprocessCfg()), **stored.get("preprocess_cfg", {})}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CompressError(f"{path} is not a configuration of open_clip: {first_line(error)}") from error
    else:
        architecture, _, tag = name.partition(SEPARATORS["open_clip"])
        model = open_clip.get_model_config(architecture)
        own = open_clip.get_pretrained_cfg(architecture, tag) if tag else {}
        if model is None or (tag and not own):
            return None
        config = {**vars(PreprocessCfg()), **own}
    size = model["vision_cfg"].get("image_size", 224)
    side = resolution or (size if isinstance(size, int) else size[0])
    mode = {"shortest": "center"}.get(config["resize_mode"], config["resize_mode"])
    return _preprocess(f"open_clip's {name}", config, side, side, mode)


def _preprocess(where: str, config: dict[str, Any], side: int, resize: int, mode: str = "center") -> Preprocess:
    interpolation, crop_mode = require_geometry(config["interpolation"], mode, where)
    return Preprocess(
        resolution=side,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=interpolation,
        resize=None if resize == side else resize,
        crop_mode=crop_mode,
    )
