"""Train, unlabeled, validation and test splits of a source, and which train labels are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from compress.data.digests import pixel_digests
from compress.data.held_out import HeldOut
from compress.data.layout import LABELLED
from compress.data.listing import Listing
from compress.data.source import Digests, Labels, Part, Raw, Rows
from compress.recipe.data import DataSection, FileData
from compress.utils.console import task
from compress.utils.errors import CompressError, UsageError
from compress.utils.messages import one_line, truncate_list

Pieces = list[tuple[Part, Rows]]
HELD_OUT = "held_out"  # the split of test images of classes that are held out; only where there are any


def split_parts(raw: Raw, settings: DataSection, seed: int) -> dict[str, Pieces]:
    """Decide which rows of which parts make up each split, in the order of the source.

    Test is the source's own, or is cut from train by the digests of the image files, so that it depends on neither the
    seed nor how images are decoded, with copies kept together. Validation is the source's own, or is cut from train
    class by class. With `labeled: N`, train keeps N labels, class-balanced (a remainder goes to classes drawn by the
    seed), and validation is cut as a share of N. All other train images lose their labels and follow the source's own
    unlabelled ones. Labelled images of classes that are held out are in none of these splits; those of test become a
    split of their own.

    Raises:
        UsageError: too few labels for the settings.
        CompressError: labels do not match images or classes.
    """
    for name, part in (("train", raw.train), ("validation", raw.validation), ("test", raw.test)):
        if part is not None:
            _check_labels(name, part, len(raw.classes))
    classes = HeldOut.of(settings, raw.classes)
    train, labels = classes.relabelled(raw.train), classes.labels(raw.train)
    cut = raw.validation is None
    test, rest = _cut_test(raw, settings)
    rest = rest[labels[rest] >= 0]
    counts = np.bincount(labels[rest], minlength=len(classes.kept))
    check_counts(counts.tolist(), classes.kept, settings, cut=cut)

    rng = np.random.default_rng([seed, 0x5B117])
    order = rest[_balanced_order(labels[rest], len(classes.kept), rng)]
    validation = np.empty(0, np.int64)
    if cut:
        wanted = _validation_counts(counts, settings)
        validation = np.concatenate([order[labels[order] == name][-wanted[name] :] for name in range(len(wanted))])
        order = order[~np.isin(order, validation)]
    kept, hidden = (order, order[:0]) if settings.labeled is None else np.split(order, [settings.labeled])

    own = [] if raw.unlabeled is None else [(raw.unlabeled, np.arange(len(raw.unlabeled.images)))]
    tested = (raw.test, _all(raw.test)) if raw.test else (raw.train, test)
    further: dict[str, Pieces] = {HELD_OUT: [_labelled(classes.held_out(tested[0]), tested[1])]} if classes.held else {}
    return {
        "train": [(train, np.sort(kept))],
        "unlabeled": [*own, (train, np.sort(hidden))] if len(hidden) or not own else own,
        "validation": [
            _labelled(classes.relabelled(raw.validation), _all(raw.validation))
            if raw.validation
            else (train, np.sort(validation))
        ],
        "test": [_labelled(classes.relabelled(tested[0]), tested[1])],
        **further,
    }


def _labelled(part: Part, rows: Rows) -> tuple[Part, Rows]:
    """Return a piece without the rows whose classes are in another split."""
    return part, rows[_labels(part)[rows] >= 0]


def split_sizes(listing: Listing, settings: FileData) -> dict[str, int]:
    """Return the number of images of each split, if no file is broken and no two images are the same."""
    own = {name: part.count for name, part in listing.parts.items()}
    counts = {name: listing.counts(name) for name in LABELLED if name in own}
    return sizes_of(own, counts, listing.classes, settings)


def sizes_of(
    parts: Mapping[str, int], by_class: Mapping[str, Sequence[int]], classes: Sequence[str], settings: FileData
) -> dict[str, int]:
    """Return the number of images of each split of a source from those of its parts, and of each class in them."""
    own, kept, counts = dict(parts), HeldOut.of(settings, classes).kept_rows, by_class["train"]
    if "test" not in own and settings.test:
        left_over = counts_after_test(counts, classes, settings.test)
        tested: Sequence[int] = [count - rest for count, rest in zip(counts, left_over, strict=True)]
        counts = left_over
    else:
        tested = by_class.get("test", ())
    if tested:
        own["test"] = sum(tested[row] for row in kept)
    if settings.held_out:
        own[HELD_OUT] = sum(tested) - own["test"]
        if "validation" in own:
            own["validation"] = sum(by_class["validation"][row] for row in kept)
    counts = [counts[row] for row in kept]
    if "validation" not in own:
        own["validation"] = int(_validation_counts(np.array(counts), settings).sum())
        counts = [sum(counts) - own["validation"]]
    left = sum(counts)
    train = min(left, settings.labeled or left)
    return {**own, "train": train, "unlabeled": own.get("unlabeled", 0) + left - train}


def counts_after_test(counts: Sequence[int], classes: Sequence[str], share: float) -> tuple[int, ...]:
    """Number of images of each class after a test split of `share`; a class without any is a `UsageError`."""
    left = tuple(count - test_count(count, share) for count in counts)
    short = [f"{name} ({count})" for name, count, rest in zip(classes, counts, left, strict=True) if rest < 1]
    if short:
        raise UsageError(
            f"data.test {share} leaves no train image of {truncate_list(short)}; every class needs at least one each "
            "for train, validation and test"
        )
    return left


def test_count(count: int, share: float) -> int:
    """Number of images of a class that go to a test split of `share`."""
    return max(round(count * share), 1)


def _cut_test(raw: Raw, settings: DataSection) -> tuple[Rows, Rows]:
    """Rows of train that become the test split (none if the source has one), and the other rows."""
    labels = _labels(raw.train)
    if raw.test is not None:
        return np.empty(0, np.int64), np.arange(len(labels))
    share = settings.test if isinstance(settings, FileData) else None
    assert share, "a source without a test split is refused without it"
    counts_after_test(np.bincount(labels, minlength=len(raw.classes)).tolist(), raw.classes, share)
    seen = _digests(raw.train)
    taken = []
    for number in range(len(raw.classes)):
        rows = np.flatnonzero(labels == number)
        taken.append(rows[np.argsort(seen[rows], kind="stable")][: test_count(len(rows), share)])
    is_test = np.isin(seen, seen[np.concatenate(taken)])  # with all copies, of other classes too
    for number, name in enumerate(raw.classes):
        if is_test[labels == number].all():
            raise UsageError(
                f"data.test {share} leaves no train image of {one_line(name)}: too many of its "
                f"{(labels == number).sum()} are the same"
            )
    return np.flatnonzero(is_test), np.flatnonzero(~is_test)


def _digests(part: Part) -> Digests:
    """SHA-256 of the file of each image; of its pixels for a source that has no files."""
    if part.digests is not None:
        return part.digests
    with task("comparing images for the test split", len(part.images)) as advance:
        return np.array(list(pixel_digests(part.images, advance)), "S32")


def _check_labels(name: str, part: Part, classes: int) -> None:
    labels = _labels(part)
    if labels.shape != (len(part.images),):
        raise CompressError(f"data: {name} has {len(part.images):,} images and labels of shape {list(labels.shape)}")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        row = wrong[0]
        more = f" ({len(wrong):,} such labels)" if len(wrong) > 1 else ""
        raise CompressError(
            f"data: image {row} of {name} has the label {labels[row]}, and the classes are 0 to {classes - 1}{more}"
        )


def check_counts(counts: Sequence[int], classes: Sequence[str], settings: DataSection, *, cut: bool) -> None:
    """Raise a `UsageError` for too few labelled train images, which validation is `cut` from as well."""
    total = sum(counts)
    held = 0
    if cut:
        if settings.validation == 0:
            raise UsageError(
                "data.validation is 0, and this source has no validation split of its own; give a share above 0, since "
                "nothing may be selected on the test images"
            )
        wanted = _validation_counts(np.asarray(counts), settings)
        held = int(wanted.sum())
        short = [
            f"{name} ({count})"
            for name, count, cut_off in zip(classes, counts, wanted, strict=True)
            if count <= cut_off
        ]
        if short:
            raise UsageError(
                f"data.validation {settings.validation} leaves no train image of {truncate_list(short)}; "
                "give a smaller share, more images, or a validation split of its own"
            )
    if settings.labeled is None:
        return
    if settings.labeled < len(classes):
        raise UsageError(
            f"data.labeled is {settings.labeled}, fewer than the {len(classes)} classes; give at least one per class"
        )
    if settings.labeled + held > total:
        beside = f" plus {held:,} for validation" if held else ""
        raise UsageError(
            f"data.labeled is {settings.labeled:,}{beside}, but the source has {total:,} labelled train images; give "
            "fewer"
        )


def _validation_counts(counts: NDArray[np.int64], settings: DataSection) -> NDArray[np.int64]:
    """Images of each class that are cut off for validation, at least one."""
    total = int(counts.sum())
    share = settings.validation * min(settings.labeled or total, total) / max(total, 1)
    wanted: NDArray[np.int64] = np.maximum(np.rint(counts * share), 1).astype(np.int64)
    return wanted


def _balanced_order(labels: Labels, classes: int, rng: np.random.Generator) -> Rows:
    """All rows with the classes interleaved, so that the first N are class-balanced for every N."""
    rank = np.empty(len(labels), np.int64)
    for name in range(classes):
        rows = rng.permutation(np.flatnonzero(labels == name))
        rank[rows] = np.arange(len(rows))
    turn = rng.permutation(classes)
    return np.lexsort((turn[labels], rank))


def _labels(part: Part) -> Labels:
    assert part.labels is not None, "train images of a source have labels"
    return part.labels


def _all(part: Part) -> Rows:
    return np.arange(len(part.images))
