"""OpenCLIP's image tower with a linear head: a classifier like any other, so that it can be pruned and quantized."""

from __future__ import annotations

from typing import Any

from pydantic import JsonValue
from torch import nn

from compress.models.hub_loader import ClipClassifier, ImageTower
from compress.utils.errors import CompressError, first_line


def vision_config(visual: nn.Module, model_config: dict[str, Any]) -> dict[str, JsonValue]:
    """Return what `build_clip_classifier` needs, from a tower and OpenCLIP's configuration of its whole model."""
    size: Any = getattr(visual, "image_size", model_config["vision_cfg"]["image_size"])
    side = int(size if isinstance(size, int) else size[0])
    quick = any(type(module).__name__ == "QuickGELU" for module in visual.modules())
    vision = {**model_config["vision_cfg"], "timm_model_pretrained": False, "image_size": side}
    return {"embed_dim": model_config["embed_dim"], "vision_cfg": vision, "quick_gelu": quick}


def build_clip_classifier(config: dict[str, JsonValue], classes: int) -> ClipClassifier:
    """Build a classifier with random weights.

    Raises:
        CompressError: this version of OpenCLIP builds no tower of the configuration.
    """
    from open_clip.model import _build_vision_tower

    values: Any = config
    try:
        visual = _build_vision_tower(values["embed_dim"], values["vision_cfg"], values["quick_gelu"])
        return ClipClassifier(ImageTower(visual), nn.Linear(values["embed_dim"], classes))
    except Exception as error:  # whatever it makes of a configuration of another version
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise CompressError(
            f"OpenCLIP cannot build the image tower ({reason}); use the version that made it"
        ) from error
