"""What a recipe may say. Plain data: nothing here imports torch or runs what a recipe names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from compress.recipe.base import Fraction, Identifier, Section
from compress.recipe.fit import Distillation, Fit
from compress.recipe.measure import Measure
from compress.recipe.models import Student, Teacher
from compress.recipe.quantizer_name import MethodName, ObserverName
from compress.recipe.runtime_name import AUTO, Runtime, Runtimes
from compress.recipe.sources import Data
from compress.recipe.worth import Worth


def _free_name(name: str) -> str:
    if name.lower() == "store":
        raise ValueError("'store' is taken: runs/store is where stages keep what they made")
    return name


Share = Annotated[float, Field(gt=0, lt=1)]


# --- stages -------------------------------------------------------------------------------------------------------


class Published(Section):
    """An accuracy that others report for what a stage makes; it stands beside ours in the report."""

    top1: Annotated[float, Field(ge=0, le=1)] = Field(description="a fraction")
    source: str


class StageSection(Section):
    id: Identifier
    published: Published | None = None


class TeacherStage(StageSection):
    """The teacher itself, measured like every other variant."""

    kind: Literal["teacher"]
    teacher: Teacher


class TrainStage(StageSection, Fit):
    """Supervised training on the labelled images: the baseline."""

    kind: Literal["train"]
    student: Student


class DistillStage(StageSection, Distillation):
    """Training on the teacher's answers to stored views of labelled and unlabelled images."""

    kind: Literal["distill"]
    from_: Identifier = Field(alias="from", description="the teacher stage")
    student: Student


class LatencyTarget(Section):
    """A share of the dense network's latency in a runtime, measured here, side by side."""

    share: Share
    runtime: Runtime = "openvino"
    batch: int = Field(16, ge=1, le=1024)
    rounds: int = Field(15, ge=5, description="turns that the two networks of a measurement take")


class Channels(Section):
    """Which channels are removed, and how many."""

    target_macs: Share | None = Field(None, description="share of the multiply-accumulates that may remain")
    target_params: Share | None = Field(None, description="share of the parameters that may remain")
    target_latency: LatencyTarget | None = Field(None, description="share of the measured latency that may remain")
    importance: Literal["l2", "l1", "batch_norm", "taylor", "random"] = Field(
        "l2", description="what ranks channels: the norm of their group, its scale, its effect on the loss, chance"
    )
    ranking: Literal["local", "global", "sensitivity"] = Field(
        "local",
        description="local: the same share of every layer; global: the least important of all; sensitivity: of each "
        "layer as much as costs the same accuracy, by `analyse`",
    )
    keep: list[str] = Field([], description="layers that keep their channels, by name; * stands for any characters")
    round_to: int = Field(8, ge=1, description="channel counts are multiples of it")


class PruneStage(StageSection, Channels):
    """Removal of whole channels, then repair: by the teacher that the network descends from, else by labels."""

    kind: Literal["prune"]
    from_: Identifier = Field(alias="from")
    analyse: list[Share] = Field(
        [], description="shares of its channels that each layer is pruned by alone, to see what accuracy that costs"
    )
    rounds: int = Field(1, ge=1, le=100, description="steps to the target, each with a repair")
    repair: Distillation = Distillation(epochs=5, lr=0.02)


class SparsifyStage(StageSection):
    """Single weights set to zero, the smallest first, and kept there through the repair; the shapes stay."""

    kind: Literal["sparsify"]
    from_: Identifier = Field(alias="from")
    pattern: Literal["unstructured", "2:4"] = Field(
        "unstructured", description="anywhere in the network, or two of every four input channels"
    )
    sparsity: Share | None = Field(
        None, description="share of the weights that become zero; of 2:4 it is a half, of unstructured 0.8 without it"
    )
    until: float = Field(
        0.7, gt=0, le=1, description="share of the repair's steps after which unstructured sparsity is whole"
    )
    keep: list[str] = Field([], description="layers that keep their weights, by name; * stands for any characters")
    repair: Distillation = Distillation(epochs=5, lr=0.02)

    @property
    def share(self) -> float:
        """Share of the weights that becomes zero."""
        return 0.5 if self.pattern == "2:4" else 0.8 if self.sparsity is None else self.sparsity


class ShrinkStage(StageSection):
    """The control of a prune stage: its network made narrow before it was ever trained, for the same compute.

    As many MACs, every layer narrower by the same share, trained as the network that was pruned had been, for as many
    epochs as training and repair of the pruned one come to.
    """

    kind: Literal["shrink"]
    from_: Identifier = Field(alias="from", description="the prune stage")
    seed: int | None = Field(None, ge=0, lt=2**31, description="of first weights and order; without it, the recipe's")


