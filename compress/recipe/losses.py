"""The `losses` section of a distillation, made of the losses in `compress.registry.LOSSES`, and the `mix` section."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, GetJsonSchemaHandler, create_model
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from compress.recipe.base import Identifier, Section
from compress.recipe.loss import Loss, Step
from compress.registry import LOSSES, PLUGIN_LOSSES, load_entry

if TYPE_CHECKING:
    from torch import Tensor

LOSS_TYPES: dict[str, type[Loss]] = {name: load_entry(place) for name, place in LOSSES.items()}


class Own(Loss):
    """A loss of a plugin."""

    trains_classifier: ClassVar[bool] = True

    options: dict[str, bool | int | float | str] = Field({}, description="keyword arguments of its function")


class PluginLoss(Own):
    """A loss of a plugin, with its registered name."""

    name: str

    def compute(self, step: Step) -> Tensor:
        return PLUGIN_LOSSES[self.name](step.logits, step.teacher_logits, step.labels, **self.options)


class _Losses(Section):
    """The losses of a distillation with their weights; a loss that is not listed is not computed."""

    if TYPE_CHECKING:
        own: dict[Identifier, Own]

    def named(self) -> dict[str, Loss]:
        """Return the losses that are set, by name; those of plugins as `own.NAME`."""
        named: dict[str, Loss] = {name: loss for name in LOSS_TYPES if (loss := getattr(self, name)) is not None}
        for name, own in self.own.items():
            named[f"own.{name}"] = PluginLoss(name=name, weight=own.weight, options=own.options)
        return named


@dataclass(frozen=True)
class _ShowAs:
    """Gives a loss that adds no settings the JSON Schema of the section that it inherits them from."""

    section: type[Loss]

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(core_schema.nullable_schema(self.section.__pydantic_core_schema__))


def _field(kind: type[Loss]) -> Any:
    """Definition of a loss's key in the `losses` section, as `pydantic.create_model` takes it."""
    bases = [base for base in reversed(kind.__mro__) if issubclass(base, Loss)]
    section = next(base for base in bases if repr(base.model_fields) == repr(kind.model_fields))
    description = None if section is kind else kind.about()  # else the section has its own
    return Annotated[kind | None, _ShowAs(section)], Field(None, description=description)


if TYPE_CHECKING:
    Losses = _Losses  # type checkers know no losses by name
else:
    Losses = create_model(
        "Losses",
        __base__=_Losses,
        __module__=__name__,
        __doc__=_Losses.__doc__,
        **{name: _field(kind) for name, kind in LOSS_TYPES.items()},
        own=(dict[Identifier, Own], Field({}, description="losses of plugins, by registered name")),
    )


class Mix(Section):
    """Mixup (arXiv 1710.09412) or CutMix (arXiv 1905.04899).

    Labels are mixed too. With a cached teacher its outputs for both images are mixed; an online one sees the mixed
    image.
    """

    kind: Literal["mixup", "cutmix"]
    alpha: float = Field(1.0, gt=0, description="the share of the first image has the distribution Beta(alpha, alpha)")
    probability: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="share of the batches that are mixed")
