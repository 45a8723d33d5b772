"""The text side of an OpenCLIP model: from a teacher, or from the folder that an export writes beside its artifacts.

Such a folder is one of OpenCLIP's `local-dir:`, but for the weights of the image tower: its configuration has the
smallest image tower that there is instead, as OpenCLIP builds no text tower alone.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import load_file, save

from compress.models.class_list import Array, ClassList
from compress.models.names import CONFIGS, LOCAL, WITH_WEIGHTS, expand_name
from compress.models.teachers import open_clip_model, text_embedding
from compress.models.tokenizers import tokenizer_of
from compress.recipe.models import OpenClipTeacher
from compress.utils.atomic import write_atomic
from compress.utils.errors import CompressError, UsageError, first_line
from compress.utils.messages import did_you_mean
from compress.utils.resources import config_names, shipped

CONFIG, WEIGHTS = CONFIGS["open_clip"], "text.safetensors"
IMAGE_SIDE = "visual."  # beginning of the names of the image tower's weights
SMALLEST = {"image_size": 8, "patch_size": 8, "width": 64, "layers": 1, "head_width": 64}
MIN_COSINE = 0.99  # cosine from which on two embeddings of a class are of one text tower, in whatever precision


@dataclass(frozen=True)
class TextTower:
    """A text tower and its tokenizer."""

    model: Any
    tokenizer: Any

    def embed(self, words: Sequence[str], templates: Sequence[str]) -> Array:
        """Return the embeddings float32 `[classes, width]` of classes, of length 1, each the mean of its prompts'."""
        rows = [text_embedding(self.model, self.tokenizer, each, templates) for each in words]
        return np.stack([row.float().numpy() for row in rows])

    def replace_classes(
        self, old: ClassList, names: Sequence[str], words: Sequence[str], templates: Sequence[str]
    ) -> ClassList:
        """Return a class list in place of `old`, with its logit scale and bias.

        Raises:
            UsageError: `old` was made by another text tower.
        """
        own = self.embed(old.words[:1], old.templates)
        first = old.weight[0] / np.linalg.norm(old.weight[0])
        if own.shape[1] != old.width or float(own[0] @ first) < MIN_COSINE:
            raise UsageError(
                f"this text tower gives another embedding of {old.names[0]!r} than the class list has; name the "
                "teacher that the student was distilled from"
            )
        weight = np.asarray(self.embed(words, templates) * old.scale, np.float32)
        bias = np.full(len(names), old.bias[0], np.float32)
        return ClassList(tuple(names), weight, bias, tuple(words), tuple(templates))


def text_of_teacher(settings: OpenClipTeacher) -> TextTower:
    """Load the text tower of a teacher; raises as `load_teacher`."""
    return TextTower(*open_clip_model(settings))


def write_text(settings: OpenClipTeacher, folder: Path) -> None:
    """Write the text tower of a teacher into `folder`, for `load_text`.

    Raises:
        CompressError: the teacher cannot be loaded, or its tokenizer comes from the hub and cannot be written.
    """
    import open_clip

    model, tokenizer = open_clip_model(settings)
    config = open_clip.get_model_config(expand_name(settings.model))
    config = {**config, "vision_cfg": SMALLEST}
    folder.mkdir(parents=True, exist_ok=True)
    if config.get("text_cfg", {}).get("hf_tokenizer_name"):
        tokenizer.tokenizer.save_pretrained(folder)
    elif not isinstance(tokenizer, open_clip.SimpleTokenizer):
        kind = type(tokenizer).__name__
        raise CompressError(f"the tokenizer of {settings.model} ({kind}) cannot be written; export without `text`")
    (folder / CONFIG).write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}, indent=1))
    weights = {name: value for name, value in model.state_dict().items() if not name.startswith(IMAGE_SIDE)}
    write_atomic(folder / WEIGHTS, save({name: value.contiguous().clone() for name, value in weights.items()}))


def load_text(folder: Path) -> TextTower:
    """Load the text tower in a folder that `write_text` wrote.

    Raises:
        CompressError: the folder is not one, or is damaged.
    """
    import open_clip

    where, missing = f"{LOCAL}{folder}", [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise CompressError(
            f"{folder} is not a text tower: it has no {missing[0]}; set `text: true` in the export stage"
        )
    logging.getLogger("root").setLevel(logging.ERROR)  # open_clip logs each step there
    try:
        model = open_clip.create_model(where, load_weights=False)
        keys = model.load_state_dict(load_file(folder / WEIGHTS), strict=False)
        left = [*keys.unexpected_keys, *(name for name in keys.missing_keys if not name.startswith(IMAGE_SIDE))]
        if left:
            raise CompressError(f"{folder} is damaged: weights do not fit its configuration ({left[0]})")
        return TextTower(model.eval(), tokenizer_of(where))
    except CompressError:
        raise
    except Exception as error:  # open_clip and safetensors raise a dozen kinds
        raise CompressError(f"{folder} is damaged: {first_line(error)}; export it again") from error


def read_teacher(name: str) -> OpenClipTeacher:
    """Read a teacher that is named on the command line: a shipped one, a YAML file, or OpenCLIP's `local-dir:FOLDER`.

    Raises:
        UsageError: there is none, or it has no text tower.
    """
    import yaml

    if name.startswith(WITH_WEIGHTS):
        return OpenClipTeacher(source="open_clip", model=name)
    path = _shipped_teacher(name) if name in config_names("teachers") else Path(name)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
        return TypeAdapter(OpenClipTeacher).validate_python(values)
    except OSError as error:
        known = _with_text_tower()
        hint = did_you_mean(name, known) or f"; shipped ones: {', '.join(known)}"
        raise UsageError(f"unknown teacher {name!r}{hint}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        example = f"{_with_text_tower()[0]}.yaml"
        raise UsageError(f"{path} is not a YAML file; name the file of a teacher, such as {example}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the whole file"
        raise UsageError(
            f"{path} is not a teacher of `source: open_clip`: {key}: {first['msg']}; correct it"
        ) from error


def _shipped_teacher(name: str) -> Path:
    return shipped("configs") / "teachers" / f"{name}.yaml"


def _with_text_tower() -> list[str]:
    """Return the names of the shipped teachers that `read_teacher` takes."""
    names = config_names("teachers")
    return [each for each in names if "source: open_clip" in _shipped_teacher(each).read_text(encoding="utf-8")]
