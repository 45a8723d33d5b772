"""The base of every kind of stage: one class declares all that the rest of the package must know about a kind.

A new kind is a module with a subclass of `StageKind` and one line in `compress.registry.STAGES`; a plugin brings one
with `compress.plugins.stage`. The code that makes the variant is imported when it runs. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from compress.recipe.fit import Fit
from compress.recipe.graph import teacher_of
from compress.recipe.models import Pretraining, Student
from compress.recipe.stage import NETWORK, StageSection
from compress.registry import load_entry
from compress.stages.planned import PlannedStage, Planner
from compress.utils.errors import CompressError
from compress.utils.hashing import file_digest

if TYPE_CHECKING:
    from compress.data.prepared import ImageData
    from compress.recipe.schema import Recipe
    from compress.stages.context import StageContext
    from compress.stages.costs import Cost, CostModel

Maker = Callable[["StageContext", PlannedStage, Path], None]

MODEL_PACKAGES = ("torch", "torchvision", "timm")
FIT_PACKAGES = (*MODEL_PACKAGES, "lightning")
IDENTITY = ("id", "from_", "published", "verify")
"""Keys that change no result."""


class StageKind(StageSection):
    """A kind of stage.

    Attributes:
        maker: `module:function` that makes the variant: `(context, planned, folder)`, filling `folder`.
        fit_label: What the training ledger calls the training of this stage.
        pruner: Whether `compress-model list pruners` has it.
        control: Whether it is the control of the variant that it starts from, with which the report compares it.
        continues_ledger: Whether its training compute includes its parent's.
        lineage: How the report's lineage says that a variant was made.
        tag: Tag of the model card for variants that went through it.
    """

    maker: ClassVar[str]
    fit_label: ClassVar[str] = "student"
    pruner: ClassVar[bool] = False
    control: ClassVar[bool] = False
    continues_ledger: ClassVar[bool] = False
    lineage: ClassVar[str] = ""
    tag: ClassVar[str | None] = None

    def progress(self) -> str:
        """Return what the stage does, for the line that announces it."""
        return f"{self.kind} {', '.join(self.parents())}".strip()

    def load_maker(self) -> Maker:
        """Import the function that makes the variant."""
        return cast(Maker, load_entry(self.maker))

    # --- its key ------------------------------------------------------------------------------------------------------

    def plan(self, planner: Planner) -> list[PlannedStage]:
        """Return the entries of the store that the stage makes, with their keys.

        Raises:
            CompressError: local weights that the stage names are missing.
        """
        parent = next(iter(self.parents()), None)
        ancestor = teacher_of(planner.recipe, self.id)
        teacher = ancestor.id if ancestor else None
        starts = (parent, teacher if self.learns_from_ancestor() else None)
        key = planner.key(
            self.key_settings(planner.recipe), self.packages(), [planner.planned[name].key for name in starts if name]
        )
        return [PlannedStage(self.id, self, key, parent, teacher)]

    def key_settings(self, recipe: Recipe) -> dict[str, Any]:
        """Return the settings that determine the result, as plain data."""
        nested: Any = {**dict.fromkeys(IDENTITY, True), "repair": {"verify"}, "training": {"verify"}}
        settings = self.model_dump(mode="json", exclude=nested)
        own = settings.get("seed")  # the recipe's own seed, written out, makes the same
        seed = recipe.seed if own in (None, recipe.seed) else [recipe.seed, own]
        fit = recipe.trainer.model_dump(include={"devices", "num_nodes", "precision"})
        return {**settings, "views": recipe.data.views.model_dump(), "fit": fit, "seed": seed}

    def packages(self) -> tuple[str, ...]:
        """Return the packages whose versions enter the key."""
        return FIT_PACKAGES

    def learns_from_ancestor(self) -> bool:
        """Return whether the teacher that the stage descends from, and does not name, determines its result."""
        return False

    @property
    def precision(self) -> str:
        """Precision of what the stage makes."""
        return "fp32"

    @property
    def allowed_loss(self) -> float | None:
        """Validation accuracy that a file may lose to be chosen for its speed; None where no file is chosen."""
        return None

    # --- before it runs -----------------------------------------------------------------------------------------------

    def runtimes_used(self) -> tuple[str, ...]:
        """Return the runtimes that must be installed."""
        return ()

    def require(self) -> None:
        """Check that optional packages other than runtimes are installed.

        Raises:
            CompressError: one is missing; the message has the command that adds it.
        """

    def check_data(self, data: ImageData) -> None:
        """Check that the prepared data has what the stage takes from it.

        Raises:
            UsageError: it has not.
        """

    def cost(self, planned: PlannedStage, costs: CostModel) -> Cost:
        """Return the multiply-accumulates and seconds to expect."""
        raise NotImplementedError

    def joined_by_devices(self) -> bool:
        """Return whether further processes of a fit on several devices take part in the stage."""
        return any(fit.epochs > 0 for _, fit in self.fits())

    # --- after it ran -------------------------------------------------------------------------------------------------

    def as_origin(self) -> NetworkStage | None:
        """Return the stage itself where it creates a network, None where it works on its parent's."""
        return None

    def pretraining(self) -> Pretraining | None:
        """Return what is stated of the training of a teacher's own weights."""
        return None


class NetworkStage(StageKind, Fit):
    """A stage that creates a student and trains it."""

    student: Student

    maker: ClassVar[str] = "compress.stages.fitting:make_network"
    makes: ClassVar[frozenset[str]] = frozenset({NETWORK})
    named_sections: ClassVar[tuple[str, ...]] = ("student",)

    def as_origin(self) -> NetworkStage:
        return self

    def fits(self) -> Iterator[tuple[str | None, Fit]]:
        yield None, self

    def problems(self, recipe: Recipe) -> Iterator[tuple[str, str]]:
        yield from student_problems(self.student)

    def key_settings(self, recipe: Recipe) -> dict[str, Any]:
        settings = super().key_settings(recipe)
        if self.student.checkpoint:  # the content of the file counts, not where it lies
            settings["student"]["checkpoint"] = self._checkpoint_digest(self.student.checkpoint)
        return settings

    def cost(self, planned: PlannedStage, costs: CostModel) -> Cost:
        return costs.fit(planned, self)

    def _checkpoint_digest(self, path: str) -> str:
        try:
            return file_digest(Path(path))
        except OSError as error:
            raise CompressError(f"stage {self.id}: no checkpoint {path}; correct `student.checkpoint`") from error


SET_ELSEWHERE = frozenset(
    {
        *("num_classes", "img_size", "pretrained", "weights"),
        *("checkpoint_path", "cache_dir", "pretrained_cfg", "pretrained_cfg_overlay"),  # files and addresses, to timm
    }
)
"""Keyword arguments of model factories that the recipe sets by keys of its own."""


def student_problems(student: Student) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a student as a whole."""
    if student.pretrained and student.checkpoint:
        yield "student", "starts from `pretrained` or `checkpoint`, not both"
    if taken := sorted(SET_ELSEWHERE & student.options.keys()):
        yield "student", f"`options` may not set {', '.join(taken)}: the recipe has keys of its own for them"


def kind_of(stage: StageSection) -> StageKind:
    """Return a stage of a recipe as its kind; every registered section is one."""
    assert isinstance(stage, StageKind)
    return stage
