"""A run from Python: its results by variant, and its artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from compress.results.read import read_run
from compress.results.run import RunRecord
from compress.results.variant import Variant
from compress.utils.errors import UsageError
from compress.utils.precision import file_name
from compress.utils.processes import end_if_imported_by_worker

if TYPE_CHECKING:
    from compress.recipe.schema import Recipe


@dataclass(frozen=True)
class VariantResults:
    """Results of one variant.

    Attributes:
        record: The variant's entry in `results.json`.
        folder: Folder of the run.
    """

    record: Variant = field(repr=False)
    folder: Path

    @property
    def id(self) -> str:
        """Id of the stage that made it."""
        return self.record.id

    @property
    def top1(self) -> float:
        """Top-1 accuracy on the test split, a fraction."""
        return self.record.accuracy.top1

    @property
    def macs(self) -> int:
        """Multiply-accumulates per image."""
        return self.record.inference.macs

    def artifact(self, runtime: str, precision: str | None = None) -> Path:
        """Path of the artifact for a runtime, for `load_artifact`.

        Args:
            runtime: Name of the runtime.
            precision: fp16 or bf16 for a file in half precision; None for the other one, or the only one.

        Raises:
            UsageError: the run has no artifact of this variant for the runtime.
        """
        files = self.record.artifacts
        paths = {file_name(file.runtime, file.precision): self.folder / file.path for file in files}
        own = [file for file in files if file.runtime == runtime]
        name = file_name(runtime, own[0].precision if precision is None and len(own) == 1 else precision)
        if name not in paths:
            available = (
                f"it has {', '.join(paths)}" if paths else "none was exported; add an export stage to the recipe"
            )
            raise UsageError(f"{self.id} has no artifact for {name}; {available}")
        return paths[name]


@dataclass(frozen=True)
class RunResults:
    """Results of a run, and the folder that they lie in.

    Usable as a path, which is that of the folder. In a notebook it shows its charts.

    Attributes:
        folder: Folder of the run.
        record: Everything in `results.json`.
    """

    folder: Path
    record: RunRecord = field(repr=False)

    @classmethod
    def read(cls, folder: str | Path) -> RunResults:
        """Read the results of a finished run.

        Raises:
            UsageError: the folder is not that of a finished run, or its results are of another version.
        """
        return cls(Path(folder), read_run(Path(folder)))

    @cached_property
    def variants(self) -> dict[str, VariantResults]:
        """Variants by the id of the stage that made them."""
        return {variant.id: VariantResults(variant, self.folder) for variant in self.record.variants}

    def __fspath__(self) -> str:
        return str(self.folder)

    def _repr_html_(self) -> str:
        from compress.report.notebook import notebook_html

        return notebook_html(self.record)


def run(
    recipe: Recipe | str | Path, runs: str | Path = "runs", *, overrides: Sequence[str] = (), fresh: bool = False
) -> RunResults | None:
    """Run a recipe, as `compress-model run` does.

    Args:
        recipe: A recipe, its file, or the name of a shipped one.
        runs: Folder of all runs and of the store that they share, or its URL (`s3://`, `gs://`, `az://`).
        overrides: `a.b.c=value` texts, or a single one, for a recipe given by file or name.
        fresh: Take nothing from the store.

    Returns:
        The results; None in a further process of a run on several devices, which only joins its trainings.

    Raises:
        UsageError: the recipe is wrong.
        CompressError: a stage failed; finished stages stay in the store.
    """
    end_if_imported_by_worker()  # before anything is imported, as torch starts processes of its own
    from compress.pipeline.distributed import explain_errors_after_follower
    from compress.pipeline.runner import run as run_recipe
    from compress.recipe.load import load_recipe
    from compress.store.origin import local_runs

    command = _call(recipe, overrides, fresh)
    if isinstance(recipe, str | Path):
        recipe = load_recipe(recipe, overrides)
    elif overrides:
        raise UsageError("overrides need a recipe that is not loaded yet; pass its file or name")
    finished = run_recipe(recipe, local_runs(runs), fresh=fresh, command=command)
    if finished is None:
        explain_errors_after_follower()
        return None
    return RunResults(finished.folder, finished.record)


def _call(recipe: Recipe | str | Path, overrides: Sequence[str], fresh: bool) -> str:
    """Write the call down as its caller would."""
    given = repr(str(recipe)) if isinstance(recipe, str | Path) else "recipe"
    texts = [overrides] if isinstance(overrides, str) else list(overrides)
    changes = f", overrides={texts!r}" if texts else ""
    return f"compress.run({given}{changes}{', fresh=True' if fresh else ''})"
