"""Names of the models and published weights of the installed libraries, cached so that checks need not load them."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from compress.utils.console import say
from compress.utils.hashing import file_digest, key_of
from compress.utils.json_cache import load_cache, save_cache
from compress.utils.system import cache_folder, version_of

PACKAGES = {"timm": "timm", "torchvision": "torchvision", "open_clip": "open_clip_torch"}
"""Libraries by the name that they are imported by, with the distribution that has their version."""
SECTION = "models"


@dataclass(frozen=True)
class Catalog:
    """Names of one library."""

    tags: dict[str, list[str]]  # tags of the published weights of each model
    aliases: dict[str, str]  # other names: timm's deprecated ones, and torchvision's classes of weights


def catalog(library: str) -> Catalog | None:
    """List the models of `timm`, `torchvision` or `open_clip`; None if the library is not installed or broken.

    A library that is loaded is asked itself, and then has the models that plugins registered. Otherwise the list of the
    installed version is read from the user's cache, or made in a process of its own: loading a library takes seconds.
    """
    if library in sys.modules:
        return _listed(library, _registered(library))
    return _cached(library)


def cache_file(library: str, what: str) -> Path | None:
    """Return the file in the user's cache for something about the installed version of a library; it may not exist."""
    folder = cache_folder()
    return folder / f"{what}-{library}-{version_of(PACKAGES[library])}-{_own_sources()}.json" if folder else None


@cache
def _own_sources() -> str:
    """Return a digest of this package's modules of models, which register some and word what is wrong with others."""
    return key_of(sources={path.name: file_digest(path) for path in Path(__file__).parent.glob("*.py")})[:8]


def run_python(call: str, *arguments: str) -> Any:
    """Call a function, as `module:function`, with texts in a process of its own; return the JSON that it prints last.

    None if it fails. What else it prints, as libraries do while they load, is dropped.
    """
    module, _, function = call.partition(":")
    code = f"import sys; sys.path.append(sys.argv[1]); import {module} as m; m.{function}(*sys.argv[2:])"
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run([sys.executable, "-P", "-c", code, root, *arguments], capture_output=True)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def print_catalog(library: str) -> None:
    """Load `library` and print its catalog as JSON."""
    print(json.dumps(asdict(_listed(library, 0))))


@cache
def _cached(library: str) -> Catalog | None:
    version = version_of(PACKAGES[library])
    if version is None:
        return None
    file = cache_file(library, "models")
    names = load_cache(file, SECTION, "models are listed again")
    if not names:
        say(f"listing the models of {library} {version}, once, to check names")
        names = run_python(f"{__name__}:print_catalog", library)
        if not names:  # building the model will say what is wrong with the library
            return None
        save_cache(file, SECTION, names)
    return Catalog(**names)


@cache
def _listed(library: str, registered: int) -> Catalog:
    """List the models of a library that is loaded; `registered` changes with their names, as plugins add some."""
    return {"timm": _timm, "torchvision": _torchvision, "open_clip": _open_clip}[library]()


def _registered(library: str) -> int:
    """Return a hash of the names that are registered now."""
    if library == "timm":
        return hash(frozenset(importlib.import_module("timm.models._registry")._model_entrypoints))
    return (
        hash(frozenset(importlib.import_module("torchvision.models").list_models())) if library == "torchvision" else 0
    )


def _timm() -> Catalog:
    import timm

    import compress.models.cifar_mobilenets
    import compress.models.cifar_resnets  # noqa: F401, these register models with timm

    tags: dict[str, list[str]] = {}
    for name in timm.list_models(include_tags=True):
        model, _, tag = name.partition(".")
        tags.setdefault(model, []).extend([tag] if tag else [])
    return Catalog(tags, {old: new for old, new in timm.models.get_deprecated_models().items() if new})


def _torchvision() -> Catalog:
    from torchvision import models

    own = models.list_models(module=models)
    # Its other models, of torchvision.models.detection and the like, are no classifiers.
    others = set(models.list_models()) - set(own)
    own += sorted(name for name in others if not models.get_model_builder(name).__module__.startswith("torchvision."))
    tags: dict[str, list[str]] = {}
    aliases: dict[str, str] = {}
    for name in own:
        try:
            weights = models.get_model_weights(name)
        except ValueError:  # a plugin's builder may have none
            tags[name] = []
            continue
        tags[name] = [member.name for member in weights]
        aliases[weights.__name__] = name
    return Catalog(tags, aliases)


def _open_clip() -> Catalog:
    import open_clip

    models = open_clip.list_models()
    return Catalog({name: open_clip.list_pretrained_tags_by_model(name) for name in models}, {})
