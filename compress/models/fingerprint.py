"""Fingerprints of a teacher's weights and embeddings, computed without loading them (and without torch)."""

from __future__ import annotations

import re
from pathlib import Path

from compress.models.class_names import ARCHITECTURE
from compress.models.names import HUB, LOCAL, local_config
from compress.recipe.data import PLAIN, Views
from compress.recipe.models import ClassifierTeacher, EnsembleTeacher, OpenClipTeacher
from compress.utils.errors import CompressError
from compress.utils.hashing import file_digest, key_of
from compress.utils.resources import expand

DESCRIBED = ("model", "pytorch_model")  # names of weights files, without their ending, that others may describe
DESCRIPTIONS = (ARCHITECTURE, "config.json")  # of a stage, of timm: class names and preprocessing
READER = "2"  # raised when the weights or the preprocessing that are read from the same files change
WEIGHTS = (".safetensors", ".bin", ".pth", ".pt")
TOKENIZER = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.model", "*.spm")
OPEN_CLIP_WEIGHTS = WEIGHTS[:-1]  # files of a folder among which open_clip chooses; all of them count


OTHER_PREPROCESS = re.compile("SigLIP|MobileCLIP|CLIPA|PE-Core|worldwide|-378", re.IGNORECASE)
"""Models of open_clip with another preprocessing than OpenAI's, which their checkpoints were once given."""


def teacher_weights_id(settings: OpenClipTeacher | ClassifierTeacher | EnsembleTeacher) -> str:
    """Identify the teacher's weights in keys: by the digest of local files, or the name of published ones."""
    if isinstance(settings, EnsembleTeacher):
        return "|".join(map(teacher_weights_id, settings.members))
    files = local_files(settings)
    if files:
        built_in = isinstance(settings, OpenClipTeacher) and not settings.model.startswith((LOCAL, HUB))
        own = "+preprocess" if built_in and OTHER_PREPROCESS.search(settings.model) else ""
        return "+".join(file_digest(path) for path in files) + own
    if isinstance(settings, OpenClipTeacher):
        return f"open_clip:{settings.model}:{settings.pretrained}"
    return f"{settings.source}:{settings.model}:{'pretrained' if settings.pretrained else 'random'}"


def embedding_id(settings: OpenClipTeacher | ClassifierTeacher | EnsembleTeacher) -> dict[str, str]:
    """Identify what determines a teacher's embeddings: weights, architecture and image size, not the head."""
    if isinstance(settings, EnsembleTeacher):
        length = "1" if settings.combine == "embeddings" else "own"
        return {"members": key_of(members=list(map(embedding_id, settings.members))), "length": length}
    identity = {"weights": teacher_weights_id(settings)}
    if not isinstance(settings, OpenClipTeacher):
        model = LOCAL if settings.model.startswith(LOCAL) else settings.model
        identity |= {"model": f"{settings.source}/{model}", "resolution": str(settings.resolution), "reader": READER}
        identity |= {"output": "features"} if settings.head == "probe" else {}  # otherwise logits
        # Its embeddings are its outputs, in the order of the data's classes.
        identity |= {"classes": key_of(classes=settings.classes)} if settings.classes else {}
        identity |= {} if settings.ema is None else {"ema": str(settings.ema)}
    elif not settings.model.startswith(LOCAL):
        identity["model"] = settings.model
        # Older versions took a hub's own weights instead of a checkpoint, or random ones if there were none.
        identity |= {"reader": READER} if settings.model.startswith(HUB) else {}
    return identity


def views_settings(views: Views, seed: int) -> dict[str, object]:
    """Return what determines the pixels of views, for keys; the seed only where something is drawn."""
    settings = views.key_settings()
    return {"views": settings} if settings == PLAIN.key_settings() else {"views": settings, "seed": seed}


def shards(images: int, size: int) -> list[range]:
    """Return the images of each shard of so many."""
    return [range(start, min(start + size, images)) for start in range(0, images, size)]


def shard_keys(
    identity: dict[str, str], views: Views, seed: int, view: int, images: int, shard: int
) -> list[tuple[range, str]]:
    """Compute the keys of the store entries with a teacher's embeddings of one view, one per shard of the images.

    `identity` is all else that determines an embedding: the data's key, the teacher's `embedding_id`, versions. The key
    of a single shard does not depend on its size.
    """
    common = {"kind": "embeddings", "view": view, "precision": "fp16", **views_settings(views, seed)}
    if images <= shard:
        return [(range(images), key_of(**common, **identity))]
    return [(part, key_of(**common, images=[part.start, part.stop], **identity)) for part in shards(images, shard)]


def local_files(settings: OpenClipTeacher | ClassifierTeacher) -> list[Path]:
    """List the local files that determine the teacher, none if it is downloaded; a missing one is a `CompressError`."""
    paths = weights_files(settings.checkpoint) if settings.checkpoint else []
    if settings.source == "open_clip" and settings.model.startswith(LOCAL):
        folder = Path(expand(settings.model.removeprefix(LOCAL)))
        if not (folder / "open_clip_config.json").is_file():
            raise CompressError(f"{folder} is not an OpenCLIP folder: open_clip_config.json not found")
        weights = [] if paths else sorted(path for path in folder.iterdir() if path.suffix in OPEN_CLIP_WEIGHTS)
        if not weights and not paths:
            raise CompressError(f"{folder} has no weights: open_clip_model.safetensors not found")
        tokenizer = {path for pattern in TOKENIZER for path in folder.glob(pattern)}  # decides embeddings of prompts
        paths += [folder / "open_clip_config.json", *weights, *sorted(tokenizer)]
    elif settings.model.startswith(LOCAL):
        paths += folder_files(settings.model)
    for path in paths:
        if not path.is_file():
            raise CompressError(f"the teacher's checkpoint {path} does not exist")
    return paths


def weights_files(checkpoint: str) -> list[Path]:
    """List a weights file and, where its name is the library's own, the files beside it that describe its network."""
    path = Path(expand(checkpoint))
    beside = [path.with_name(name) for name in DESCRIPTIONS] if path.stem in DESCRIBED else []
    return [path, *(file for file in beside if file.is_file())]


def folder_files(model: str, *, weights: bool = True) -> list[Path]:
    """List the files of a timm model in a `local-dir:` folder; without a configuration, it is a `CompressError`."""
    config = local_config(model, "config.json")
    assert config
    return [config, *sorted(path for path in config.parent.iterdir() if weights and path.suffix in WEIGHTS)]
