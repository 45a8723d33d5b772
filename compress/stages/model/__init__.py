"""The `model` stage: a trained network that is used as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from compress.models.checks import model_problems
from compress.models.fingerprint import READER
from compress.models.names import LOCAL, tagged
from compress.models.own_files import (
    ONNX_PACKAGES,
    PREPROCESS,
    gives_embeddings,
    is_onnx,
    is_quantized,
    model_path,
    own_model_id,
)
from compress.recipe.models import OwnModel
from compress.recipe.schema import Recipe
from compress.recipe.stage import QUANTIZED
from compress.stages.existing import ExistingNetwork, weights_problems
from compress.stages.kind import IDENTITY, kind_of
from compress.stages.planned import PlannedStage
from compress.stages.teacher_inputs import TEACHER_PACKAGES

if TYPE_CHECKING:
    from compress.stages.costs import Cost, CostModel

NOT_SETTINGS = ("batch", "shard", "pretraining", "fine_tuning")  # do not affect the network
FROM_LIBRARY = ("checkpoint", "ema", "options")  # keys that need a library's model
LIBRARIES = ("timm", "torchvision")


class ModelStage(ExistingNetwork):
    """An own trained network as a variant, without training: everything may start from it."""

    kind: Literal["model"]
    model: OwnModel

    maker: ClassVar[str] = "compress.stages.model.make:make_model"

    @property
    def network(self) -> OwnModel:
        return self.model

    def progress(self) -> str:
        return f"evaluating {self.model.model}"

    def problems(self, recipe: Recipe) -> Iterator[tuple[str, str]]:
        own = self.model
        if own.source == "open_clip":
            yield from (("model", message) for message in weights_problems(own))
            if own.classes:
                yield "model", "its head is made from the prompts of the data; remove `classes`"
        elif own.pretrained:
            yield "model", "`pretrained` is an open_clip tag; put the tag of timm or torchvision into `model`"
        if own.ema is not None and not own.checkpoint:
            yield "model", "`ema` chooses weights of a `checkpoint`; set one, or remove it"
        if own.classes and len(set(own.classes)) < len(own.classes):
            yield "model", "`classes` has a name twice; correct it"
        if own.resize and own.crop_pct:
            yield "model", "`resize` and `crop_pct` exclude each other; remove one"
        if own.source not in LIBRARIES:
            allowed = ("checkpoint",) if own.source == "open_clip" else ()
            for key in FROM_LIBRARY:
                if getattr(own, key) not in (None, {}) and key not in allowed:
                    yield "model", f"`source: {own.source}` does not take `{key}`; remove it"
        if own.source == "variant":
            for key in ("mean", "std", "interpolation", "crop_pct", "resize", "resolution", "classes"):
                if getattr(own, key) is not None:
                    yield "model", f"a stored variant has its own `{key}`; remove it"
        if self.is_quantized:
            for other in recipe.stages:
                if self.id in other.parents() and QUANTIZED not in other.starts_from:
                    yield "model", f"its variant is quantized; {other.kind} must start from a float network"
        if own.source in (*LIBRARIES, "open_clip"):
            tag = own.pretrained if own.source == "open_clip" else None
            for message in model_problems(own.source, tagged(own.model, tag), own.options):
                yield "model", message
        yield from (("model", message) for message in self._onnx_problems(recipe))

    def _onnx_problems(self, recipe: Recipe) -> Iterator[str]:
        """Yield what an ONNX file lacks, and what cannot start from it."""
        own = self.model
        if own.source == "onnx" and not (own.mean and own.std) and not (model_path(own).parent / PREPROCESS).is_file():
            yield (
                "an ONNX file does not say how its images are normalised; set `mean` and `std`, "
                f"or put the {PREPROCESS} of an export beside it"
            )
        if self.is_onnx:
            for other in recipe.stages:
                if self.id in other.parents() and (problem := kind_of(other).onnx_problem()):
                    yield f"stage {other.id}: {problem}"

    def key_settings(self, recipe: Recipe) -> dict[str, Any]:
        settings = self.model_dump(
            mode="json",
            exclude={**dict.fromkeys(IDENTITY, True), "model": set(NOT_SETTINGS)},
            exclude_defaults=True,
        )
        settings["model"].pop("checkpoint", None)  # the content of files counts, not their paths
        if self.model.source in ("variant", "onnx"):
            settings["model"].pop("model")
        elif self.model.model.startswith(LOCAL):
            settings["model"]["model"] = LOCAL
        prompts = {"templates": recipe.data.templates, "prompts": recipe.data.prompts}
        return {
            **settings,
            "reader": READER,
            "weights": own_model_id(self.model),
            **(prompts if self.has_prompts else {}),
        }

    @property
    def has_prompts(self) -> bool:
        """Whether its head is made from the prompts of the data."""
        return self.model.source == "open_clip"

    def packages(self) -> tuple[str, ...]:
        return (*TEACHER_PACKAGES, *(ONNX_PACKAGES if self.is_onnx else ()))

    def cost(self, planned: PlannedStage, costs: CostModel) -> Cost:
        return costs.inference(planned, len(costs.data.test.images) + len(costs.data.validation.images))

    def embedding_id(self, planned: PlannedStage) -> dict[str, str]:
        return {"variant": planned.key}

    @property
    def is_onnx(self) -> bool:
        """Whether the network is an ONNX file, which PyTorch does not run."""
        return is_onnx(self.model)

    @property
    def embeds(self) -> bool:
        return gives_embeddings(self.model)

    @property
    def is_quantized(self) -> bool:
        return is_quantized(self.model)

    @property
    def variant_precision(self) -> str:
        return "int8" if self.is_quantized else "fp32"


def is_onnx_network(recipe: Recipe, identifier: str) -> bool:
    """Return whether the network of a variant is an ONNX file that a `model` stage brought.

    False where the stages that it starts from are unknown or circular, which is reported with the graph.
    """
    stages = {stage.id: kind_of(stage) for stage in recipe.stages}
    stage = stages.pop(identifier, None)
    while stage and not stage.brings_network:
        stage = stages.pop(stage.network_from() or "", None)
    return isinstance(stage, ModelStage) and stage.is_onnx
