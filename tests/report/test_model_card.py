"""`model_card.md` is a model card that the Hub's own client can read; `report.md` has no front matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from results_factory import derive, right, savings_of

from compress.report import render_markdown, write_report
from compress.report.model_card import front_matter, model_card
from compress.results import RunRecord

typed = RunRecord.model_validate


def test_hub_client_reads_the_final_variant(results: dict[str, Any]) -> None:
    hub = pytest.importorskip("huggingface_hub")
    record = typed(results)
    card = hub.ModelCard(model_card(record, render_markdown(record)))
    assert card.data.model_name == "quickstart-int8"
    (accuracy,) = (found for found in card.data.eval_results if found.metric_type == "accuracy")
    assert (accuracy.metric_value, accuracy.dataset_name, accuracy.dataset_split) == (0.8172, "cifar10-sample", "test")
    assert card.data.license is None
    assert {"knowledge-distillation", "pruning", "quantization"} <= set(card.data.tags)
    assert card.text.strip() == render_markdown(record).strip()


def test_final_variant_has_the_figures_of_the_file_to_deploy(results: dict[str, Any]) -> None:
    for file in results["variants"][4]["artifacts"]:
        file |= {"top1": 0.8, "bytes": 1234, "right": right(2000)}
    results["efficiency"] = [savings_of(results, "distilled", 0.2)]
    record = derive(results)
    path = record.headline.file.path if record.headline.file else None
    assert path == "artifacts/int8/openvino/model.xml"

    def metrics(text: str) -> list[tuple[str, float]]:
        (found,) = yaml.safe_load(text.strip("-\n"))["model-index"][0]["results"]
        return [(metric["name"], metric["value"]) for metric in found["metrics"]]

    assert metrics(front_matter(record))[::2] == [("Top-1 accuracy in openvino", 0.8), ("Bytes of the file", 1234)]
    weights = metrics(front_matter(record, record.variants[4]))
    assert weights[::2] == [("Top-1 accuracy", 0.8172), ("Bytes of the weights", 4_490_000)]


def test_report_has_no_front_matter(results: dict[str, Any], tmp_path: Path) -> None:
    write_report(typed(results), tmp_path)
    report, card = ((tmp_path / name).read_text() for name in ("report.md", "model_card.md"))
    assert report.startswith("# quickstart\n") and "license:" not in report
    assert card == front_matter(typed(results)) + "\n" + report
    assert len(report) < 65_536, "GitHub's longest comment"


def test_tags_are_those_of_the_variants_lineage(results: dict[str, Any]) -> None:
    results["efficiency"], results["variants"] = [], results["variants"][:2]
    tags = yaml.safe_load(front_matter(typed(results)).strip("-\n"))["tags"]
    assert tags == ["image-classification", "model-compression"]


def test_hostile_names_stay_inside_the_front_matter(results: dict[str, Any]) -> None:
    results["recipe"]["name"] = "a\n---\n<script>"
    results["variants"][4]["parent"] = "int8"
    text = front_matter(typed(results))
    assert text.splitlines().count("---") == 2 and "<" not in text
    assert front_matter(typed(results | {"variants": [], "efficiency": []})).startswith("---\n")
