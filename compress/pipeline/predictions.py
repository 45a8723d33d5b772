"""What the variants answered on the test images: who is right where, what changed by class, where two disagree.

All of it is read from the test logits that the store has of every variant; nothing is asked again. No torch.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.data.prepared import ImageData, Split, prepare
from compress.efficiency.intervals import paired_difference
from compress.measurement.accuracy import softmax
from compress.stages.planned import Plan
from compress.store.store import Store

EXAMPLES = 12
MAX_CLASSES = 100
MAX_MOVES = 10
MAX_DIGESTED = 4096
MAX_SIDE = 96
RULE = "the {shown} of them that {teacher} is most certain of: its first probability less its second, the largest first"

Record = dict[str, Any]
Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Predictions:
    """Test logits of every variant, memory-mapped, `[images, classes]`, and the data that they are of."""

    data: ImageData
    logits: Mapping[str, Logits]

    @classmethod
    def read(cls, plan: Plan, store: Store) -> Predictions:
        """Those of a plan all of whose variants are in the store."""
        paths = {unit.id: store.path(unit.key) / "test_logits.npy" for unit in plan.variants}
        logits = {name: np.load(path, mmap_mode="r") for name, path in paths.items()}
        return cls(prepare(plan.recipe.data, store, plan.recipe.seed), logits)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Right answers, `[images]`."""
        assert self.data.test.labels is not None
        return np.asarray(self.data.test.labels)

    @cached_property
    def answers(self) -> dict[str, NDArray[np.int64]]:
        """Most probable class by variant, `[images]`."""
        return {name: logits.argmax(1) for name, logits in self.logits.items()}

    @cached_property
    def right(self) -> dict[str, NDArray[np.bool_]]:
        """Whether the answer is right, by variant, `[images]`."""
        return {name: own == self.labels for name, own in self.answers.items()}

    def paired(self, reference: str) -> dict[str, tuple[int, int, int]]:
        """Per variant: test images that only the reference gets right, that only the variant does, and all."""
        base = self.right[reference]
        return {n: (int((base & ~own).sum()), int((~base & own).sum()), len(base)) for n, own in self.right.items()}


def bits(right: NDArray[np.bool_]) -> str:
    """One bit an image, the first image the highest bit of the first byte, in hexadecimal digits."""
    return np.packbits(right).tobytes().hex()


def digest_of(test: Split) -> str:
    """SHA-256 of the shape, of all labels, and of at most 4,096 images, evenly spaced: the same where the images are.

    Not of all pixels, so that a large test split does not hold a second run up.
    """
    digest = hashlib.sha256(repr(test.images.shape).encode())
    digest.update(np.asarray(test.labels, np.int64).tobytes())
    count = min(len(test.images), MAX_DIGESTED)
    for row in np.linspace(0, len(test.images) - 1, count).astype(int):
        digest.update(test.images[row].tobytes())
    return digest.hexdigest()


def class_changes(answered: Predictions, reference: str) -> list[Record]:
    """By variant: which classes it answers worse or better than the reference, and which answers moved.

    Returns:
        [{reference, variant, classes: [{class, images, reference_correct, variant_correct, only_reference,
        only_variant, difference, difference_ci95}], classes_left_out, moves: [{class, reference_said, variant_said,
        images}], moves_left_out}]. Classes on which nothing changed are not among `classes`; those that changed most
        come first. `difference` is positive where the variant is worse.
    """
    others = [name for name in answered.logits if name != reference]
    return [_changes(answered, reference, variant) for variant in others]


def _changes(answered: Predictions, reference: str, variant: str) -> Record:
    names, labels = answered.data.classes, answered.labels
    base, own = answered.right[reference], answered.right[variant]

    def by_class(rows: NDArray[np.bool_]) -> list[int]:
        return [int(count) for count in np.bincount(labels[rows], minlength=len(names))]

    total, theirs, ours = by_class(np.ones_like(base)), by_class(base), by_class(own)
    lost, gained = by_class(base & ~own), by_class(~base & own)
    changed = sorted(
        (k for k in range(len(names)) if lost[k] + gained[k]), key=lambda k: (-abs(lost[k] - gained[k]), k)
    )
    classes = []
    for k in changed[:MAX_CLASSES]:
        found = paired_difference(lost[k], gained[k], total[k])
        classes.append(
            {
                "class": names[k],
                "images": total[k],
                "reference_correct": theirs[k],
                "variant_correct": ours[k],
                "only_reference": lost[k],
                "only_variant": gained[k],
                "difference": found.difference,
                "difference_ci95": [found.low, found.high],
            }
        )
    moves = _moves(answered, reference, variant)
    return {
        "reference": reference,
        "variant": variant,
        "classes": classes,
        "classes_left_out": len(changed) - len(classes),
        "moves": moves[:MAX_MOVES],
        "moves_left_out": len(moves) - len(moves[:MAX_MOVES]),
    }


def _moves(answered: Predictions, reference: str, variant: str) -> list[Record]:
    """Of images on which the two differ: (label, the one's answer, the other's), the most frequent first."""
    names = answered.data.classes
    before, after = answered.answers[reference], answered.answers[variant]
    rows = before != after
    triples = np.stack([answered.labels[rows], before[rows], after[rows]], axis=1)
    found, counts = np.unique(triples, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    said = ("class", "reference_said", "variant_said")
    return [
        {**{key: names[k] for key, k in zip(said, found[row], strict=True)}, "images": int(counts[row])}
        for row in order
    ]


def disagreements(answered: Predictions, teacher: str, student: str) -> Record:
    """Test images on which two variants answer differently: how many, and a dozen of them.

    Returns:
        {teacher, student, images, of, rule, examples: [{image, label, teacher: {class, probability}, student: {class,
        probability}, thumbnail}]}. `image` is its row in the test split, probabilities are the softmax of the stored
        logits, `thumbnail` is a data URI of WebP, at most 96 pixels wide and high.
    """
    differ = np.flatnonzero(answered.answers[teacher] != answered.answers[student])
    theirs, ours = (softmax(answered.logits[name][differ]) for name in (teacher, student))
    first_two = np.sort(theirs, axis=1)[:, -2:]
    chosen = np.argsort(first_two[:, 0] - first_two[:, -1], kind="stable")[:EXAMPLES]
    examples = []
    for row in chosen:
        image = int(differ[row])
        examples.append(
            {
                "image": image,
                "label": answered.data.classes[answered.labels[image]],
                "teacher": _said(answered, theirs[row]),
                "student": _said(answered, ours[row]),
                "thumbnail": thumbnail(answered.data.test.images[image]),
            }
        )
    return {
        "teacher": teacher,
        "student": student,
        "images": len(differ),
        "of": len(answered.labels),
        "rule": RULE.format(shown=len(examples), teacher=teacher),
        "examples": examples,
    }


def _said(answered: Predictions, probabilities: NDArray[np.float64]) -> Record:
    best = int(probabilities.argmax())
    return {"class": answered.data.classes[best], "probability": float(probabilities[best])}


def thumbnail(pixels: NDArray[np.uint8]) -> str:
    """A data URI of WebP of uint8 `[3, h, w]`, made smaller where a side has more than 96 pixels."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    with io.BytesIO() as out:
        image.save(out, "WEBP", quality=80, method=4)
        return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()
