"""Speed and memory that others published have a table of their own, and no part in anything that was measured."""

from __future__ import annotations

from typing import Any

from compress.recipe import load_recipe
from compress.report import render_html, render_markdown
from compress.report.published import published_tables
from compress.results import RunRecord

SETTING = {"device": "Jetson Orin Nano", "setting": "TensorRT, FP16, batch 8", "source": "https://example.org"}
TEACHER = SETTING | {"model": "ViT", "images_per_s": 335.816, "latency_ms": 23.82, "memory_mb": 1087}
STUDENT = SETTING | {"model": "ResNet18", "images_per_s": 1420.2, "latency_ms": None, "memory_mb": 315}


def test_published_rows_are_compared_within_their_setting_only(results: dict[str, Any]) -> None:
    results["variants"][0]["published_inference"] = [TEACHER]
    results["variants"][2]["published_inference"] = [STUDENT, STUDENT | {"setting": "TensorRT, INT8, batch 8"}]
    results["variants"][3]["published_inference"] = [STUDENT | {"images_per_s": 12_345}]
    record = RunRecord.model_validate(results)
    (table,) = published_tables(record)
    assert table.title == "Published by others, not measured here"
    figures = [row[4:8] for row in table.rows]
    assert figures == [
        ("335.8", "1.00×", "23.8 ms", "1.09 GB"),
        ("1,420", "4.23×", "not stated", "315 MB"),
        ("1,420", "1.00×", "not stated", "315 MB"),
        ("12,345", "36.8×", "not stated", "315 MB"),
    ]
    for page in (render_html(record), render_markdown(record)):
        assert table.title in page and "1,420" in page and "example.org" in page


def test_published_rows_change_nothing_else(results: dict[str, Any]) -> None:
    plain = RunRecord.model_validate(results)
    assert published_tables(plain) == [] and "Published by others" not in render_markdown(plain)
    results["variants"][0]["published_inference"] = [TEACHER]
    before, _, after = render_markdown(RunRecord.model_validate(results)).partition("## Published by others")
    assert before + "## " + after.partition("\n## ")[2] == render_markdown(plain)


def test_shipped_recipes_state_the_speed_of_the_openclip_example() -> None:
    for name in ("openclip_resnet18_stl10", "jetson_example/embedding"):
        stated = [stage.published for stage in load_recipe(name).stages if stage.published]
        teacher, student = (row for published in stated for row in published.inference)
        assert (teacher.images_per_s, teacher.latency_ms, teacher.memory_mb) == (335.816, 23.82, 1087)
        assert (student.images_per_s, student.latency_ms, student.memory_mb) == (1420.2, 5.97, 315)
        assert teacher.device == student.device and teacher.setting == student.setting
