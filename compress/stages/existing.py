"""Base of the kinds of stage that bring a network that exists before the run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from compress.models.names import WITH_WEIGHTS
from compress.recipe.models import ClassifierTeacher, EnsembleTeacher, OpenClipTeacher, Option, OwnModel, Pretraining
from compress.recipe.stage import NETWORK, TEACHER
from compress.stages.kind import StageKind
from compress.stages.planned import PlannedStage

if TYPE_CHECKING:
    from compress.stages.costs import CostModel, NetworkCost, Use


class ExistingNetwork(StageKind):
    """A trained network that teaches, and that everything may start from."""

    makes: ClassVar[frozenset[str]] = frozenset({TEACHER, NETWORK})
    teaches_all: ClassVar[bool] = True
    brings_network: ClassVar[bool] = True
    lineage: ClassVar[str] = "used as is"

    @property
    def network(self) -> OpenClipTeacher | ClassifierTeacher | EnsembleTeacher | OwnModel:
        """The section that names the network."""
        raise NotImplementedError

    def library_model(self) -> tuple[str, str, dict[str, Option]] | None:
        own = self.network
        if isinstance(own, EnsembleTeacher) or own.source not in ("timm", "torchvision"):
            return None
        return own.source, own.model, own.options if isinstance(own, OwnModel) else {}

    def profile(self, planned: PlannedStage, costs: CostModel, use: Use) -> NetworkCost:
        return costs.existing(planned, use)

    @property
    def batch(self) -> int:
        """Batch size for computing embeddings."""
        return self.network.batch

    @property
    def shard(self) -> int:
        """Images per stored file of embeddings."""
        return self.network.shard

    def pretraining(self) -> Pretraining | None:
        return self.network.pretraining

    def named_models(self) -> tuple[tuple[str, str], ...]:
        own = self.network
        return tuple((each.source, each.model) for each in (own.members if isinstance(own, EnsembleTeacher) else [own]))

    def fine_tuning(self) -> Pretraining | None:
        return self.network.fine_tuning


def weights_problems(own: OpenClipTeacher | ClassifierTeacher | OwnModel) -> Iterator[str]:
    """Yield what is wrong with where an OpenCLIP model or a teacher takes its weights from."""
    if own.pretrained and own.checkpoint:
        yield "`pretrained` and `checkpoint` exclude each other; remove one"
    elif not (own.pretrained or own.checkpoint or own.model.startswith(WITH_WEIGHTS)):
        file, true = "`checkpoint` (a local file)", "`pretrained` (true)"
        ways = f"`pretrained` (an open_clip tag) or {file}" if own.source == "open_clip" else f"{file} or {true}"
        yield f"has no weights; set {ways}"
