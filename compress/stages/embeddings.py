"""Figures of embedding students: of the network and of each file, against the teacher on the same test images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.data.splits import HELD_OUT
from compress.efficiency.intervals import wilson
from compress.efficiency.retrieval import (
    MAX_IMAGES,
    MAX_PAIRED,
    Recall,
    evenly,
    image_recall,
    mean_cosine,
    rank_correlation,
    text_recall,
)
from compress.measurement.device import on_device
from compress.measurement.predict import Logits, predict_split
from compress.models.class_list import ClassList
from compress.models.embedding import class_list_of
from compress.models.teachers import load_teacher
from compress.results.embeddings import EmbeddingFigures, Embeddings, RecallAt, ZeroShot, ZeroShotSet
from compress.stages.context import StageContext
from compress.stages.planned import PlannedStage
from compress.stages.teacher import TeacherStage

TEACHER_EMBEDDINGS = "teacher_embeddings.npy"
ALL_CLASSES = "all_classes"  # folder of the class list of all classes, where some are held out
KS = (1, 5, 10)

Labels = NDArray[np.int64]


def class_list(context: StageContext, head: Any, *names: str) -> ClassList:
    """Return a teacher's zero-shot head for classes `names` as the class list of its students."""
    data = context.recipe.data
    return class_list_of(head, names, [data.words(name) for name in names], data.templates)


def store_teacher_embeddings(context: StageContext, planned: PlannedStage, folder: Path) -> None:
    """Store in a student's folder what its figures need of the teacher.

    That is the embeddings `[images, width]` of the test images, those of held-out classes after the others, and where
    there are such classes the class list of all.
    """
    assert planned.teacher
    stage, data = context.plan.stage(planned.teacher).stage, context.data
    assert isinstance(stage, TeacherStage)
    names = (*data.classes, *data.held_names)
    loaded = load_teacher(stage.teacher, context.recipe.data, names, data.resolution)
    if data.held_names:
        (folder / ALL_CLASSES).mkdir(exist_ok=True)
        class_list(context, loaded.head, *names).write(folder / ALL_CLASSES)

    def predict(split: str) -> Logits:
        images, preprocess = context.rendered(split, loaded.preprocess)
        label, size = f"{planned.teacher}: embeddings of {split}", context.batch_size(context.device)
        return predict_split(loaded.tower, preprocess, images, size, progress=label)

    with on_device(loaded.tower, context.device):
        found = embed_test(context, predict)
    np.save(folder / TEACHER_EMBEDDINGS, found)


def embed_test(context: StageContext, predict: Callable[[str], Logits], test: Logits | None = None) -> Logits:
    """Return embeddings `[images, width]` of the test images, those of held-out classes after the others.

    Args:
        context: Context of the run.
        predict: Gives the embeddings of a split.
        test: Those of the test split, if they are known.
    """
    first = predict("test") if test is None else test
    held = context.data.held_out
    return np.concatenate([first, predict(HELD_OUT)]) if held is not None and len(held) else first


def measure_embeddings(
    context: StageContext, identifier: str, folder: Path, found: Logits, classes: ClassList
) -> Embeddings:
    """Return the figures of a network or a file.

    Args:
        context: Context of the run.
        identifier: Id of the variant.
        folder: Its folder, which is not in the store yet while it is made.
        found: Its embeddings of the test images, of `embed_test`.
        classes: Its class list.
    """
    data = context.data
    held = None if data.held_out is None else data.held_out.labels
    labels = [np.asarray(each) for each in (data.test.labels, held) if each is not None]
    origin = context.folder(context.plan.origin(context.plan.stage(identifier)).id)
    reference = next((each for each in (folder, origin) if (each / TEACHER_EMBEDDINGS).is_file()), None)
    all_classes = None
    if reference and (reference / ALL_CLASSES).is_dir():
        all_classes = ClassList.read(reference / ALL_CLASSES)
    measured = _Test(labels, classes, all_classes)
    figures = Embeddings(
        **dict(measured.figures(found)), width=classes.width, images=min(len(measured.trained), MAX_IMAGES)
    )
    if reference is None:  # an own model, which was made by another run
        return figures
    teacher: Logits = np.load(reference / TEACHER_EMBEDDINGS)
    rows = evenly(len(measured.trained), MAX_PAIRED)
    return figures.model_copy(
        update={
            "cosine": mean_cosine(found[: len(measured.trained)], teacher[: len(measured.trained)]),
            "rank_correlation": rank_correlation(found[rows], teacher[rows]),
            "teacher": measured.figures(teacher),
        }
    )


@dataclass(frozen=True)
class _Test:
    """Labels of the test images, and the text embeddings of classes."""

    labels: list[Labels]  # of trained classes, and of held-out ones where there are any, which count from 0 too
    classes: ClassList  # of the trained classes
    all_classes: ClassList | None  # of all classes, the held-out ones last

    @property
    def trained(self) -> Labels:
        """Labels of the images of trained classes."""
        return self.labels[0]

    def figures(self, found: Logits) -> EmbeddingFigures:
        """Return the figures of embeddings of all test images."""
        images, labels = found[: len(self.trained)], self.trained
        logits, rows = self.classes.logits(images), evenly(len(labels), MAX_IMAGES)
        return EmbeddingFigures(
            zero_shot=(_zero_shot("trained", "trained", logits, labels), *self._with_held_out(found)),
            image_to_image=_recalls(image_recall(images[rows], labels[rows], KS)),
            image_to_text=_recalls(text_recall(logits, labels, KS)),
        )

    def _with_held_out(self, found: Logits) -> list[ZeroShot]:
        """Return zero-shot top-1 among all names, of the images of held-out classes and of all."""
        if self.all_classes is None or len(self.labels) < 2:
            return []
        logits = self.all_classes.logits(found)
        labels = np.concatenate([self.trained, len(self.classes.names) + self.labels[1].astype(np.int64)])
        held = slice(len(self.trained), None)
        return [
            _zero_shot("held-out", "all", logits[held], labels[held]),
            _zero_shot("all", "all", logits, labels),
        ]


def _zero_shot(images: ZeroShotSet, names: ZeroShotSet, logits: Logits, labels: Labels) -> ZeroShot:
    correct, n = int((logits.argmax(1) == labels).sum()), len(labels)
    return ZeroShot(images=images, names=names, top1=correct / n, ci95=wilson(correct, n), n=n)


def _recalls(recalls: Sequence[Recall]) -> tuple[RecallAt, ...]:
    """Return the record of each recall; of none without queries, as it is unknown."""
    return tuple(
        RecallAt(k=each.k, recall=each.found / each.n, ci95=wilson(each.found, each.n), n=each.n)
        for each in recalls
        if each.n
    )
