"""`model_card.md`: the report below the front matter that the Hugging Face Hub reads from a model's `README.md`."""

from __future__ import annotations

import re

from compress.efficiency.files import name_of
from compress.report import formats as f
from compress.report.lineage import ancestry, hub_tag
from compress.report.tables import variants_by_id
from compress.results import HeadlineFile, RunRecord, Variant

LICENSE = "# license: yours to state, e.g. apache-2.0; https://huggingface.co/docs/hub/model-cards has the names"


def model_card(record: RunRecord, text: str) -> str:
    """Put the front matter before the report in Markdown, `text`."""
    return f"{front_matter(record)}\n{text}"


def front_matter(record: RunRecord, variant: Variant | None = None, library: str = "compress-model") -> str:
    """Write the task, the methods and the results of a variant as YAML between two lines of dashes.

    Without a `variant` it is the final one: that of the headline, with the file to deploy, or else the last. `library`
    loads the model. Only measured results are listed, and no license: whoever publishes the model states it.
    """
    import yaml

    by_id = variants_by_id(record)
    last = record.variants[-1] if record.variants else None
    final = variant or by_id.get(record.headline.variant or "") or last
    line = reversed(ancestry(final, by_id)) if final else ()
    tags = dict.fromkeys(tag for variant in line if (tag := hub_tag(variant.kind)))
    card: dict[str, object] = {
        "library_name": library,
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "model-compression", *tags],
        "metrics": ["accuracy"],
    }
    if final:
        file = record.headline.file if variant is None and final.id == record.headline.variant else None
        card["model-index"] = [_model(record, final, file)]
    text = yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{LICENSE}\n{text}---\n"


def _model(record: RunRecord, final: Variant, file: HeadlineFile | None) -> dict[str, object]:
    """List the results of a file of a variant; without one, of its network in PyTorch."""
    data, where = _name(record.data.name or "unknown"), f" in {f.plain(name_of(file))}" if file else ""
    measured = (
        ("accuracy", f"Top-1 accuracy{where}", file.top1 if file else final.accuracy.top1),
        ("macs", "Multiply-accumulates per image", final.inference.macs),
        (
            "model_size",
            "Bytes of the file" if file else "Bytes of the weights",
            file.bytes if file else final.inference.bytes,
        ),
    )
    return {
        "name": model_name(record, final),
        "results": [
            {
                "task": {"type": "image-classification", "name": "Image classification"},
                "dataset": {"type": data, "name": data, "split": f.plain(final.accuracy.split)},
                "metrics": [{"type": kind, "name": name, "value": value} for kind, name, value in measured],
            }
        ],
    }


def model_name(record: RunRecord, variant: Variant) -> str:
    """Return the name of a variant's model in a card."""
    return f"{_name(record.recipe.name or 'run')}-{_name(variant.id)}"


def _name(text: str) -> str:
    """Keep letters, digits and joining marks: front matter below the head of a file is read as Markdown."""
    return re.sub(r"[^\w.+-]+", "-", f.plain(text))
