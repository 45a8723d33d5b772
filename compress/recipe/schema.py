"""The recipe schema. Plain data: nothing here imports torch or runs code that a recipe names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from compress.recipe.base import Identifier, Section
from compress.recipe.measure import Measure
from compress.recipe.sources import Data, source_sections
from compress.recipe.stage import AnyStage, StageSection
from compress.recipe.worth import Worth
from compress.registry import SOURCES, STAGES

RESERVED = ("store", "sweeps")
"""Folders of `runs/` that are not of a recipe."""


def _not_reserved(name: str) -> str:
    if name.lower() in RESERVED:
        raise ValueError(f"'{name}' is reserved for runs/{name.lower()}; choose another name")
    return name


def _all_devices(devices: object) -> object:
    """Replace the -1 that Lightning takes for all devices."""
    return "auto" if devices == -1 else devices


def _possible_devices(devices: int | list[int] | str) -> int | list[int] | str:
    if isinstance(devices, int) and devices < 1:
        raise ValueError(f"must be 1 or more, or -1 or 'auto' for all, not {devices}")
    if isinstance(devices, list) and (not devices or min(devices) < 0):
        raise ValueError(f"must name GPUs by their numbers, from 0, not {devices}")
    return devices


class Trainer(Section):
    """Device and number format; what is not described here is an argument of Lightning's Trainer."""

    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "xpu"] = Field(
        "auto",
        description="device of fits, embeddings, evaluation and calibration; auto: the first GPU that torch finds, "
        "else the CPU",
    )
    devices: Annotated[
        int | list[int] | Literal["auto"], BeforeValidator(_all_devices), AfterValidator(_possible_devices)
    ] = Field(1, description="how many, or the numbers of GPUs; auto or -1: all GPUs, or the CPU")
    num_nodes: int = Field(1, ge=1)
    strategy: str = "auto"
    precision: Literal["32-true", "16-mixed", "bf16-mixed", "auto"] = Field(
        "32-true",
        description="number format of training; auto: FP32, or bf16 or another memory layout where a short timing on "
        "this machine shows that it is at least 1.25 times as fast",
    )
    tf32: bool = Field(True, description="allow TF32 in training steps on NVIDIA GPUs; evaluation is always in FP32")
    benchmark: bool = Field(
        False, description="let cuDNN time its algorithms in fits; faster for fixed sizes, but not reproducible"
    )
    deterministic: bool = Field(
        False, description="fits on a GPU give the same bits each time, more slowly; those on a CPU always do"
    )

    def key_settings(self) -> dict[str, Any]:
        """Return what the result of a fit depends on; settings added later are left out at their defaults."""
        always = self.model_dump(include={"devices", "num_nodes", "precision"})
        return always | self.model_dump(include={"tf32", "benchmark", "deterministic"}, exclude_defaults=True)

    @property
    def several_processes(self) -> bool:
        """Whether training may run in more than one process."""
        return self.devices == "auto" or self.least_processes > 1

    @property
    def least_processes(self) -> int:
        """Number of training processes, as far as the recipe says it."""
        named = self.devices if isinstance(self.devices, int) else len(self.devices) if self.devices != "auto" else 1
        return named * self.num_nodes


class Recipe(Section, defer_build=True):
    """A resolved recipe: config names are replaced by the sections they stand for."""

    name: Annotated[Identifier, AfterValidator(_not_reserved)] = Field(
        description="name of the folder of its runs; default: the file's name"
    )
    description: str = Field("", description="free text")
    seed: int = Field(0, ge=0, lt=2**31, description="random seed")
    allow: list[Literal["test-selection", "overlap"]] = Field(
        [], description="checks to waive: checkpoint selection on test, test images in other splits"
    )
    data: Data
    trainer: Trainer = Trainer()
    stages: list[Annotated[StageSection, AnyStage()]] = Field(min_length=1, max_length=1000)
    measure: Measure = Measure()
    worth: Worth

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
        """Read a recipe; see `compress.recipe.load.load_recipe`."""
        from compress.recipe.load import load_recipe

        return load_recipe(path, overrides)

    def resolved(self) -> dict[str, Any]:
        """Return the recipe as plain data, every default written out."""
        return self.model_dump(mode="json", by_alias=True)


_built_from = (tuple(STAGES.items()), tuple(SOURCES.items()))


def recipe_model() -> type[Recipe]:
    """Return `Recipe`, with the kinds of stage and the data sources that plugins have registered since it was built."""
    global _built_from
    registered = (tuple(STAGES.items()), tuple(SOURCES.items()))  # a module that is imported anew has other classes
    if _built_from != registered:
        Recipe.model_fields["data"].annotation = source_sections()
        Recipe.model_rebuild(force=True)
        _built_from = registered
    return Recipe
