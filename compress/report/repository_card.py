"""`README.md` of a repository on the Hugging Face Hub: how to load the variant in it, and its figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from compress.efficiency.files import name_of
from compress.report import formats as f
from compress.report.lineage import ancestry
from compress.report.model_card import front_matter, model_name
from compress.report.tables import variants_by_id
from compress.results import RunRecord, Variant

MAX_CLASSES = 100  # that a card names; `config.json` has all
BY_TIMM = """\
import timm, torch
from PIL import Image

model = timm.create_model("hf-hub:{repository}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
probabilities = model(transform(Image.open("image.jpg").convert("RGB")).unsqueeze(0)).softmax(-1)
"""
BY_LOADER = """\
import sys
from huggingface_hub import snapshot_download
from PIL import Image

sys.path.insert(0, snapshot_download("{repository}"))
from load_model import load_model, load_transform

model, transform = load_model(), load_transform()
probabilities = model(transform(Image.open("image.jpg").convert("RGB")).unsqueeze(0)).softmax(-1)
"""


def repository_card(
    record: RunRecord,
    variant: Variant,
    repository: str,
    packages: Sequence[str],
    *,
    by_timm: bool,
    notes: Sequence[str],
) -> str:
    """Write the model card of a variant.

    Args:
        record: Results of the run.
        variant: The variant.
        repository: OWNER/NAME on the hub.
        packages: What loading it needs besides torch.
        by_timm: Whether timm loads it without the loader.
        notes: What else its users have to know, a sentence each.
    """
    loads = (
        f"timm's `hf-hub:{repository}`" if by_timm else "`load_model.py`, because its library alone does not build it"
    )
    lines = [
        front_matter(record, variant, "timm" if by_timm else "pytorch").rstrip("\n"),
        "",
        f"# {model_name(record, variant)}",
        "",
        f"An image classifier of {len(record.data.classes)} classes, loaded by {loads}.",
        "",
        "```",
        f"pip install torch {' '.join(packages)}",
        "```",
        "",
        "```python",
        (BY_TIMM if by_timm else BY_LOADER).format(repository=repository).rstrip("\n"),
        "```",
        *(line for note in notes for line in ("", note)),
        "",
        "## Figures",
        "",
        "| figure | value |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in _figures(record, variant)),
        "",
        "## How it was made",
        "",
        *_lineage(record, variant),
        "",
        f"Classes, in the order of the outputs: {_classes(record)}.",
        "",
        "Made and measured by compress-model.",
        "",
    ]
    return "\n".join(lines)


def _figures(record: RunRecord, variant: Variant) -> Iterator[tuple[str, str]]:
    """Yield name and value of each figure that was measured."""
    accuracy, cost = variant.accuracy, variant.inference
    data = f"{_cell(record.data.name)}, {_cell(accuracy.split)} split of {accuracy.n:,} images"
    yield f"top-1 on {data} (95% interval)", f.accuracy(accuracy.top1, accuracy.ci95)
    yield "multiply-accumulates per image", f.macs(cost.macs)
    yield "parameters", f.count(cost.params)
    yield "size of the weights", f.size(cost.bytes)
    machine = _cell(record.environment.cpu or "unknown processor")
    for row in cost.latency:
        yield (
            f"latency in {_cell(name_of(row))}, batch {row.batch}, {row.threads} threads of {machine}",
            f.milliseconds(row.p50_ms),
        )
    yield "multiply-accumulates of its training, ancestors included", f.macs(variant.training.macs)
    if variant.preprocess:
        yield "preprocessing", _cell(variant.preprocess)


def _lineage(record: RunRecord, variant: Variant) -> Iterator[str]:
    for each in reversed(ancestry(variant, variants_by_id(record))):
        top1 = f.accuracy(each.accuracy.top1, each.accuracy.ci95)
        yield f"- `{_cell(each.id)}`: stage of kind {_cell(each.kind)}, top-1 {top1}, {f.macs(each.inference.macs)}"


def _classes(record: RunRecord) -> str:
    names = [f"`{_cell(name)}`" for name in record.data.classes]
    more = len(names) - MAX_CLASSES
    return ", ".join(names[:MAX_CLASSES]) + (f" and {more} more in `config.json`" if more > 0 else "")


def _cell(text: object) -> str:
    """Plain text in one cell of a table, which ends no code."""
    return f.plain(text).replace("|", "\\|").replace("`", "'").replace("<", "&lt;")
