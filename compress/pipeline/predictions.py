"""Test predictions of the variants: correctness per image, changes per class, and disagreements.

All are computed from the stored test logits; no network runs. Imports no torch.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from compress.data.prepared import ImageData, Split
from compress.efficiency.intervals import PairedDifference, paired_difference
from compress.efficiency.per_class import ClassPair, adjusted_by_class
from compress.measurement.accuracy import chance, softmax
from compress.results.left_out import LeftOutRecord
from compress.results.per_image import encode_labels
from compress.results.predictions import (
    ClassChange,
    ClassChanges,
    Disagreement,
    Disagreements,
    Move,
    Prediction,
)
from compress.results.run import DataSummary
from compress.stages.planned import Plan
from compress.store.store import Store

MAX_EXAMPLES = 12
MAX_CLASSES = 100
MAX_MOVES = 10
MAX_DIGESTED = 4096
BLOCK = 256  # of them that are read at once
MAX_SIDE = 96
RULE = "the {shown} of them that {teacher} is most certain of: its first probability less its second, the largest first"

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Predictions:
    """Memory-mapped test logits of every variant, `[images, classes]`, with the data.

    `validation` has those of the validation split; stages that an earlier version made have none.
    """

    data: ImageData
    logits: Mapping[str, Logits]
    validation: Mapping[str, Logits] = field(default_factory=dict)

    @classmethod
    def read(cls, plan: Plan, store: Store, data: ImageData) -> Predictions:
        """Memory-map the logits of a plan; all of its variants must be in the store."""
        folders = {unit.id: store.path(unit.key) for unit in plan.variants}
        validation = {name: folder / "validation_logits.npy" for name, folder in folders.items()}
        return cls(
            data,
            {name: np.load(folder / "test_logits.npy", mmap_mode="r") for name, folder in folders.items()},
            {name: np.load(path, mmap_mode="r") for name, path in validation.items() if path.exists()},
        )

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Labels of the test images, `[images]`."""
        assert self.data.test.labels is not None
        return np.asarray(self.data.test.labels)

    @cached_property
    def predicted(self) -> dict[str, NDArray[np.int64]]:
        """Predicted class by variant, `[images]`."""
        return {name: logits.argmax(1) for name, logits in self.logits.items()}

    @cached_property
    def correct(self) -> dict[str, NDArray[np.bool_]]:
        """Whether the prediction is correct, by variant, `[images]`."""
        return {name: own == self.labels for name, own in self.predicted.items()}

    @cached_property
    def chance(self) -> float:
        """Accuracy without looking at the images: the share of the most frequent class."""
        return chance(self.labels)

    def difference(self, reference: str, variant: str) -> PairedDifference:
        """Return by how much a variant is less accurate than a reference, on the same test images."""
        base, own = self.correct[reference], self.correct[variant]
        return paired_difference(int((base & ~own).sum()), int((~base & own).sum()), len(base))


