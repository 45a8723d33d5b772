"""What was seen of a person's images: in a few lines for that person, and as plain data."""

from __future__ import annotations

from typing import Any

from compress.recipe.data import FileData
from compress.scaffold.survey import Survey
from compress.utils.messages import clean


def survey_lines(settings: FileData, survey: Survey) -> list[str]:
    """What was seen, for a person."""
    train, classes = survey.counts["train"], survey.classes
    most, least = max(train), min(train)
    parts = ", ".join(f"{sum(counts):,} {part}" for part, counts in survey.counts.items())
    if settings.test is not None:
        parts += f", of which {settings.test:.0%} are cut off for test"
    order = sorted(range(len(classes)), key=lambda number: -train[number])
    shown = order if len(order) <= 8 else [*order[:4], *order[-3:]]
    names = [f"{clean(classes[number])} {train[number]:,}" for number in shown]
    if len(order) > 8:
        names.insert(4, "...")
    sides = sorted(survey.short_sides)
    lines = [
        f"{clean(settings.path)}: {len(classes)} classes, {parts}",
        f"  train images: {', '.join(names)}",
        f"  shorter side: {sides[0]:,} to {sides[-1]:,} pixels, half of them {sides[len(sides) // 2]:,} or more"
        + (f"; {survey.grey:,} are grey" if survey.grey else ""),
    ]
    if survey.looked < survey.total:
        lines.append(f"  {survey.looked:,} of {survey.total:,} images were looked at")
    if survey.broken:
        more = len(survey.broken) - 1
        also = f", and {more:,} more cannot be read; they are skipped" if more else " cannot be read; it is skipped"
        lines.append(f"  {_broken(survey.broken[0])}{also}")
    if most > 5 * least:
        lines.append(
            f"  classes are uneven, {most / least:.0f} to 1: look at each class's accuracy, `evaluate --per-class`"
        )
    if survey.copies:
        lines.append(f"  {survey.copies:,} are copies of others, byte for byte" + _copies(settings, survey))
    return lines


def survey_record(settings: FileData, survey: Survey) -> dict[str, Any]:
    """The same for machines.

    Returns:
        {source, path, images, looked_at, classes: {name: {part: images}}, unlabeled, short_side: {least, median, most}
        (pixels), grey, broken: ["name (reason)"], copies, contradictions, leaks, test_share}; the last is null where
        there is a test split.
    """
    labelled = {part: counts for part, counts in survey.counts.items() if part != "unlabeled"}
    sides = sorted(int(side) for side in survey.short_sides)
    return {
        "source": settings.source,
        "path": settings.path,
        "images": survey.total,
        "looked_at": survey.looked,
        "classes": {
            name: {part: counts[number] for part, counts in labelled.items()}
            for number, name in enumerate(survey.classes)
        },
        "unlabeled": sum(survey.counts.get("unlabeled", ())),
        "short_side": {"least": sides[0], "median": sides[len(sides) // 2], "most": sides[-1]},
        "grey": survey.grey,
        "broken": list(survey.broken),
        "copies": survey.copies,
        "contradictions": survey.contradictions,
        "leaks": survey.leaks,
        "test_share": settings.test,
    }


def _broken(text: str) -> str:
    """The name of a broken image and the reason, each as it may be printed."""
    name, _, reason = text.partition(" (")
    return f"{clean(name)} ({clean(reason)}"


def _copies(settings: FileData, survey: Survey) -> str:
    words = ""
    if survey.contradictions:
        words += f"; {survey.contradictions:,} of them lie in several classes, so that some labels are wrong"
    if survey.leaks:
        words += f"; {survey.leaks:,} of validation or test are train images too, so that accuracy will be flattered"
    elif settings.test is not None:
        words += "; the test split keeps copies together"
    return words
