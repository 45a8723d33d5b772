"""The compute and time of units to expect, from short timings on this machine, each made once. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.data.prepared import ImageData, prepare
from compress.models.fingerprint import embedding_id, view_key
from compress.pipeline.plan import MODEL_PACKAGES, TEACHER_PACKAGES, Plan, PlannedStage
from compress.plugins import digests
from compress.recipe.data import PLAIN
from compress.recipe.fit import Distillation, Fit
from compress.recipe.schema import PruneStage, QuantizeStage, ShrinkStage, SparsifyStage, TeacherStage
from compress.stages.teacher_inputs import embeddings_of, learnt_from
from compress.store.store import Store
from compress.utils.hashing import file_digest, key_of
from compress.utils.json_cache import recall, remember
from compress.utils.system import cores, graphics, processor, version_of

if TYPE_CHECKING:
    from compress.pipeline.profiling import Cost

LAYERS = 15  # that can be pruned apart, in a network such as ResNet18
TRIALS, TRIAL_SECONDS = 8, 10.0  # of a search by latency: the file is written, read and timed
REVISION = 1  # raised when networks are counted or timed in another way
NAME = "networks"


class CostModel:
    """What each network of a plan costs. A network that was timed in this store before is not built again."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self.plan, self.store = plan, store
        self._file = store.root / "speeds.json"
        self._known = recall(self._file, NAME, "networks are timed again")
        self._costs: dict[str, Cost] = {}
        self._embedded: set[str] = set()
        self._embedding_ids: dict[str, dict[str, str]] = {}

    @cached_property
    def data(self) -> ImageData:
        return prepare(self.plan.recipe.data, self.store, self.plan.recipe.seed)

    def expect(self, unit: PlannedStage) -> tuple[float, float]:
        """Expected MACs and seconds of a unit."""
        stage = unit.stage
        if unit.is_export:
            return 0, 15.0  # the writing of two files, which hardly depends on the network
        if unit.stage.kind == "teacher":
            per_image, _, seconds = self._teacher(unit.id)
            return per_image * len(self.data.test.images), seconds * len(self.data.test.images)
        forward, training, seconds = self._student(unit)
        if isinstance(stage, QuantizeStage) and not stage.training:
            return forward * stage.calibration_images, 20.0
        if isinstance(stage, ShrinkStage):
            return self._as_much_as(unit)
        settings: Fit = getattr(stage, "repair", None) or getattr(stage, "training", None) or stage  # type: ignore[assignment]
        keep = 1.0
        if isinstance(stage, PruneStage):
            latency = stage.target_latency.share if stage.target_latency else 1.0
            keep = stage.rounds * (stage.target_macs or stage.target_params or latency)
        if not unit.teacher or not isinstance(settings, Distillation):
            images = len(self.data.train.images) * settings.epochs
            return images * training * keep, images * seconds * keep
        images = sum(len(split.images) for split in learnt_from(self.data, settings)[0]) * settings.epochs
        asked = images if settings.teacher == "live" else self._to_embed(unit.teacher, settings)
        per_image, _, teacher_seconds = self._teacher(unit.teacher) if asked else (0, 0, 0.0)
        compute = images * training * keep + asked * per_image
        tried = self._tried(stage, forward, seconds) if isinstance(stage, PruneStage) else (0.0, 0.0)
        return compute + tried[0], images * seconds * keep + asked * teacher_seconds + tried[1]

    def _tried(self, stage: PruneStage, forward: int, seconds: float) -> tuple[float, float]:
        """What finding the network takes before it is repaired: each layer pruned alone, and the search by latency."""
        images = stage.rounds * len(stage.analyse) * LAYERS * len(self.data.validation.images)
        trials = stage.rounds * TRIALS if stage.target_latency else 0
        return images * forward, images * seconds / 3 + trials * TRIAL_SECONDS

    def _as_much_as(self, unit: PlannedStage) -> tuple[float, float]:
        """What a shrink stage takes: all that the pruned network took, from its first fit on."""
        compute = seconds = 0.0
        while unit.parent and unit.parent != unit.teacher:
            unit = self.plan.unit(unit.parent)
            one = self.expect(unit)
            compute, seconds = compute + one[0], seconds + one[1]
        return compute, seconds

    def _to_embed(self, teacher: str, settings: Distillation) -> int:
        """Embeddings that neither the store holds nor an earlier unit of the plan leaves there."""
        splits, count = learnt_from(self.data, settings)
        identity = embeddings_of(self.data, splits, self._embedding_id(teacher))
        views, seed = self.plan.recipe.data.views if settings.augment else PLAIN, self.plan.recipe.seed
        keys = {view_key(identity, views, seed, view) for view in range(count)} - self._embedded
        new = {key for key in keys if not self.store.has(key)}
        self._embedded |= new
        return len(new) * sum(len(split.images) for split in splits)

    def _embedding_id(self, teacher: str) -> dict[str, str]:
        """It is asked for once: files of weights are hashed for it."""
        if teacher not in self._embedding_ids:
            self._embedding_ids[teacher] = embedding_id(self._teacher_stage(teacher).teacher)
        return self._embedding_ids[teacher]

    def _teacher_stage(self, identifier: str) -> TeacherStage:
        stage = self.plan.unit(identifier).stage
        assert isinstance(stage, TeacherStage)
        return stage

    def _teacher(self, identifier: str) -> Cost:
        def measure() -> Cost:
            from compress.pipeline.profiling import teacher_cost

            return teacher_cost(
                self.plan.recipe, self._teacher_stage(identifier), self.data.classes, self.data.resolution
            )

        def told() -> dict[str, Any]:
            packages = {name: version_of(name) for name in TEACHER_PACKAGES}
            return {"teacher": self._embedding_id(identifier), "side": self.data.resolution, "packages": packages}

        return self._cost(f"teacher {identifier}", told, measure)

    def _student(self, unit: PlannedStage) -> Cost:
        student, masked = self.plan.first_fit(unit).student, isinstance(unit.stage, SparsifyStage)
        side, classes = student.resolution or self.data.resolution, len(self.data.classes)

        def measure() -> Cost:
            from compress.pipeline.profiling import student_cost

            return student_cost(self.plan.recipe, student, classes, side, masked=masked)

        def told() -> dict[str, Any]:
            weights = file_digest(Path(student.checkpoint)) if student.checkpoint else None
            settings = student.model_dump(mode="json", exclude={"mean", "std"}) | {"checkpoint": weights}
            packages = {name: version_of(name) for name in MODEL_PACKAGES}
            return {"student": settings, "side": side, "masked": masked, "packages": packages}

        return self._cost(f"student {student.model_dump_json()}, {masked}", told, measure)

    def _cost(self, name: str, told: Callable[[], dict[str, Any]], measure: Callable[[], Cost]) -> Cost:
        """What a network costs, measured where this store does not tell it of such a network and machine."""
        if name not in self._costs:
            key = key_of(
                revision=REVISION,
                classes=len(self.data.classes),
                accelerator=self.plan.recipe.trainer.accelerator,
                machine=[processor(), os.environ.get("OMP_NUM_THREADS") or str(cores()), graphics()],
                plugins=digests(),
                **told(),
            )
            if key not in self._known:
                self._known[key] = measure()
                remember(self._file, NAME, self._known)
            forward, training, seconds = self._known[key]
            self._costs[name] = (forward, training, seconds)
        return self._costs[name]
