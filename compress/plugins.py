"""Own Python beside the package: models, losses, kinds of stage, runtimes and sources that recipes can then name.

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
from typing import TYPE_CHECKING, TypeVar

from compress.registry import PLUGIN_LOSSES, RUNTIMES, SOURCES, STAGES, RuntimeEntry, load_entry
from compress.utils.errors import UsageError, first_line
from compress.utils.hashing import file_digest, key_of
from compress.utils.imported_code import own_code

if TYPE_CHECKING:
    from torch import Tensor

    from compress.deployment.runtime import Runtime
    from compress.recipe.stage import StageSection

K = TypeVar("K", bound="StageSection")
GROUP = "compress.plugins"
VARIABLE = "COMPRESS_PLUGINS"  # names the plugins, a line each, for the processes that a run starts
HERE = ""  # on the path of modules, the working directory
SEPARATOR = "\n"  # a name may have a colon

_DIGESTS: dict[str, str] = {}


def loss(name: str) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Register a function as the loss `own: {NAME: ...}` of a recipe.

    The function takes the student's logits `[b, classes]`, the teacher's logits `[b, classes]` and the labels int64
    `[b]` (-1 for images without a label), then the recipe's `options` by keyword, and returns the mean over images, a
    scalar. It is called with logits in float32, outside autocast. A loss that needs more than logits is a class of its
    own, named in `compress.registry.LOSSES`.
    """

    def register(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        full_precision = load_entry("compress.training.losses.common:full_precision")
        PLUGIN_LOSSES[name] = full_precision(function)
        return function

    return register


def stage(section: type[K]) -> type[K]:
    """Register a subclass of `compress.stages.kind.StageKind` as the kind of stage that its `kind` names.

    A class that is defined again, as in a notebook cell that runs twice, replaces its older self.

    Raises:
        UsageError: another kind has this name.
    """
    name = section.kind_name()
    known = STAGES.get(name)
    if known and (isinstance(known, str) or _defined_as(known) != _defined_as(section)):
        raise UsageError(f"there is a kind of stage {name!r} already; give {section.__name__}.kind another name")
    STAGES[name] = section
    return section


def _defined_as(section: type[StageSection]) -> tuple[str, str]:
    return section.__module__, section.__qualname__


def runtime(name: str, runtime_class: type[Runtime]) -> None:
    """Register a subclass of `compress.deployment.runtime.Runtime` under the name that recipes use.

    Raises:
        UsageError: an ability that it must declare is missing or wrong, or a runtime of the package has this name.
    """
    load_entry("compress.deployment.runtime:check_declared")(name, runtime_class)
    if name in RUNTIMES and isinstance(RUNTIMES[name].where, str):  # a plugin may replace its own, as notebooks do
        raise UsageError(f"there is a runtime {name!r} already; give {runtime_class.__name__} another name")
    RUNTIMES[name] = RuntimeEntry(runtime_class, runtime_class.reads)


def source(name: str, entry: str) -> None:
    """Register a data source, `data: {source: NAME}` of a recipe.

    Raises:
        UsageError: a source of the package has this name.
    """
    if SOURCES.get(name, entry) != entry and SOURCES[name].startswith("compress."):
        raise UsageError(f"there is a data source {name!r} already; give it another name")
    SOURCES[name] = entry


def load(plugins: Iterable[str]) -> None:
    """Import plugins, each once: files that end in `.py`, or names of modules.

    Raises:
        UsageError: there is no such file or module, or it fails while it is imported.
    """
    for plugin in plugins:
        if plugin not in _DIGESTS:
            if HERE not in sys.path:
                sys.path.append(HERE)  # last: no file of the user's takes the place of a package
            module = _imported(plugin)
            if not module.__file__:  # without code there is no digest for the keys of the store
                raise UsageError(f"--plugin {plugin} is a folder without an __init__.py; name a file that ends in .py")
            code = sorted(map(file_digest, own_code(module.__name__, Path(module.__file__))))
            _DIGESTS[plugin] = code[0] if len(code) == 1 else key_of(files=code)
    os.environ[VARIABLE] = SEPARATOR.join(_DIGESTS)


def load_installed() -> None:
    """Import the plugins of installed packages, and those of the process that started this one."""
    load(filter(None, os.environ.get(VARIABLE, "").split(SEPARATOR)))
    load(entry.value for entry in entry_points(group=GROUP))


def digests() -> list[str]:
    """Digest of the code of all plugins that were imported."""
    return sorted(_DIGESTS.values())


def _imported(plugin: str) -> ModuleType:
    try:
        if not plugin.endswith(".py"):
            return importlib.import_module(plugin)
        path = Path(plugin).resolve()
        if not path.is_file():
            raise UsageError(f"--plugin {plugin}: there is no such file")
        name = f"compress_plugin_{path.stem}_{key_of(path=str(path))[:8]}"  # two folders may have a `stage.py` each
        spec = importlib.util.spec_from_file_location(name, path)
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
