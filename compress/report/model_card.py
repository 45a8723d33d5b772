"""`model_card.md`: the report with the front matter that the Hugging Face Hub reads from a model's `README.md`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from compress.report import formats as f
from compress.report.formats import field
from compress.report.headline import answer

_TAGS = {
    "distill": "knowledge-distillation",
    "prune": "pruning",
    "sparsify": "sparsity",
    "quantize": "quantization",
}
LICENSE = "# license: yours to state, e.g. apache-2.0; https://huggingface.co/docs/hub/model-cards has the names"


def model_card(results: Mapping[str, Any], text: str) -> str:
    """The report as Markdown, `text`, with the front matter before it."""
    return f"{front_matter(results)}\n{text}"


def front_matter(results: Mapping[str, Any]) -> str:
    """YAML between two lines of dashes: what the model is for, its methods, and the final variant's results.

    The final variant is that of the answer; without one, the last. It holds what was measured and nothing else, and no
    license: that is for the person to state who publishes.
    """
    import yaml

    variants = results.get("variants") or []
    by_id = {variant.get("id"): variant for variant in variants}
    final = by_id.get(answer(results).variant) or (variants[-1] if variants else {})
    kinds = dict.fromkeys(_TAGS[v["kind"]] for v in _line_of(final, by_id) if v.get("kind") in _TAGS)
    card: dict[str, Any] = {
        "library_name": "compress-model",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "model-compression", *kinds],
        "metrics": ["accuracy"],
    }
    if field(final, "accuracy", "top1") is not None:
        card["model-index"] = [_model(results, final)]
    text = yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{LICENSE}\n{text}---\n"


def _line_of(variant: Mapping[str, Any], by_id: Mapping[Any, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """A variant and its ancestors; ends where one would come again."""
    line: list[Mapping[str, Any]] = []
    at: Mapping[str, Any] | None = variant
    while at and all(at is not other for other in line):
        line.append(at)
        at = by_id.get(at.get("parent"))
    return line[::-1]


def _model(results: Mapping[str, Any], final: Mapping[str, Any]) -> dict[str, Any]:
    data = _name(field(results, "data", "name") or "unknown")
    recipe = _name(field(results, "recipe", "name") or "run")
    measured = [("accuracy", "Top-1 accuracy", field(final, "accuracy", "top1"))]
    measured += [
        ("macs", "Multiply-accumulates per image", field(final, "inference", "macs")),
        ("model_size", "Bytes of the weights", field(final, "inference", "bytes")),
    ]
    return {
        "name": f"{recipe}-{_name(final.get('id'))}",
        "results": [
            {
                "task": {"type": "image-classification", "name": "Image classification"},
                "dataset": {"type": data, "name": data, "split": f.text(field(final, "accuracy", "split") or "test")},
                "metrics": [
                    {"type": kind, "name": name, "value": value} for kind, name, value in measured if value is not None
                ],
            }
        ],
    }


def _name(text: Any) -> str:
    """Letters, digits and what joins them: elsewhere than at the head of a card, front matter is read as Markdown."""
    return re.sub(r"[^\w.+-]+", "-", f.plain(text))
