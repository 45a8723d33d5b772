"""A run for Python: its figures by variant, and its artifacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.report.io import read_results
from compress.utils.errors import UsageError

if TYPE_CHECKING:
    from compress.recipe.schema import Recipe


@dataclass(frozen=True)
class Variant:
    """One variant of a run.

    Attributes:
        id: The stage that made it.
        record: Its entry in `results.json`.
        folder: The folder of the run.
    """

    id: str
    record: Mapping[str, Any] = field(repr=False)
    folder: Path

    @property
    def top1(self) -> float:
        """Accuracy on the test images, a fraction."""
        return float(self.record["accuracy"]["top1"])

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the forward pass for one image."""
        return int(self.record["inference"]["macs"])

    def artifact(self, runtime: str) -> Path:
        """The file that `load_artifact` takes.

        Raises:
            UsageError: the run has no artifact of this variant for the runtime.
        """
        paths: dict[str, Path] = {row["runtime"]: self.folder / row["path"] for row in self.record["artifacts"]}
        if runtime not in paths:
            there = ", ".join(paths) or "none: no export stage names it"
            raise UsageError(f"{self.id} has no artifact for {runtime}; it has {there}")
        return paths[runtime]


@dataclass(frozen=True)
class Results:
    """What a run leaves: `results.json` as plain data, and the folder that it lies in.

    It stands for its folder where a path is asked for, and in a notebook it shows its chart.
    """

    folder: Path
    record: Mapping[str, Any] = field(repr=False)

    @classmethod
    def read(cls, folder: str | Path) -> Results:
        """The results of a run that is there already.

        Raises:
            UsageError: the folder is no run.
        """
        return cls(Path(folder), read_results(Path(folder)))

    @cached_property
    def variants(self) -> dict[str, Variant]:
        """The variants by the ids of their stages."""
        return {one["id"]: Variant(one["id"], one, self.folder) for one in self.record["variants"]}

    def __fspath__(self) -> str:
        return str(self.folder)

    def _repr_html_(self) -> str:
        from compress.report.notebook import notebook_html
        from compress.results import RunRecord

        return notebook_html(RunRecord.model_validate(self.record))


def run(
    recipe: Recipe | str | Path, runs: str | Path = "runs", *, overrides: Sequence[str] = (), fresh: bool = False
) -> Results:
    """Run a recipe, as `compress-model run` does.

    Args:
        recipe: A recipe, the file of one, or the name of a shipped one.
        runs: Folder of all runs and of the store that they share.
        overrides: `a.b.c=value` texts; for a recipe that is not read yet.
        fresh: Take nothing that an earlier run stored.

    Raises:
        UsageError: the recipe is wrong.
        CompressError: a stage failed; what was finished before it stays in the store.
    """
    from compress.pipeline.runner import run as run_recipe
    from compress.recipe.load import load_recipe

    if isinstance(recipe, str | Path):
        recipe = load_recipe(recipe, overrides)
    elif overrides:
        raise UsageError("overrides are for a recipe that is not read yet: give its file or its name")
    return Results.read(run_recipe(recipe, Path(runs), fresh=fresh))
