"""The survey of the user's images as printed lines and as JSON."""

from __future__ import annotations

from dataclasses import asdict

from compress.data.left_out import left_out_line
from compress.recipe.data import FileData
from compress.scaffold.choices import Choices
from compress.scaffold.detect import tables_left_out
from compress.scaffold.own_model import OwnWeights
from compress.scaffold.survey import Leaks, Survey, imbalance
from compress.utils.messages import join_words, one_line, truncate_list

MAX_CLASSES = 8  # that are printed; of more, the four largest and the three smallest


def survey_lines(settings: FileData, survey: Survey) -> list[str]:
    """Return the survey as lines for a terminal."""
    splits = ", ".join(f"{sum(counts):,} {part}" for part, counts in survey.counts.items())
    if settings.test is not None:
        splits += f", {settings.test:.0%} of them held out for test"
    least, median, most = _short_side(survey)
    lines = [
        f"{one_line(settings.path)}: {len(survey.classes)} classes, {splits}",
        f"  train images: {', '.join(_class_counts(survey))}",
        f"  shorter side: {least:,} to {most:,} pixels, median {median:,}"
        + (f"; {survey.grey:,} images are grey" if survey.grey else ""),
    ]
    if survey.looked_at < survey.total:
        lines.append(f"  inspected {survey.looked_at:,} of {survey.total:,} images, evenly spaced")
    if survey.left_out:
        lines.append(f"  left out: {left_out_line(survey.left_out)}")
    lines += [f"  left out: {line}" for line in tables_left_out(settings)]
    lines += [f"  note: {note}" for note in survey.notes]
    return lines + [f"  warning: {warning}" for warning in _warnings(settings, survey)]


def model_line(own: OwnWeights) -> str:
    """Return what was recognised of an own model as a line for a terminal."""
    names = f" ({truncate_list(own.classes)})" if own.classes else ""
    notes = "".join(f"; {note}" for note in own.notes)
    preprocess = own.preprocess
    pixels = f"Resize({preprocess.resize}) and CenterCrop({preprocess.resolution}), {preprocess.interpolation}"
    usual = "" if {"resolution", "crop_pct"} <= set(own.stored) else ", as usual: check it in the recipe"
    return f"model: {own.library}/{own.model} with {own.outputs} outputs{names}{notes}; pixels: {pixels}{usual}"


def survey_record(settings: FileData, survey: Survey) -> dict[str, object]:
    """Return the survey as the field `seen` of `init --json`."""
    labelled = {part: counts for part, counts in survey.counts.items() if part != "unlabeled"}
    return {
        "source": settings.source,
        "path": settings.path,
        "images": survey.total,  # of which `looked_at` were opened
        "looked_at": survey.looked_at,
        "classes": {
            name: {part: counts[number] for part, counts in labelled.items()}
            for number, name in enumerate(survey.classes)
        },
        "unlabeled": sum(survey.counts.get("unlabeled", ())),
        "short_side": dict(zip(("least", "median", "most"), _short_side(survey), strict=True)),
        "grey": survey.grey,
        "broken": [str(image) for image in survey.broken],
        "large": survey.large,  # images of more pixels than `max_pixels` is by default
        "left_out": [asdict(row) for row in survey.left_out],
        "notes": list(survey.notes),
        "copies": survey.copies,
        "contradictions": survey.contradictions,
        "leaks": survey.leaks.total,
        "test_leaks": survey.leaks.test,
        "test_share": settings.test,
    }


def _short_side(survey: Survey) -> tuple[int, int, int]:
    """Return least, median and most pixels of the shorter sides."""
    sides = sorted(int(side) for side in survey.short_sides)
    return sides[0], sides[len(sides) // 2], sides[-1]


def _class_counts(survey: Survey) -> list[str]:
    """Return `name count` of the classes, largest first, with `...` in place of the middle of many."""
    train = survey.counts["train"]
    order = sorted(range(len(train)), key=lambda number: -train[number])
    shown = [f"{one_line(survey.classes[number])} {train[number]:,}" for number in order]
    return shown if len(shown) <= MAX_CLASSES else [*shown[:4], "...", *shown[-3:]]


def _warnings(settings: FileData, survey: Survey) -> list[str]:
    warnings = []
    if survey.broken:
        first, count = survey.broken[0], len(survey.broken)
        images = "image" if count == 1 else "images"
        warnings.append(
            f"skipping {count:,} unreadable {images}, e.g. {one_line(first.name)} ({one_line(first.reason)})"
        )
    if survey.large:
        images = "image has" if survey.large == 1 else "images have"
        warnings.append(
            f"{survey.large:,} {images} more than {settings.max_pixels:,} pixels; the recipe's `max_pixels` admits them"
        )
    validation = survey.counts.get("validation", [1] * len(survey.classes))
    absent = [name for name, count in zip(survey.classes, validation, strict=True) if not count]
    if absent:
        warnings.append(
            f"no validation image of {truncate_list(absent)}: checkpoint selection ignores it; add some, or remove the "
            "validation split, and a share of the train images is held out"
        )
    if ratio := imbalance(survey):
        metric = "the recipe compares balanced accuracy (`worth.metric`)"
        warnings.append(f"classes are imbalanced, {ratio:.0f} to 1; {metric}")
    if survey.copies:
        warnings.append(f"{survey.copies:,} images are byte-for-byte copies of others{_copies(settings, survey)}")
    return warnings + _leaks(survey.leaks)


def _copies(settings: FileData, survey: Survey) -> str:
    text = ""
    if survey.contradictions:
        text += f"; {survey.contradictions:,} of them are in several classes, so some labels are wrong"
    if settings.test is not None:
        text += "; the test split keeps copies together"
    return text


def _leaks(leaks: Leaks) -> list[str]:
    lines = []
    if leaks.first:
        images = "image is" if leaks.test == 1 else "images are"
        pair = join_words([one_line(name) for name in leaks.first], "and")
        lines.append(
            f"{leaks.test:,} test {images} also in another split, e.g. {pair}: `run` refuses this; remove them from "
            "one split, or see `allow` in the recipe"
        )
    if leaks.validation:
        images = "image is" if leaks.validation == 1 else "images are"
        lines.append(f"{leaks.validation:,} validation {images} also trained on, so checkpoint selection is biased")
    return lines


def choices_record(choices: Choices, own: OwnWeights | None) -> dict[str, object]:
    """Return the settings that a recipe starts with as the field `chosen` of `init --json`."""
    return {
        "resolution": choices.resolution,
        "epochs": choices.epochs,
        "teacher": None if own else choices.reason,
        "model": f"{own.library}/{own.model}" if own else None,
    }
