"""Teachers: OpenCLIP models with a zero-shot head, or classifiers with their own."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.data.preprocess import Preprocess
from compress.models.architecture import Architecture, Network
from compress.models.classifiers import ClassifierSource, StatedPreprocess, load_classifier
from compress.models.clip_classifier import vision_config
from compress.models.ensemble import EnsembleTower, Member, mean_head, shared_preprocess
from compress.models.features import FeatureTower
from compress.models.fingerprint import local_files
from compress.models.hub import fail_fast
from compress.models.hub_loader import ClipClassifier, ImageTower
from compress.models.names import HUB, LOCAL, WITH_WEIGHTS, expand_name, open_clip_preprocess
from compress.models.tokenizers import tokenizer_of
from compress.models.weights_file import load_into, read_checkpoint
from compress.recipe.data import DataSection
from compress.recipe.models import ClassifierTeacher, EnsembleTeacher, OpenClipTeacher
from compress.utils.errors import CompressError, UsageError, first_line
from compress.utils.machine_faults import is_exhausted
from compress.utils.messages import did_you_mean
from compress.utils.resources import expand
from compress.utils.user_cache import variable_of_unwritable


@dataclass(frozen=True)
class LoadedTeacher:
    """A teacher in eval mode: `tower` maps images `[b, 3, r, r]` to embeddings `[b, width]`, `head` these to logits."""

    tower: nn.Module
    head: nn.Module
    preprocess: Preprocess
    # how to build `network()` again; None for an ensemble, and for a network of a caller
    architecture: Architecture | None = None
    notes: tuple[str, ...] = ()  # what was taken of its checkpoint

    def classifier(self) -> nn.Sequential:
        """Images to logits `[batch, classes]`."""
        return nn.Sequential(self.tower, self.head).eval()

    def network(self) -> Network:
        """The teacher as a network to compress."""
        assert self.architecture
        model = self.tower
        if isinstance(self.head, nn.Linear):
            model = model.with_head(self.head) if isinstance(model, FeatureTower) else ClipClassifier(model, self.head)
        return Network(model.eval(), self.architecture)


def load_teacher(
    settings: OpenClipTeacher | ClassifierTeacher | EnsembleTeacher,
    data: DataSection,
    classes: Sequence[str],
    resolution: int,
) -> LoadedTeacher:
    """Load a teacher; `resolution` is that of the data's images, for classifiers without one of their own.

    Raises:
        CompressError: weights are missing, cannot be downloaded or are of another architecture.
        UsageError: the library does not have the model or the weights.
    """
    if isinstance(settings, EnsembleTeacher):
        return _ensemble(settings, [load_teacher(member, data, classes, resolution) for member in settings.members])
    if isinstance(settings, OpenClipTeacher):
        return _open_clip(settings, data, classes)
    return _classifier(settings, classes, resolution)


def open_clip_model(settings: OpenClipTeacher) -> tuple[Any, Any]:
    """Load an OpenCLIP model in eval mode, and its tokenizer; see `load_teacher`."""
    import open_clip

    local_files(settings)
    name, file = expand_name(settings.model), settings.checkpoint and str(Path(expand(settings.checkpoint)).absolute())
    if not name.startswith(WITH_WEIGHTS):
        _check_open_clip_name(settings)
    logging.getLogger("root").setLevel(logging.ERROR)  # open_clip logs each step there
    folder = _download(settings) or name
    separate = bool(file) and name.startswith(WITH_WEIGHTS)  # open_clip would take the folder's or hub's own weights
    try:
        with fail_fast(not file and not name.startswith(LOCAL)):
            model = open_clip.create_model(
                folder if separate else name,
                pretrained=file or settings.pretrained,
                load_weights=not separate,
                pretrained_text=False,
                require_pretrained=not separate,
                force_preprocess_cfg=None if separate or not file else published_preprocess_of(name),
            )
            if separate:
                load_into(model, read_checkpoint(Path(str(file))), str(file), new_head=False)
            tokenizer = tokenizer_of(name, folder)
    except CompressError:
        raise
    except Exception as error:  # open_clip and the hub clients raise a dozen kinds
        if is_exhausted(error):
            raise
        where = f" from {settings.checkpoint}" if settings.checkpoint else ""
        raise CompressError(f"the teacher {_label(settings)} cannot be loaded{where}: {first_line(error)}") from error
    return model.eval(), tokenizer


def published_preprocess_of(name: str) -> dict[str, Any] | None:
    """Return the preprocessing of all published weights of a model, for a checkpoint that open_clip does not know.

    None where it has none, or where they differ: open_clip then takes OpenAI's.
    """
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(name)
    stated = [open_clip.get_pretrained_cfg(name, tag) for tag in tags]
    keys = ("mean", "std", "interpolation", "resize_mode")
    found = [{key: each[key] for key in keys if each.get(key) is not None} for each in stated]
    return found[0] if found and all(each == found[0] for each in found) else None


def _download(settings: OpenClipTeacher) -> str | None:
    """Download what the teacher needs into the local cache; open_clip itself goes on without the weights of a hub.

    Returns the cached folder of a hub's repository as a `local-dir:` name, None for other models.
    """
    import open_clip

    hub = settings.model.removeprefix(HUB) if settings.model.startswith(HUB) else None
    if settings.model.startswith(LOCAL) or (settings.checkpoint and not hub):
        return None
    source = open_clip.get_pretrained_cfg(settings.model, settings.pretrained or "")
    if hub:
        source = {"hf_hub": f"{hub}/open_clip_config.json" if settings.checkpoint else f"{hub}/"}
    try:
        with fail_fast():
            file = open_clip.download_pretrained(source)
    except Exception as error:  # hub clients raise a dozen kinds
        if is_exhausted(error):
            raise
        raise CompressError(_no_weights(settings, source, error)) from error
    return f"{LOCAL}{Path(file).parent}" if hub else None


def _open_clip(settings: OpenClipTeacher, data: DataSection, classes: Sequence[str]) -> LoadedTeacher:
    import open_clip

    model, tokenizer = open_clip_model(settings)
    own = open_clip.model.get_model_preprocess_cfg(model)
    preprocess = open_clip_preprocess(settings.model, own, own["size"])
    architecture = Architecture(
        library="open_clip",
        model=settings.model,
        classes=tuple(classes),
        resolution=preprocess.resolution,
        preprocess=preprocess,
        config=vision_config(model.visual, open_clip.get_model_config(expand_name(settings.model))),
    )
    head = zero_shot_head(model, tokenizer, classes, data)
    return LoadedTeacher(ImageTower(model.visual).eval(), head, preprocess, architecture)


@torch.no_grad()
def zero_shot_head(model: Any, tokenizer: Any, classes: Sequence[str], data: DataSection) -> nn.Linear:
    """Make a linear layer from unit embeddings to logits: the mean prompt embeddings times the model's logit scale.

    The embeddings of one class's prompts are normalised, averaged and normalised again (CLIP, arXiv 2103.00020, 3.1.4).
    """
    rows = []
    for name in classes:
        rows.append(text_embedding(model, tokenizer, data.words(name), data.templates))
    weight = model.logit_scale.exp() * torch.stack(rows)
    bias = getattr(model, "logit_bias", None)
    head = nn.Linear(weight.shape[1], len(classes))
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.fill_(float(bias) if bias is not None else 0.0)
    return head.eval()


@torch.no_grad()
def text_embedding(model: Any, tokenizer: Any, words: str, templates: Sequence[str]) -> Tensor:
    """Return the embedding `[width]` of a class, of length 1: the mean of those of its prompts, normalised."""
    features = F.normalize(model.encode_text(tokenizer([template.format(words) for template in templates])), dim=-1)
    return F.normalize(features.mean(0), dim=-1)


def _check_open_clip_name(settings: OpenClipTeacher) -> None:
    import open_clip

    known = open_clip.list_models()
    if settings.model not in known:
        hint = did_you_mean(settings.model, known, most=3, limit=None)
        raise UsageError(f"open_clip has no model {settings.model!r}{hint}")
    if settings.checkpoint:
        return
    tags = open_clip.list_pretrained_tags_by_model(settings.model)
    if settings.pretrained not in tags:
        raise UsageError(
            f"open_clip has no weights {settings.pretrained!r} of {settings.model}; it has {', '.join(tags) or 'none'}"
        )


def _label(settings: OpenClipTeacher) -> str:
    return f"{settings.model} ({settings.pretrained})" if settings.pretrained else settings.model


def _no_weights(settings: OpenClipTeacher, source: Mapping[str, str], error: Exception) -> str:
    """Say that the weights, or the configuration, at `source` cannot be downloaded, and what to do."""
    hub, reason = source.get("hf_hub", "").strip("/"), first_line(error)
    if variable := variable_of_unwritable(error):
        remedy = f"set {variable} to a folder that can be written to"
        return f"the teacher {_label(settings)} cannot be stored here ({reason}); {remedy}"
    if settings.model.startswith(HUB):
        return (
            f"the teacher {_label(settings)} cannot be downloaded here ({reason}); download the repository on another "
            f"machine and name its folder: {LOCAL}FOLDER"
        )
    url = f"https://huggingface.co/{hub}/resolve/main/open_clip_model.safetensors" if hub else source.get("url", "")
    return (
        f"the weights of the teacher {_label(settings)} cannot be downloaded here ({reason}); fetch "
        f"{url or 'them'} on a machine with a network and set `checkpoint:` of the teacher to the file"
    )


def _classifier(settings: ClassifierTeacher, classes: Sequence[str], resolution: int) -> LoadedTeacher:
    probed = settings.head == "probe"  # the model's own head, whatever its classes, is not used
    source = ClassifierSource(
        library=settings.source,
        model=settings.model,
        published=settings.pretrained,
        checkpoint=settings.checkpoint,
        ema=settings.ema,
        classes=tuple(settings.classes) if settings.classes else None,
        stated=StatedPreprocess(settings.resolution),
    )
    network, notes = load_classifier(source, classes, resolution, new_head=probed)
    # It teaches by its logits: they are its embeddings, and the head does nothing.
    tower = FeatureTower(network.model, network.preprocess.resolution) if probed else network.model
    return LoadedTeacher(tower, nn.Identity(), network.preprocess, network.architecture, notes)


def _ensemble(settings: EnsembleTeacher, loaded: Sequence[LoadedTeacher]) -> LoadedTeacher:
    members = [
        Member(each.tower, None if section.head == "probe" else each.head, each.preprocess)
        for section, each in zip(settings.members, loaded, strict=True)
    ]
    tower = EnsembleTower(members, unit=settings.combine == "embeddings").eval()
    heads = [member.head for member in members if member.head]
    notes = tuple(f"member {number}: {note}" for number, each in enumerate(loaded, 1) for note in each.notes)
    if settings.head == "probe":  # fitted when the stage is made
        return LoadedTeacher(tower, nn.Identity(), shared_preprocess(members), notes=notes)
    classes = len(loaded[0].architecture.classes) if loaded[0].architecture else 0
    merged = mean_head(heads, tower.widths, classes)
    return LoadedTeacher(tower, merged, shared_preprocess(members), notes=notes)
