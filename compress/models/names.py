"""Names of models and their published weights, and the preprocessing that the weights were published with.

timm          resnet18   resnet18.a1_in1k   hf-hub:timm/resnet18.a1_in1k   local-dir:FOLDER
torchvision   resnet50   resnet50.IMAGENET1K_V2   ResNet50_Weights.IMAGENET1K_V2
open_clip     ViT-B-32   ViT-B-32:laion2b_s34b_b79k   hf-hub:laion/...   local-dir:FOLDER
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from compress.models.catalog import Catalog, catalog
from compress.utils.errors import CompressError, UsageError, first_line
from compress.utils.messages import did_you_mean, truncate_list
from compress.utils.resources import expand

if TYPE_CHECKING:
    from compress.data.preprocess import Preprocess

LOCAL, HUB = "local-dir:", "hf-hub:"
WITH_WEIGHTS = (LOCAL, HUB)  # prefixes of models that come with their weights
LISTED = {
    "timm": "timm.list_models()",
    "torchvision": "torchvision.models.list_models()",
    "open_clip": "open_clip.list_models()",
}
CONFIGS = {"timm": "config.json", "torchvision": "config.json", "open_clip": "open_clip_config.json"}
SEPARATORS = {"timm": ".", "torchvision": ".", "open_clip": ":"}


class ModelName(NamedTuple):
    """A model of a library and the tag of its published weights, empty for the library's default."""

    model: str
    tag: str


def expand_name(name: str) -> str:
    """Replace `{assets}` and `~` in the folder of a `local-dir:` model; other names stay as they are."""
    return f"{LOCAL}{expand(name.removeprefix(LOCAL))}" if name.startswith(LOCAL) else name


def split_name(library: str, name: str, known: Catalog) -> ModelName:
    """Split a name into model and tag, and replace deprecated names and torchvision's classes of weights."""
    separator = SEPARATORS[library]
    model, _, tag = name.partition(separator)
    current, _, its_tag = known.aliases.get(model, model).partition(separator)
    return ModelName(current, tag or its_tag)


def tagged(name: str, tag: str | None) -> str:
    """Return the name of an open_clip model with the tag of its weights, if it has one."""
    return f"{name}{SEPARATORS['open_clip']}{tag}" if tag and not name.startswith(WITH_WEIGHTS) else name


def weights_tag(library: str, name: str) -> str:
    """Return the tag of published weights that a name has, empty without one."""
    known = None if name.startswith(WITH_WEIGHTS) else catalog(library)
    return split_name(library, name, known).tag if known else ""


def name_problem(library: str, name: str) -> str | None:
    """Say what is wrong with the name of a model or of its weights; None if nothing is, as far as can be known here."""
    if name.startswith(LOCAL):
        try:
            local_config(name, CONFIGS[library])
        except CompressError as error:
            return str(error)
        return None
    known = None if name.startswith(HUB) else catalog(library)
    if known is None:
        return None
    model, tag = split_name(library, name, known)
    if model not in known.tags:
        hint = did_you_mean(model, known.tags, most=3, limit=None)
        return f"{library} has no model {name!r}{hint or f'; {LISTED[library]} has the names'}"
    if tag in ("", "DEFAULT", *known.tags[model]):
        return None
    tags = known.tags[model]
    hint = did_you_mean(tag, tags, most=3, limit=None) or f"; it has {truncate_list(tags)}"
    return f"{library} has no weights {tag!r} of {model}{hint}"


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
            raise CompressError(f"{path.parent} is not a model folder: {file} not found; make it, or correct `model`")
        return path
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = name.removeprefix(HUB).partition("@")
    cached = try_to_load_from_cache(repository, file, revision=revision or None)
    return Path(cached) if isinstance(cached, str) else None


def unpinned(library: str, name: str) -> str | None:
    """Return a remark on a repository of the hub without a revision; None for all other models.

    No store key has the content of its weights: it is not known before they are downloaded.
    """
    if not name.startswith(HUB) or "@" in name:
        return None
    config = local_config(name, CONFIGS[library])
    commit = config.parent.name if config else ""
    read = f"commit {commit} was read" if commit else "its commit is not known"
    pin = f"name the folder of a download, {LOCAL}FOLDER" if library == "open_clip" else f"{name}@{commit or 'COMMIT'}"
    return f"{name} has no revision, and later runs may read other weights ({read}); pin it: {pin}"


