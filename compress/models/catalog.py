"""Names of the models and published weights of the installed libraries, cached so that checks need not load them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from compress.utils.console import say
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
    return _listed(library) if library in sys.modules else _cached(library)


@cache
def _cached(library: str) -> Catalog | None:
    version, folder = version_of(PACKAGES[library]), cache_folder()
    if version is None:
        return None
    file = folder / f"{library}-{version}.json" if folder else None
    names = load_cache(file, SECTION, "models are listed again")
    if not names:
        say(f"listing the models of {library} {version} for checks of names")
        names = _listed_elsewhere(library)
        if not names:
            return None
        save_cache(file, SECTION, names)
    return Catalog(**names)


def _listed_elsewhere(library: str) -> dict[str, dict[str, object]]:
    code = f"from compress.models import catalog; catalog.print_catalog({library!r})"
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.path.append({root!r}); {code}"], capture_output=True)
    # A library may print as it loads; the list is the last line. Without one, building the model says what is wrong.
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}


def print_catalog(library: str) -> None:
    """Load `library` and print its catalog as JSON."""
    print(json.dumps(asdict(_listed(library))))


def _listed(library: str) -> Catalog:
    return {"timm": _timm, "torchvision": _torchvision, "open_clip": _open_clip}[library]()


def _timm() -> Catalog:
    import timm

    tags: dict[str, list[str]] = {}
    for name in timm.list_models(include_tags=True):
        model, _, tag = name.partition(".")
        tags.setdefault(model, []).extend([tag] if tag else [])
    removed_or_renamed = timm.models.get_deprecated_models()
    return Catalog(tags, {old: new for old, new in removed_or_renamed.items() if new})


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
