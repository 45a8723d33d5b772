"""The section `data` of a first recipe, and its name."""

from __future__ import annotations

import json
import re
from pathlib import Path

from compress.data.arrow import ArrowData
from compress.data.csv_file import TABLES, CsvData
from compress.data.expected import decoding_bytes
from compress.data.image_io import exists
from compress.data.patterns import fixed_folder, is_pattern
from compress.data.webdataset import WebData
from compress.recipe.data import FileData
from compress.recipe.schema import RESERVED
from compress.recipe.yaml_tree import scalar
from compress.scaffold.choices import Choices, Machine
from compress.scaffold.survey import Survey
from compress.utils.console import size_text
from compress.utils.errors import UsageError
from compress.utils.messages import one_line

MIN_CROPPED = 96  # pixels below which crops of 8% of the area show too little


def quoted(text: str) -> str:
    """Return text as a YAML scalar: plain if it reads back as itself, else quoted; a `UsageError` if not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{one_line(text)}: the name is not UTF-8, so a recipe cannot hold it; rename it") from error
    plain = re.fullmatch(r"[A-Za-z0-9_./][A-Za-z0-9_./ -]*", text) and text == text.strip()
    return text if plain and isinstance(scalar(text), str) else json.dumps(text, ensure_ascii=not text.isprintable())


def recipe_name(path: str) -> str:
    """Derive the recipe's name from the path of the data: from the folder of tables, and of a pattern."""
    where = Path(path)
    if is_pattern(where) and not exists(where):
        where = Path(fixed_folder(where))
    elif where.suffix.lower() in TABLES:
        where = where.parent
    stem = where.resolve().name.partition(".")[0]
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:64]
    return name if name and name.lower() not in RESERVED and isinstance(scalar(name), str) else "photos"


def data_lines(settings: FileData, survey: Survey, machine: Machine, resolution: int, *, trained: bool) -> list[str]:
    """Return the section `data` of a recipe; `trained` says that its model has been trained elsewhere."""
    lines = ["data:", f"  source: {settings.source}", f"  path: {quoted(settings.path)}"]
    if isinstance(settings, CsvData | ArrowData | WebData):
        columns = {name: getattr(settings, name, None) for name in ("image", "label", "split")}
        lines += [f"  {name}: {quoted(column)}" for name, column in columns.items() if column is not None]
    lines.append(f"  resolution: {resolution} # pixels; time grows with its square")
    if settings.test is not None:
        seen = "; has your model seen these images? Then add a folder `test` that it has not" if trained else ""
        lines.append(f"  test: {settings.test} # share held out for test, as there is no test split{seen}")
    if "validation" not in survey.counts:
        lines.append("  validation: 0.1 # share of the train images held out for checkpoint selection")
    needed = decoding_bytes(survey.total, resolution)
    if needed > machine.free_bytes and not survey.sequential:
        space = f"{size_text(needed)} while they are decoded, of {size_text(machine.free_bytes)} that are free"
        lines.append(f"  images: files # decode batches when they are needed: as pixels, all need {space}")
    if survey.large:
        lines.append(f"  max_pixels: {survey.max_pixels} # of the largest image; {survey.large} have more than usual")
    if survey.looked_at < survey.total and not survey.broken:
        of = f"{survey.looked_at:,} of {survey.total:,} images were inspected"
        lines.append(f"  # broken: skip # only {of}; an unreadable one among the others stops `run`")
    if survey.broken:
        lines.append(f"  broken: skip # {len(survey.broken)} images are unreadable; `refuse` stops at the first")
    return lines


def augmentation_lines(choices: Choices, machine: Machine) -> list[str]:
    """Return the prompts and views of the section `data`."""
    lines = []
    if choices.teacher:
        lines.append('  templates: ["a photo of a {}.", "a blurry photo of a {}.", "a close-up photo of a {}."]')
        lines.append("  # prompts: {CLASS: its name in words} # for classes whose folder has another name")
    if machine.gpu and choices.resolution >= MIN_CROPPED:
        return [*lines, "  views: standard # augmentation: random-resized-crop, flip and colour; or light, strong"]
    return [*lines, "  views: light # augmentation: shift, flip, brightness and contrast; or standard, strong"]