def timm_config(name: str) -> dict[str, Any] | None:
    """Return timm's configuration of published weights (`PretrainedCfg`) by any name of the model; None if unknown.

    Raises:
        CompressError: the configuration in a `local-dir:` folder cannot be read.
    """
    import timm

    if name.startswith(WITH_WEIGHTS):
        path = local_config(name, "config.json")
        return _read_timm(path)[0] if path else None
    known = catalog("timm")
    assert known
    model, tag = split_name("timm", name, known)
    if tag not in ("", *known.tags.get(model, ())):
        return None
    cfg = timm.get_pretrained_cfg(f"{model}.{tag}" if tag else model)
    return dict(cfg.to_dict()) if cfg else None


def timm_folder(name: str) -> tuple[str, dict[str, Any]]:
    """Return architecture and builder's arguments of a `local-dir:` or `hf-hub:` model, downloaded if need be.

    Raises:
        CompressError: the configuration cannot be read.
        OSError: it cannot be downloaded.
    """
    from timm.models import load_model_config_from_hf

    path = local_config(name, "config.json")
    _, architecture, arguments = _read_timm(path) if path else load_model_config_from_hf(name.removeprefix(HUB))
    # The recipe and the data decide these.
    decided = {"num_classes", "img_size", "in_chans"}
    return architecture, {key: value for key, value in arguments.items() if key not in decided and value is not None}


def _read_timm(path: Path) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """Read timm's `config.json`: configuration of the weights, architecture and the builder's arguments."""
    from timm.models._hub import load_model_config_from_path

    try:
        weights, architecture, arguments = load_model_config_from_path(path.parent)
        return dict(weights), str(architecture), dict(arguments or {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CompressError(f"{path} is not a configuration of timm: {first_line(error)}") from error


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

    if name.startswith(WITH_WEIGHTS):
        path = local_config(name, "open_clip_config.json")
        if path is None:
            return None
        try:
            stored = json.loads(path.read_text())
            model, config = stored["model_cfg"], dict(stored.get("preprocess_cfg", {}))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CompressError(f"{path} is not a configuration of open_clip: {first_line(error)}") from error
    else:
        architecture, _, tag = name.partition(SEPARATORS["open_clip"])
        model = open_clip.get_model_config(architecture)
        config = open_clip.get_pretrained_cfg(architecture, tag) if tag else {}
        if model is None or (tag and not config):
            return None
    return open_clip_preprocess(name, config, resolution or model["vision_cfg"].get("image_size", 224))


def open_clip_preprocess(name: str, config: Mapping[str, Any], size: int | Sequence[int]) -> Preprocess:
    """Read the preprocessing configuration of an OpenCLIP model; what it lacks is the library's default.

    Args:
        name: Name of the model, for messages.
        config: Fields of `open_clip.transform.PreprocessCfg`.
        size: Side of its input in pixels, or height and width.

    Raises:
        UsageError: it is not supported.
    """
    from open_clip.transform import PreprocessCfg

    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise UsageError(f"open_clip's {name} takes {height} x {width} pixels; choose a model of square images")
    config = {**vars(PreprocessCfg()), **config}
    mode = {"shortest": "center"}.get(config["resize_mode"], config["resize_mode"])
    return _preprocess(f"open_clip's {name}", config, height, height, mode)


def _preprocess(where: str, config: dict[str, Any], side: int, resize: int, mode: str = "center") -> Preprocess:
    from compress.data.geometry import require_geometry
    from compress.data.preprocess import Preprocess

    interpolation, crop_mode = require_geometry(config["interpolation"], mode, where)
    return Preprocess(
        resolution=side,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=interpolation,
        resize=resize,  # also where it is the side: originals are resized by this filter, stored squares by bicubic
        crop_mode=crop_mode,
    )
