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
        *("num_classes", "img_size", "image_size", "input_size", "pretrained", "weights"),
        *("checkpoint_path", "cache_dir", "pretrained_cfg", "pretrained_cfg_overlay"),  # timm: files and addresses
    }
)
"""Keyword arguments of model factories that `options` must not set."""
CALL = "compress.models.model_options:option_problem"
SECTION = "options"


def model_problems(
    library: str, name: str, options: Mapping[str, Option] | None = None, *, weights: bool = True
) -> Iterator[str]:
    """Yield what is wrong with a model of timm, torchvision or open_clip, as far as its names say.

    Args:
        library: `timm`, `torchvision` or `open_clip`.
        name: Name of the model, with or without a tag.
        options: Extra keyword arguments for its builder.
        weights: Whether weights are loaded, published or own ones.
    """
    problem = name_problem(library, name)
    if problem:
        yield problem
    elif not weights and (tag := weights_tag(library, name)):
        yield f"names the weights {tag!r}, which are not loaded; set `pretrained: true`, or remove the tag"
    if reserved := sorted(RESERVED_OPTIONS & (options or {}).keys()):
        yield f"`options` must not set {join_words(reserved, 'and')}, which the recipe controls; remove it"
    elif options and not problem:
        loaded = library in sys.modules or name.startswith(WITH_WEIGHTS)
        check = _option_problem if loaded else _cached_problem
        if refused := check(library, name, json.dumps(dict(sorted(options.items())))):
            yield refused


@cache
def _option_problem(library: str, name: str, options: str) -> str:
    return str(load_entry(CALL)(library, name, options))


@cache
def _cached_problem(library: str, name: str, options: str) -> str:
    """Ask a process that loads the library, once for a version of it."""
    file = cache_file(library, SECTION)
    known, key = load_cache(file, SECTION, "options are checked again"), key_of(name=name, options=options)
    if key not in known:
        found = run_python("compress.models.model_options:print_option_problem", library, name, options)
        if found is None:  # building the model will say what is wrong with the library
            return ""
        known[key] = found
        save_cache(file, SECTION, known)
    return str(known[key])
