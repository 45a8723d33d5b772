"""Reading the results of a run, and refusing what is not one, in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from results_factory import example, example_record

from compress.results.read import read_run
from compress.utils.errors import UsageError


def write(folder: Path, results: Any) -> Path:
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(UsageError) as refused:
        read_run(folder)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_finished_run_is_read(tmp_path: Path) -> None:
    assert read_run(write(tmp_path, example())) == example_record()


def test_results_of_version_2_are_read_without_what_they_lack(tmp_path: Path) -> None:
    results = example() | {"schema_version": 2}
    del results["quality_changes"]
    for variant in results["variants"]:
        del variant["quality"]
    found = read_run(write(tmp_path, results))
    assert found.quality_changes == () and not any(variant.quality for variant in found.variants)


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (4, "this version reads 2 and 3; upgrade compress-model"),
        (1, "this version reads 2 and 3; run the recipe again"),
    ],
)
def test_another_schema_version_is_refused(tmp_path: Path, version: int, words: str) -> None:
    message = refusal(write(tmp_path, {"schema_version": version, "variants": "of another layout"}))
    assert f"results.json has schema_version {version}" in message and words in message


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ([1], "the whole: Input should be"),
        ({}, "schema_version: Field required"),
        ({"schema_version": "one"}, "schema_version: Input should be 2 or 3"),
        ({**example(), "variants": 7.5}, "variants: Input should be"),
        ({**example(), "run": {"id": "a"}}, "run.started: Field required"),
        ({**example(), "recipe": [1]}, "recipe: Input should be"),
    ],
)
def test_foreign_files_are_refused_with_the_place(tmp_path: Path, results: Any, words: str) -> None:
    message = refusal(write(tmp_path, results))
    assert "does not hold the results of a run" in message and words in message
    assert message.endswith("run the recipe again (finished stages are taken from the store)")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\x00"])
def test_damaged_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    assert "results.json is not JSON" in refusal(tmp_path)


def test_figures_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    results = example()
    results["variants"][0]["inference"]["latency"][0]["p50_ms"] = float("nan")
    assert "variants.0.inference.latency.0.p50_ms" in refusal(write(tmp_path, results))


def test_folders_without_results_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere").endswith("nowhere is not a run: it has no results.json")
    (tmp_path / "log.jsonl").touch()
    assert "is a run that did not finish" in refusal(tmp_path)
    (tmp_path / "results.json").mkdir()
    assert "cannot be read (Is a directory)" in refusal(tmp_path)
