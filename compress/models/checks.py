"""Checks of the names and options of models before anything is loaded or decoded. Imports no torch."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from functools import cache

from compress.models.catalog import cache_file, run_python
from compress.models.names import WITH_WEIGHTS, name_problem, weights_tag
from compress.recipe.models import Option
from compress.registry import load_entry
from compress.utils.hashing import key_of
from compress.utils.json_cache import load_cache, save_cache
from compress.utils.messages import join_words

RESERVED_OPTIONS = frozenset(
    {
        *("num_classes", "img_size", "image_size", "input_size", "pretrained", "weights", "aux_logits"),
        *("checkpoint_path", "cache_dir", "pretrained_cfg", "pretrained_cfg_overlay"),  # timm: files and addresses
    }
)
"""Keyword arguments of model factories that `options` must not set."""
MODULE = "compress.models.model_options"
SECTION = "structures"


def model_problems(
    library: str,
    name: str,
    options: Mapping[str, Option] | None = None,
    *,
    weights: bool = True,
    features: bool = False,
) -> Iterator[str]:
    """Yield what is wrong with a model of timm, torchvision or open_clip, as far as its names say.

    Args:
        library: `timm`, `torchvision` or `open_clip`.
        name: Name of the model, with or without a tag.
        options: Extra keyword arguments for its builder.
        weights: Whether weights are loaded, published or own ones.
        features: Whether a loss reads what its classifier maps to logits.
    """
    problem = name_problem(library, name)
    if problem:
        yield problem
    elif not weights and (tag := weights_tag(library, name)):
        yield f"names the weights {tag!r}, which are not loaded; set `pretrained: true`, or remove the tag"
    if reserved := sorted(RESERVED_OPTIONS & (options or {}).keys()):
        yield f"`options` must not set {join_words(reserved, 'and')}, which the recipe controls; remove it"
    elif (options or features) and not problem:
        structure = _structure_of(library, name, options)
        yield from filter(None, (structure["options"], structure["features"] if features else ""))


def has_batch_norm(library: str, name: str, options: Mapping[str, Option] | None = None) -> bool:
    """Return whether a model of timm or torchvision has batch norm; False for one that cannot be built."""
    if name_problem(library, name) or RESERVED_OPTIONS & (options or {}).keys():
        return False
    return bool(_structure_of(library, name, options)["batch_norm"])


def _structure_of(library: str, name: str, options: Mapping[str, Option] | None) -> dict[str, str]:
    loaded = library in sys.modules or name.startswith(WITH_WEIGHTS)
    ask = _structure if loaded else _cached_structure
    return ask(library, name, json.dumps(dict(sorted((options or {}).items()))))


@cache
def _structure(library: str, name: str, options: str) -> dict[str, str]:
    found: dict[str, str] = load_entry(f"{MODULE}:structure_problems")(library, name, options)
    return found


@cache
def _cached_structure(library: str, name: str, options: str) -> dict[str, str]:
    """Ask a process that loads the library, once for a version of it."""
    file = cache_file(library, "structures")
    known, key = load_cache(file, SECTION, "models are checked again"), key_of(name=name, options=options)
    if key not in known:
        found = run_python(f"{MODULE}:print_structure_problems", library, name, options)
        if found is None:  # building the model will say what is wrong with the library
            return {"options": "", "features": "", "batch_norm": ""}
        known[key] = found
        save_cache(file, SECTION, {key: found})
    return dict(known[key])
