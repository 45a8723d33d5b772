"""Own Python beside the package: models, losses, runtimes and data sources that recipes can then name.

It comes from the command line (`--plugin FILE.py` or `--plugin MODULE`) or from an installed package (entry points of
the group `compress.plugins`), never from a recipe. Own models need nothing from here: timm has `register_model`.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from compress.registry import PLUGIN_LOSSES, RUNTIMES, SOURCES
from compress.utils.errors import UsageError, first_line
from compress.utils.hashing import file_digest

if TYPE_CHECKING:
    from torch import Tensor

GROUP = "compress.plugins"
VARIABLE = "COMPRESS_PLUGINS"
"""Names the plugins for the processes that a run starts."""

_DIGESTS: dict[str, str] = {}


def loss(name: str) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Register a function as the loss `own: {NAME: ...}` of a recipe.

    The function takes the student's logits `[b, classes]`, the teacher's logits `[b, classes]` and the labels int64
    `[b]` (-1 where there is none), then the recipe's `options` by keyword, and returns the mean over images, a scalar.
    """

    def register(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        PLUGIN_LOSSES[name] = function
        return function

    return register


def runtime(name: str, module: str) -> None:
    """Register a module that offers what `compress.deployment.runtimes.Runtime` lists; its own is `__name__`."""
    RUNTIMES[name] = module


def source(name: str, entry: str) -> None:
    """Register a data source, `data: {source: NAME}` of a recipe.

    Args:
        name: One of the names that the `source` of its section allows.
        entry: `module:NAME` of its `compress.data.source.Source`; a plugin's own module is `__name__`.
    """
    from compress.recipe.schema import Recipe
    from compress.recipe.sources import source_sections

    SOURCES[name] = entry
    Recipe.model_fields["data"].annotation = source_sections()
    Recipe.model_rebuild(force=True)


def load(plugins: Iterable[str]) -> None:
    """Import plugins, each once: files that end in `.py`, or names of modules.

    Raises:
        UsageError: there is no such file or module, or it fails while it is imported.
    """
    for plugin in plugins:
        if plugin not in _DIGESTS:
            module = _imported(plugin)
            _DIGESTS[plugin] = file_digest(Path(module.__file__)) if module.__file__ else ""
    os.environ[VARIABLE] = os.pathsep.join(_DIGESTS)


def load_installed() -> None:
    """Import the plugins of installed packages, and those of the process that started this one."""
    load(filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)))
    load(entry.value for entry in entry_points(group=GROUP))


def digests() -> list[str]:
    """What stands for the code of all plugins that were imported."""
    return sorted(_DIGESTS.values())


def _imported(plugin: str) -> ModuleType:
    try:
        if not plugin.endswith(".py"):
            if "" not in sys.path:
                sys.path.insert(0, "")  # as `python -m` does: modules beside the recipe are found
            return importlib.import_module(plugin)
        path = Path(plugin).resolve()
        if not path.is_file():
            raise UsageError(f"--plugin {plugin}: there is no such file")
        spec = importlib.util.spec_from_file_location(f"compress_plugin_{path.stem}", path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    except UsageError:
        raise
    except ModuleNotFoundError as error:
        raise UsageError(f"--plugin {plugin}: there is no module {error.name}") from error
    except Exception as error:  # whatever a person's own code raises
        kind = type(error).__name__
        raise UsageError(f"--plugin {plugin} fails when it is imported: {kind}: {first_line(error)}") from error
    return module