class AwareTraining(Distillation):
    """How a network is trained with integers simulated in it."""

    observers_until: Fraction = Field(0.5, description="share of the steps after which activation ranges are frozen")
    batch_norm_until: Fraction = Field(0.67, description="share of the steps after which statistics are frozen")


class QuantizeStage(StageSection):
    """Static INT8 of convolutions and linears, calibrated on images that were learnt from."""

    kind: Literal["quantize"]
    from_: Identifier = Field(alias="from")
    method: MethodName = Field(
        "torchao",
        description="torchao's PT2E, for every runtime, or made of the ONNX file, for those that read it",
    )
    calibration_images: int = Field(512, ge=1)
    calibrate_on: Literal["train", "unlabeled"] = "train"
    calibration_seed: int | None = Field(None, ge=0, lt=2**31, description="which images; without it, the recipe's")
    observer: ObserverName | None = Field(
        None,
        description="what finds activation ranges: least error, the extremes, a share of the values, the images' mean "
        "extremes, least divergence; without it, the method's own",
    )
    bias_correction: Literal["off", "fast", "full"] = Field(
        "off", description="whether a layer's mean error is taken out of its bias; of `method: nncf`"
    )
    equalize: bool = Field(
        False, description="bring neighbouring channels to one range first (arXiv 1906.04721); of `method: nncf`"
    )
    percentile: float = Field(99.9, gt=50, lt=100, description="of `observer: percentile`: what is not cut off")
    target: Literal["x86", "portable"] = Field(
        "x86",
        description="x86: unsigned activations with zero points, for x86 kernels; portable: everything signed and "
        "symmetric, which TensorRT asks for",
    )
    reduce_range: bool = Field(
        True, description="weights of 7 bits in INT8: integer kernels of processors without VNNI overflow with 8"
    )
    linear_weight_bits: Literal[8, 4] = Field(
        8,
        description="of linear layers; 4: in blocks of 32, activations rounded to 8 bits as they come; convolutions "
        "stay at 8; of `method: nncf` and `onnxruntime`",
    )
    keep: list[str] = Field([], description="layers that stay in float, by name; * stands for any characters")
    keep_accuracy: Fraction | None = Field(
        None,
        description="loss on validation that is allowed: until it holds, the most sensitive layers go back to float",
    )
    training: AwareTraining | None = Field(
        None, description="quantization-aware training, instead of calibration alone; of `method: torchao`"
    )


class ExportStage(StageSection):
    """Deployable files of variants."""

    kind: Literal["export"]
    from_: list[Identifier] = Field(alias="from", min_length=1)
    runtimes: Runtimes = Field(
        ["onnxruntime", "openvino"],
        min_length=1,
        description="auto: all that are here and take the variant; the fastest that holds its accuracy is named",
    )
    auto_loss: Fraction = Field(
        0.005, description="of `runtimes: auto`: accuracy on validation that a file may lose against PyTorch"
    )
    triton: bool = Field(
        False, description="also write each variant as a model of a Triton Inference Server, with its response cache on"
    )

    @property
    def auto(self) -> bool:
        """Whether the runtimes are all that are here."""
        return self.runtimes == [AUTO]


Stage = Annotated[
    TeacherStage | TrainStage | DistillStage | PruneStage | ShrinkStage | SparsifyStage | QuantizeStage | ExportStage,
    Field(discriminator="kind"),
]

# --- the whole ----------------------------------------------------------------------------------------------------


class Trainer(Section):
    """Goes straight to Lightning's Trainer."""

    accelerator: str = "auto"
    devices: int | list[int] | Literal["auto"] = 1
    num_nodes: int = Field(1, ge=1)
    strategy: str = "auto"
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"


class Recipe(Section):
    """A whole recipe, resolved: every name is replaced by the section that it stands for."""

    name: Annotated[Identifier, AfterValidator(_free_name)]
    description: str = ""
    seed: int = Field(0, ge=0, lt=2**31)
    allow: list[Literal["test-selection", "overlap"]] = Field(
        [], description="what is refused unless it is asked for by name"
    )
    data: Data
    trainer: Trainer = Trainer()
    stages: list[Stage] = Field(min_length=1, max_length=1000)
    measure: Measure = Measure()
    worth: Worth

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
        """Read a recipe: see `compress.recipe.load.load_recipe`."""
        from compress.recipe.load import load_recipe

        return load_recipe(path, overrides)

    def resolved(self) -> dict[str, Any]:
        """The recipe as plain data, every default written out."""
        return self.model_dump(mode="json", by_alias=True)
