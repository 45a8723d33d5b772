"""Tokenizers of OpenCLIP models, which never run code that comes with one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from compress.models.names import CONFIGS, LOCAL
from compress.utils.errors import CompressError


def tokenizer_of(name: str, folder: str | None = None) -> Any:
    """Load the tokenizer of a model; open_clip and transformers raise a dozen kinds of errors.

    Args:
        name: open_clip's name of the model.
        folder: The `local-dir:` folder that it was downloaded into.

    Raises:
        CompressError: the configuration asks for code of the tokenizer's own.
    """
    import open_clip

    place = folder or name
    if place.startswith(LOCAL):
        _refuse_code(Path(place.removeprefix(LOCAL)) / CONFIGS["open_clip"])
    return open_clip.get_tokenizer(name)


def _refuse_code(file: Path) -> None:
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))["model_cfg"]["text_cfg"]["tokenizer_kwargs"]
    except (OSError, ValueError, TypeError, KeyError):  # without, or open_clip says what is wrong with it
        return
    if isinstance(settings, dict) and settings.get("trust_remote_code"):
        raise CompressError(
            f"{file} asks to run code that comes with its tokenizer (`trust_remote_code`), which is never run; remove "
            "that setting, if the tokenizer works without it"
        )