def digest_of(test: Split) -> str:
    """Return the SHA-256 of the shape, all labels and at most 4,096 evenly spaced images of the test split.

    Not of all pixels, so that a large test split does not slow down a cached run.
    """
    digest = hashlib.sha256(repr(test.images.shape).encode())
    digest.update(np.asarray(test.labels, np.int64).tobytes())
    count = min(len(test.images), MAX_DIGESTED)
    rows = np.linspace(0, len(test.images) - 1, count).astype(int)
    for block in np.array_split(rows, max(1, count // BLOCK)):  # images in files are decoded in threads
        digest.update(test.images[block].tobytes())
    return digest.hexdigest()


def data_summary(predictions: Predictions, remarks: Sequence[str] | None) -> DataSummary:
    """Describe the images; `remarks` is what is remarkable about the splits."""
    data = predictions.data
    return DataSummary(
        name=data.name,
        classes=data.classes,
        train=len(data.train.images),
        unlabeled=len(data.unlabeled.images),
        validation=len(data.validation.images),
        test=len(data.test.images),
        skipped=data.skipped,
        chance=predictions.chance,
        test_sha256=digest_of(data.test),
        test_labels=encode_labels(predictions.labels.tolist(), len(data.classes)),
        left_out=tuple(LeftOutRecord(**asdict(row)) for row in data.left_out),
        held_out=data.held_names or None,
        remarks=None if remarks is None else tuple(remarks),
    )


def class_changes(predictions: Predictions, reference: str) -> list[ClassChanges]:
    """Compare every other variant with the reference per class: accuracy changes and moved predictions.

    Unchanged classes are left out, and the largest changes come first. `difference` is positive where the variant is
    less accurate.
    """
    return [_changes(predictions, reference, variant) for variant in predictions.logits if variant != reference]


def _changes(predictions: Predictions, reference: str, variant: str) -> ClassChanges:
    names, labels = predictions.data.classes, predictions.labels
    base, own = predictions.correct[reference], predictions.correct[variant]

    def by_class(rows: NDArray[np.bool_]) -> list[int]:
        return [int(count) for count in np.bincount(labels[rows], minlength=len(names))]

    total, base_correct, own_correct = by_class(np.ones_like(base)), by_class(base), by_class(own)
    lost, gained = by_class(base & ~own), by_class(~base & own)
    pairs = [ClassPair(*counts) for counts in zip(lost, gained, total, strict=True)]
    adjusted = adjusted_by_class(pairs)
    changed = sorted(
        (k for k in range(len(names)) if lost[k] + gained[k]), key=lambda k: (-abs(lost[k] - gained[k]), k)
    )
    classes = []
    for k in changed[:MAX_CLASSES]:
        paired = paired_difference(lost[k], gained[k], total[k])
        change = ClassChange(
            name=names[k],
            images=total[k],
            reference_correct=base_correct[k],
            variant_correct=own_correct[k],
            only_reference=lost[k],
            only_variant=gained[k],
            difference=paired.difference,
            difference_ci95=(paired.low, paired.high),
            p_adjusted=adjusted[k],
        )
        classes.append(change)
    moves = _moves(predictions, reference, variant)
    return ClassChanges(
        reference=reference,
        variant=variant,
        classes=tuple(classes),
        classes_left_out=max(0, len(changed) - MAX_CLASSES),
        moves=tuple(moves[:MAX_MOVES]),
        moves_left_out=max(0, len(moves) - MAX_MOVES),
    )


def _moves(predictions: Predictions, reference: str, variant: str) -> list[Move]:
    """Return the changes of predicted class, the most frequent first."""
    names = predictions.data.classes
    before, after = predictions.predicted[reference], predictions.predicted[variant]
    rows = before != after
    triples = np.stack([predictions.labels[rows], before[rows], after[rows]], axis=1)
    unique, counts = np.unique(triples, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return [
        Move(label=names[label], reference_said=names[old], variant_said=names[new], images=int(counts[row]))
        for row in order
        for label, old, new in [unique[row]]
    ]


def disagreements(predictions: Predictions, teacher: str, student: str) -> Disagreements:
    """Count the test images on which teacher and student disagree, with up to 12 examples.

    Probabilities are the softmax of the stored logits.
    """
    differ = np.flatnonzero(predictions.predicted[teacher] != predictions.predicted[student])
    of_teacher, of_student = (softmax(predictions.logits[name][differ]) for name in (teacher, student))
    first_two = np.sort(of_teacher, axis=1)[:, -2:]
    chosen = np.argsort(first_two[:, 0] - first_two[:, -1], kind="stable")[:MAX_EXAMPLES]
    data, examples = predictions.data, []
    for row in chosen:
        image = int(differ[row])
        example = Disagreement(
            image=image,
            label=data.classes[predictions.labels[image]],
            teacher=_prediction(data.classes, of_teacher[row]),
            student=_prediction(data.classes, of_student[row]),
            thumbnail=thumbnail(data.test.images[image]),
        )
        examples.append(example)
    return Disagreements(
        teacher=teacher,
        student=student,
        images=len(differ),
        of=len(predictions.labels),
        rule=RULE.format(shown=len(examples), teacher=teacher),
        examples=tuple(examples),
    )


def _prediction(classes: Sequence[str], probabilities: NDArray[np.float64]) -> Prediction:
    best = int(probabilities.argmax())
    return Prediction(name=classes[best], probability=float(probabilities[best]))


def thumbnail(pixels: NDArray[np.uint8]) -> str:
    """Encode uint8 `[3, h, w]` as a WebP data URI, downscaled to at most 96 pixels per side."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    with io.BytesIO() as out:
        image.save(out, "WEBP", quality=80, method=4)
        return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()
