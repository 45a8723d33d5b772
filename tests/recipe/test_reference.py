"""The shipped recipe reference matches the schema."""

from __future__ import annotations

import re
from pathlib import Path

from compress.recipe.fit import Fit
from compress.recipe.reference import reference
from compress.recipe.schema import Recipe
from compress.stages.prune import PruneStage

SHIPPED = Path(__file__).parents[2] / "recipes" / "REFERENCE.md"


def rows(section: str) -> dict[str, list[str]]:
    text = reference().split(f"## {section}\n")[1].split("\n## ")[0]
    return {
        cells[0].strip("` "): cells for row in re.findall(r"^\| (`.*) \|$", text, re.M) if (cells := row.split(" | "))
    }


def test_shipped_reference_is_up_to_date() -> None:
    assert SHIPPED.read_text() == reference() + "\n", "regenerate it: compress-model schema --markdown"


def test_section_lists_every_key_with_default_and_bounds() -> None:
    fields = {field.alias or name: field for name, field in PruneStage.model_fields.items()}
    assert list(rows("PruneStage")) == list(fields)
    assert rows("PruneStage")["from"][2] == "required" and rows("PruneStage")["round_to"][2] == "`8`"
    assert rows("PruneStage")["rounds"][1] == "integer ≥ 1 and ≤ 100"
    assert rows("PruneStage")["repair"][1] == "[Distillation](#distillation)"
    assert rows("TrainStage")["lr"][3] == Fit.model_fields["lr"].description


def test_links_resolve_and_sections_are_unique() -> None:
    text = reference()
    headings = [heading.lower() for heading in re.findall(r"^## (\w+)$", text, re.M)]
    assert len(headings) == len(set(headings)) and headings[0] == "recipe"
    assert set(re.findall(r"\(#(\w+)\)", text)) <= set(headings)
    assert len(headings) == len(Recipe.model_json_schema()["$defs"]) + 1
