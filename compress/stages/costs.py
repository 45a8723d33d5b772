"""Expected compute and time of planned stages, from short timings on this machine that are cached.

Imports torch only to time a network that is not cached.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from compress.data.prepared import ImageData, Split
from compress.models.fingerprint import shard_keys
from compress.plugins import digests
from compress.recipe.data import PLAIN, Views
from compress.recipe.fit import Distillation, Fit
from compress.recipe.models import SHARD, Student
from compress.stages.kind import MODEL_PACKAGES
from compress.stages.planned import Plan, PlannedStage
from compress.stages.teacher_inputs import TEACHER_PACKAGES, embeddings_identity, training_views
from compress.store.store import Store
from compress.training.batches import step_images
from compress.training.step_macs import step_macs
from compress.utils.hashing import file_digest, key_of
from compress.utils.json_cache import load_cache, save_cache
from compress.utils.resources import expand
from compress.utils.system import cores, gpu_ids, kind_of_processor, version_of

REVISION = 3  # raised when counting or timing changes
NAME = "networks"
SPEEDS = "speeds.json"  # of the store: timings of this machine


class Cost(NamedTuple):
    """Expected MACs and seconds of a stage."""

    macs: float
    seconds: float

    def __add__(self, other: tuple[float, float]) -> Cost:  # type: ignore[override]
        return Cost(self.macs + other[0], self.seconds + other[1])


Use = Literal["inference", "embedding", "training", "masked"]
"""What a network is timed for: forward passes in FP32, those of cached teacher embeddings in the format that is chosen
for them, training steps, or training steps with masked weights."""


class NetworkCost(NamedTuple):
    """Cost of a network per image."""

    forward: int  # MACs of the forward pass
    training: int  # MACs of a training step, 0 for forward passes
    seconds: float  # time of a training step, or of a forward pass
    width: int = 0  # values of an embedding, of a network that embeds
    features: int = 0  # inputs of its classifier, of a network that is trained


class CostModel:
    """Expected cost of the stages of a plan; networks are timed once per store.

    Args:
        overheads: Seconds that a stage takes whatever the number of images, by id; others are guessed.
    """

    def __init__(
        self, plan: Plan, store: Store, data: ImageData, overheads: Mapping[str, float] = MappingProxyType({})
    ) -> None:
        self.plan, self.store, self.data, self._overheads = plan, store, data, overheads
        self._file = store.root / SPEEDS
        self._known = load_cache(self._file, NAME, "networks are timed again")
        self._costs: dict[str, NetworkCost] = {}
        self._expected: dict[str, Cost] = {}
        self._embedded: set[str] = set()
        self.embedding_shards, self.embedding_bytes = 0, 0  # of all embeddings that were expected so far
        self._embedding_ids: dict[str, dict[str, str]] = {}

    def expect(self, planned: PlannedStage) -> Cost:
        """Return the expected cost of a stage that is not in the store."""
        overhead = self._overheads.get(planned.id, planned.stage.overhead)
        cost = Cost(0, overhead) + planned.stage.cost(planned, self)
        self._expected.setdefault(planned.id, cost)
        return cost

    # --- parts of a stage ---------------------------------------------------------------------------------------------

    def inference(self, planned: PlannedStage, images: int, use: Use = "inference") -> Cost:
        """Return the cost of forward passes of the network that a stage works on or brings."""
        network = self.network(planned, use)
        return Cost(network.forward * images, network.seconds * images)

    def evaluation(self, planned: PlannedStage, passes: int = 1) -> Cost:
        """Return the time of passes over the test and validation images; they make no variant, so no MACs."""
        images = passes * (len(self.data.test) + len(self.data.validation))
        return Cost(0, self.network(planned, "inference").seconds * images)

    def fit(self, planned: PlannedStage, settings: Fit, keep: float = 1.0, *, masked: bool = False) -> Cost:
        """Return the cost of training, including teacher embeddings that are not cached yet.

        Args:
            keep: Remaining share of the network's cost while it trains, summed over rounds.
            masked: Whether weights are masked, so that all convolution taps are computed.
        """
        network = self.network(planned, "masked" if masked else "training")
        if not planned.teacher or not isinstance(settings, Distillation):
            images = len(self.data.train.images) * settings.epochs
            return Cost(images * network.training * keep, images * network.seconds * keep)
        splits, count = training_views(self.data, settings)
        images, teacher = sum(len(split.images) for split in splits) * settings.epochs, self.plan.stage(planned.teacher)
        if settings.teacher == "live":
            embedded = self.inference(teacher, images)
        else:
            recipe = self.plan.recipe
            views = recipe.data.views if settings.augment else PLAIN
            embedded = self.embeddings(teacher, splits, views, count, recipe.trainer.precision)
        trained = images * network.training + self._beside(planned, settings, network, images)
        return Cost(trained * keep, images * network.seconds * keep) + embedded

    def _beside(self, planned: PlannedStage, settings: Distillation, network: NetworkCost, images: int) -> float:
        """Return the MACs of training on `images` beside those of the networks, without adapters of feature maps."""
        width, classes = self.teacher_width(planned, settings), len(self.data.classes)
        embeds, world = self.plan.origin(planned).stage.embeds, self.plan.recipe.trainer.least_processes
        step = step_images(images // max(1, settings.epochs), settings.batch, world)
        losses = step_macs(
            settings,
            step // world,
            features=width if embeds else network.features,
            width=width,
            head=width * classes if width != classes else 0,  # a classifier's embeddings are its logits already
            embeds=embeds,
        )
        return images / step * world * losses

    def teacher_width(self, planned: PlannedStage, settings: Distillation) -> int:
        """Return the values of an embedding of the teacher of a distillation."""
        stored = settings.teacher == "stored" and self.plan.recipe.trainer.precision == "auto"
        return self.network(self.plan.stage(planned.teacher or ""), "embedding" if stored else "inference").width

    def embeddings(
        self, teacher: PlannedStage, splits: Sequence[Split], views: Views, count: int, precision: str = "32-true"
    ) -> Cost:
        """Return the cost of embeddings that neither the store nor an earlier stage of the plan provides."""
        identity = embeddings_identity(self.data, splits, self._embedding_id(teacher.id), precision)
        shard, seed = getattr(teacher.stage, "shard", SHARD), self.plan.recipe.seed
        total = sum(len(split.images) for split in splits)
        keys = {
            key: len(part)
            for view in range(count)
            for part, key in shard_keys(identity, views, seed, view, total, shard)
        }
        new = keys.keys() - self._embedded - self.store.existing(keys)
        self._embedded |= new
        images = sum(keys[key] for key in new)
        if not images:
            return Cost(0, 0.0)
        use: Use = "embedding" if precision == "auto" else "inference"
        self.embedding_shards += len(new)
        self.embedding_bytes += 2 * self.network(teacher, use).width * images  # fp16
        return self.inference(teacher, images, use)

    def embedding_width(self, planned: PlannedStage) -> int:
        """Return the values of the embedding that a student ends in; 0 where it ends in logits."""
        stage = planned.stage
        return self.teacher_width(planned, stage) if stage.embeds and isinstance(stage, Distillation) else 0

    def training(self, planned: PlannedStage, macs: float) -> Cost:
        """Return the cost of training a student on labels for so many MACs."""
        network = self.network(planned, "training")
        return Cost(macs, macs / network.training * network.seconds)

    def lineage(self, identifier: str, until: str | None, *, repeated: bool = True) -> Cost:
        """Return the cost of a variant and its ancestors, up to but excluding the stage `until`.

        Ancestors end with the stage whose training ledger starts anew.

        Args:
            identifier: Id of the variant.
            until: Id of the ancestor to stop at.
            repeated: Whether to estimate making them again, with the teacher embeddings that are there by then.
        """
        total, name = Cost(0, 0.0), identifier
        while name and name != until:
            planned = self.plan.stage(name)
            again = repeated or name not in self._expected
            total += self.expect(planned) if again else self._expected[name]
            name = planned.parent or "" if planned.stage.continues_ledger else ""
        return total

    # --- networks -----------------------------------------------------------------------------------------------------

    def _embedding_id(self, teacher: str) -> dict[str, str]:
        """Return the identity of a teacher's embeddings; cached, because hashing large weight files is slow."""
        if teacher not in self._embedding_ids:
            planned = self.plan.stage(teacher)
            self._embedding_ids[teacher] = planned.stage.embedding_id(planned)
        return self._embedding_ids[teacher]

    def network(self, planned: PlannedStage, use: Use) -> NetworkCost:
        """Return the cost of the network that a stage works on."""
        origin = self.plan.origin(planned)
        return origin.stage.profile(origin, self, use)

    def existing(self, planned: PlannedStage, use: Use) -> NetworkCost:
        """Return the cost of a network that exists before the run: a teacher or an own model."""

        def measure() -> NetworkCost:
            from compress.stages.profiling import existing_cost

            return existing_cost(self.plan.recipe, planned.stage, self.data, use, self._file)

        def identity() -> dict[str, Any]:
            packages = {name: version_of(name) for name in TEACHER_PACKAGES}
            network = self._embedding_id(planned.id)
            return {"network": network, "side": self.data.resolution, "use": use, "packages": packages}

        return self._cost(f"network {planned.id}, {use}", identity, measure)

    def student(self, student: Student, use: Use, width: int = 0) -> NetworkCost:
        """Return the cost of a student; a forward pass takes a third of the time of a training step.

        Where it teaches, its logits are its embeddings.

        Args:
            student: Its settings.
            use: What it is timed for.
            width: Values of the embedding that it ends in; 0 for one that ends in logits.
        """
        if use in ("inference", "embedding"):
            trained = self.student(student, "training", width)
            return trained._replace(training=0, seconds=trained.seconds / 3, width=width or len(self.data.classes))
        masked = use == "masked"
        side = student.resolution or self.data.resolution

        def measure() -> NetworkCost:
            from compress.stages.profiling import student_cost

            return student_cost(self.plan.recipe, student, self.data, self._file, masked=masked, width=width)

        def identity() -> dict[str, Any]:
            weights = file_digest(Path(expand(student.checkpoint))) if student.checkpoint else None
            settings = student.model_dump(mode="json", exclude={"mean", "std", "pretraining"}) | {"checkpoint": weights}
            packages = {name: version_of(name) for name in MODEL_PACKAGES}
            return {"student": settings, "side": side, "masked": masked, "width": width, "packages": packages}

        return self._cost(f"student {student.model_dump_json()}, {masked}, {width}", identity, measure)

    def _cost(
        self, name: str, identity: Callable[[], dict[str, Any]], measure: Callable[[], NetworkCost]
    ) -> NetworkCost:
        """Return the cost of a network, measuring it if it is not cached for this machine."""
        if name not in self._costs:
            trainer = self.plan.recipe.trainer
            key = key_of(
                revision=REVISION,
                classes=len(self.data.classes),
                accelerator=trainer.accelerator,
                machine=[*kind_of_processor(), os.environ.get("OMP_NUM_THREADS") or str(cores()), gpu_ids()],
                plugins=digests(),
                **({"precision": "auto"} if trainer.precision == "auto" else {}),
                **identity(),
            )
            if key not in self._known:
                self._known[key] = measure()
                save_cache(self._file, NAME, self._known)
            self._costs[name] = NetworkCost(*self._known[key])
        return self._costs[name]
