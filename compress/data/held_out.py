"""Classes that are held out: their labelled images are in no split that anything learns from or is chosen on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from compress.data.source import Labels, Part
from compress.recipe.data import DataSection
from compress.utils.errors import UsageError
from compress.utils.messages import did_you_mean, truncate_list
from compress.utils.names import same_name

MIN_CLASSES = 2


def require_class(name: str, classes: Sequence[str], where: str) -> str:
    """Return the class that a recipe names in either form of Unicode, as the source names it.

    Raises:
        UsageError: the source has no such class.
    """
    found = next((one for one in classes if same_name(one) == same_name(name)), None)
    if found is None:
        hint = did_you_mean(name, classes) or f"; classes: {truncate_list(classes)}"
        raise UsageError(f"{where}: unknown class {name!r}{hint}")
    return found


@dataclass(frozen=True)
class HeldOut:
    """The classes of a source, of which some may be held out."""

    names: tuple[str, ...]  # of all classes, in the order of the source's labels
    held: tuple[str, ...]  # of those that are held out, in the order of the recipe

    @classmethod
    def of(cls, settings: DataSection, names: Sequence[str]) -> HeldOut:
        """Return the classes of a source under the settings of a recipe.

        Raises:
            UsageError: a class that is to be held out is unknown or named twice, or too few others stay.
        """
        held = tuple(require_class(name, names, "data.held_out") for name in settings.held_out)
        if len(set(held)) < len(held):
            raise UsageError("data.held_out names a class twice; remove one")
        if held and len(names) - len(held) < MIN_CLASSES:
            raise UsageError(f"data.held_out leaves {len(names) - len(held)} of {len(names)} classes; hold out fewer")
        return cls(tuple(names), held)

    @property
    def kept(self) -> tuple[str, ...]:
        """Names of the other classes, in their order."""
        return tuple(name for name in self.names if name not in self.held)

    @property
    def kept_rows(self) -> list[int]:
        """Numbers of the other classes among all."""
        return [row for row, name in enumerate(self.names) if name not in self.held]

    def labels(self, part: Part) -> Labels:
        """Return the labels of a part as numbers of the other classes, -1 for those that are held out."""
        assert part.labels is not None, "train images of a source have labels"
        return self._numbers(self.kept)[part.labels] if self.held else part.labels

    def relabelled(self, part: Part) -> Part:
        """Return a part with the labels of `labels`."""
        return replace(part, labels=self.labels(part)) if self.held else part

    def held_out(self, part: Part) -> Part:
        """Return a part with labels as numbers of the held-out classes, -1 for others."""
        assert part.labels is not None
        return replace(part, labels=self._numbers(self.held)[part.labels])

    def _numbers(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Return the number among `names` of each class, -1 for those that are not among them."""
        return np.array([names.index(name) if name in names else -1 for name in self.names], np.int64)
