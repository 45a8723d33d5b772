"""Base of all stage kinds: one class declares everything that the rest of the package needs to know about a kind.

A new kind is a module with a subclass of `StageKind` and one line in `compress.registry.STAGES`; plugins register one
with `compress.plugins.stage`. The code that makes the variant is imported when it runs. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from compress.models.checks import has_batch_norm
from compress.recipe.fit import Distillation, Fit
from compress.recipe.graph import teacher_of
from compress.recipe.models import Option, Pretraining
from compress.recipe.stage import QUANTIZED, StageSection
from compress.registry import load_entry
from compress.stages.planned import PlannedStage, Planner

if TYPE_CHECKING:
    from compress.data.prepared import ImageData
    from compress.recipe.schema import Recipe
    from compress.stages.context import StageContext
    from compress.stages.costs import Cost, CostModel, NetworkCost, Use

Maker = Callable[["StageContext", PlannedStage, Path], None]

MODEL_PACKAGES = ("torch", "torchvision", "timm")
FIT_PACKAGES = (*MODEL_PACKAGES, "lightning")
IDENTITY = ("id", "from_", "published", "verify")  # keys that do not affect the result


def _for_one_step(settings: Fit) -> dict[str, object]:
    """Return the changes to training settings for one step that hardly moves the weights."""
    few = {"epochs": min(settings.epochs, 1), "batch": min(settings.batch, 4), "lr": 1e-6, "compile": False}
    chosen = {"patience": None, "select_on": "last", "on_divergence": "stop"}
    return {**few, **chosen, **({"views": 1} if isinstance(settings, Distillation) else {})}


class StageKind(StageSection):
    """A kind of stage."""

    # `module:function` that makes the variant: called with `(context, planned, folder)`, it fills `folder`
    maker: ClassVar[str]
    fit_label: ClassVar[str] = "student"  # name of its training in the training ledger
    # one line for `compress-model list pruners`; empty where it removes nothing from a network
    pruner: ClassVar[str] = ""
    brings_network: ClassVar[bool] = False  # whether it creates or loads a network, and works on no parent's
    random_weights: ClassVar[bool] = False  # whether it gives the network that it works on new random weights
    control: ClassVar[bool] = False  # whether it is a control of its parent, which the report compares it with
    continues_ledger: ClassVar[bool] = False  # whether its training compute includes its parent's
    lineage: ClassVar[str] = ""  # how the variant was made, for the lineage in the report
    remedy: ClassVar[str] = ""  # what to try where a variant lost much accuracy, for the report
    overhead: ClassVar[float] = 0.0  # seconds whatever the number of images, where no dry run has measured them
    tag: ClassVar[str | None] = None  # model card tag of variants that went through it

    def progress(self) -> str:
        """Return a short description of the work, for the console."""
        return f"{self.kind} {', '.join(self.parents())}".strip()

    def load_maker(self) -> Maker:
        """Import the function that makes the variant."""
        return cast(Maker, load_entry(self.maker))

    def library_model(self) -> tuple[str, str, dict[str, Option]] | None:
        """Return library, name and options of the network that it brings, if it is timm's or torchvision's."""
        return None

    def batch_norm_in(self, recipe: Recipe) -> str | None:
        origin = self.origin(recipe)
        named = origin.library_model() if origin else None
        return named[1] if named and has_batch_norm(*named) else None

    def embeds_in(self, recipe: Recipe) -> bool:
        origin = self.origin(recipe)
        return origin is not None and origin.embeds

    @property
    def embeds(self) -> bool:
        """Whether the network that it brings ends in the embedding space of a teacher."""
        return False

    def origin(self, recipe: Recipe) -> StageKind | None:
        """Return the stage that brings the network that it works on; None where the graph is wrong."""
        stages = {stage.id: stage for stage in recipe.stages}
        origin, seen = self, {self.id}
        while not origin.brings_network:
            start = origin.network_from()
            if start not in stages or start in seen:  # reported with the graph
                return None
            seen.add(start)
            origin = kind_of(stages[start])
        return origin

    # --- store key ----------------------------------------------------------------------------------------------------

    def plan(self, planner: Planner) -> list[PlannedStage]:
        """Return the store entries that the stage makes, with their keys.

        Raises:
            CompressError: local weights of the stage cannot be read.
        """
        parent = next(iter(self.parents()), None)
        ancestor = teacher_of(planner.recipe, self.id)
        teacher = ancestor.id if ancestor else None
        starts = (parent, teacher if self.learns_from_ancestor() else None)
        parents = [planner.planned[name].key for name in starts if name]
        key = planner.key(self.key_settings(planner.recipe), self.packages(), parents)
        return [PlannedStage(self.id, self, key, parent, teacher)]

    def key_settings(self, recipe: Recipe) -> dict[str, Any]:
        """Return the settings that determine the result, as JSON data."""
        nested: Any = {**dict.fromkeys(IDENTITY, True), "repair": {"verify"}, "training": {"verify"}}
        settings = self.model_dump(mode="json", exclude=nested)
        data, own = recipe.data, settings.get("seed")  # the recipe's seed written out gives the same result
        seed = recipe.seed if own in (None, recipe.seed) else [recipe.seed, own]
        if not self.uses_trainer():
            return {**settings, "seed": seed}
        # under a name of their own: `views` of a distillation is a number of them
        images = {"views": data.views.key_settings(), **data.epoch_key_settings()}
        return {**settings, "seed": seed, "images": images, "fit": recipe.trainer.key_settings()}

    def uses_trainer(self) -> bool:
        """Return whether the result may depend on views and order of the train images and on the trainer."""
        return True

    def packages(self) -> tuple[str, ...]:
        """Return the packages whose versions are part of the key."""
        return FIT_PACKAGES

    def learns_from_ancestor(self) -> bool:
        """Return whether the result depends on the teacher that the stage descends from."""
        return False

    @property
    def variant_precision(self) -> str:
        """Numeric precision of the variant."""
        return "fp32"

    @property
    def is_quantized(self) -> bool:
        """Whether the network that it makes computes with integers."""
        return QUANTIZED in self.makes

    @property
    def allowed_loss(self) -> float | None:
        """Accepted accuracy loss on validation when selecting the fastest runtime; None without selection."""
        return None

    # --- before it runs -----------------------------------------------------------------------------------------------

    def runtimes_used(self) -> tuple[str, ...]:
        """Return the runtimes that must be installed."""
        return ()

    def require(self, recipe: Recipe) -> None:
        """Check that optional packages other than runtimes are installed.

        Raises:
            CompressError: one is missing; the message has the command that installs it.
        """

    def check_data(self, data: ImageData) -> None:
        """Check that the prepared data has the images that the stage needs.

        Raises:
            UsageError: a split that it needs is empty.
        """

    def for_dry_run(self) -> Self:
        """Return the stage with settings that do the same on a few images, in one training step and no repetitions."""
        changes: dict[str, object] = {}
        for name, settings in self.fits():
            if name is None:
                changes |= _for_one_step(settings)
            else:
                changes[name] = settings.model_copy(update=_for_one_step(settings))
        return self.model_copy(update=changes)

    def onnx_problem(self) -> str | None:
        """Say why it cannot start from a network that is an ONNX file, and what to do; None if it can."""
        libraries = "`source: timm`, `torchvision` or `open_clip`"
        return f"{self.kind} changes a network in PyTorch, not an ONNX file; start from its checkpoint by {libraries}"

    def cost(self, planned: PlannedStage, costs: CostModel) -> Cost:
        """Return the expected MACs and seconds."""
        raise NotImplementedError

    def profile(self, planned: PlannedStage, costs: CostModel, use: Use) -> NetworkCost:
        """Return the cost per image of the network that it brings."""
        raise NotImplementedError

    def joined_by_devices(self) -> bool:
        """Return whether all processes of a multi-device run take part in the stage."""
        return any(fit.epochs > 0 for _, fit in self.fits())

    # --- after it ran -------------------------------------------------------------------------------------------------

    def embedding_id(self, planned: PlannedStage) -> dict[str, str]:
        """Identify what determines its embeddings, where it teaches: weights, architecture and image size."""
        raise NotImplementedError

    def pretraining(self) -> Pretraining | None:
        """Return the training compute of pretrained weights, if stated."""
        return None

    def fine_tuning(self) -> Pretraining | None:
        """Return the compute of fine-tuning pretrained weights, if stated."""
        return None

    def named_models(self) -> tuple[tuple[str, str], ...]:
        """Return library and name of each model that it loads."""
        return ()

    def repeats(self) -> str | None:
        """Return the id of the stage that it repeats with another number of epochs, if it does."""
        return None


def kind_of(stage: StageSection) -> StageKind:
    """Narrow the type of a stage; all registered sections are `StageKind`s."""
    assert isinstance(stage, StageKind)
    return stage
