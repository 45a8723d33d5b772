"""The settings that a first recipe starts with, and its text."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml
from scaffold.folders import LAPTOP, folder, text_for

from compress.data.folder import FolderData
from compress.recipe import parse_recipe
from compress.recipe.json_schema import recipe_schema
from compress.scaffold.choices import Machine, choose
from compress.scaffold.data_section import quoted, recipe_name
from compress.scaffold.detect import detect_source
from compress.scaffold.recipe import SCHEMA, recipe_text, require_writable, write_recipe
from compress.scaffold.survey import survey_images
from compress.utils.errors import UsageError
from compress.utils.system import hub_is_reachable, is_in_hub_cache


def stages(text: str) -> dict[str, Any]:
    return {stage["id"]: stage for stage in yaml.safe_load(text)["stages"]}


def test_teacher_is_one_that_knows_the_classes(tmp_path: Path) -> None:
    unknown, known = folder(tmp_path / "a", robin=8, wren=30), folder(tmp_path / "b", cat=8, Dog=8)
    numbers, many = folder(tmp_path / "c", **{"01": 8, "02": 8}), folder(tmp_path / "d", robin=20, wren=20)
    online = replace(LAPTOP, open_clip=True, student_weights=True)
    assert "teacher" not in stages(text_for(unknown)) and "OpenCLIP's weights cannot be" in text_for(unknown)
    assert stages(text_for(known))["teacher"]["teacher"] == "embedded"
    assert stages(text_for(unknown, online))["teacher"]["teacher"] == "openclip-vit-b-32"
    for path, reason in ((numbers, "the class names are not words"), (many, "there are enough labels")):
        text = text_for(path, online)
        assert stages(text)["teacher"]["teacher"] == {"use": "openclip-vit-b-32", "head": "probe"}
        assert reason in text.replace("\n  # ", " ")


def test_head_of_the_teacher_follows_the_median_class_and_the_names(tmp_path: Path) -> None:
    images = survey_images(detect_source(str(folder(tmp_path, cat=8, dog=8, fox=8))))
    online = replace(LAPTOP, open_clip=True)

    def is_probe(counts: dict[str, list[int]], *classes: str) -> bool:
        teacher = choose(replace(images, counts=counts, classes=classes or images.classes), online).teacher
        assert teacher is not None
        return "head: probe" in teacher

    assert is_probe({"train": [4500, 4500, 15]})  # one rare class does not make it zero-shot
    assert not is_probe({"train": [4500, 15, 15]})
    assert is_probe({"train": [17, 17, 17], "test": [9, 9, 9]}) and not is_probe({"train": [17, 17, 17]})
    few = {"train": [8, 8, 8]}
    for names in (("class1", "class2", "class3"), ("label 1", "label 2", "label 3"), ("type_3", "Type_4", "type_5")):
        assert is_probe(few, *names)
    assert is_probe(few, "grade4", "grade5", "grade6") and is_probe(few, "class_a", "class_b", "class_c")
    assert not is_probe(few, "stage coach", "level crossing", "boeing 737")


def test_student_is_pretrained_with_and_without_a_model_hub(tmp_path: Path) -> None:
    tiny, online = folder(tmp_path / "a", robin=8, wren=8), replace(LAPTOP, student_weights=True)
    trained = stages(text_for(tiny))["trained"]
    assert trained["student"] == {"use": "resnet18-imagenet", "resolution": 64} and trained["lr"] == 0.0005
    published = stages(text_for(tiny, online))["trained"]["student"]
    assert published["pretrained"] is True and published["resolution"] == 64
    settings = detect_source(str(tiny))
    large = replace(survey_images(settings), short_sides=np.full(9, 3000))
    text = recipe_text(settings, large, LAPTOP, choose(large, LAPTOP))
    assert stages(text)["trained"]["student"] == {"use": "resnet18-imagenet"}
    assert parse_recipe(text).stages[0].pretraining() is not None


def test_imbalanced_classes_count_alike(tmp_path: Path) -> None:
    text = text_for(folder(tmp_path / "a", robin=36, wren=6))
    assert parse_recipe(text).worth.metric == "balanced"
    assert "  metric: balanced # classes are imbalanced, 6 to 1: top-1 would hardly notice the rarest\n" in text
    assert "metric" not in text_for(folder(tmp_path / "b", robin=8, wren=8))


def test_what_balanced_accuracy_can_never_show_is_said_where_it_is_chosen(tmp_path: Path) -> None:
    settings = detect_source(str(folder(tmp_path / "a", robin=36, wren=6, owl=8)))
    small = survey_images(settings)

    def tolerance(train: list[int], **splits: list[int]) -> str:
        counts = dict(zip(("robin", "wren", "owl"), train, strict=True))
        survey = replace(small, counts=splits | {"train": [counts[name] for name in small.classes]})
        text = recipe_text(settings, survey, LAPTOP, choose(survey, LAPTOP))
        return next(line for line in text.splitlines() if line.startswith("  tolerance:"))

    identical = "can never be shown: even identical predictions could not show it; owl has 20 test images"
    assert "can never be shown: owl has 9 test images: every class needs at least 10" in tolerance([3600, 600, 45])
    assert identical in tolerance([3600, 600, 100])  # top-1 could show it
    assert "never" not in tolerance([36_000, 7000, 6000])
    assert "never" not in tolerance([3600, 600, 100], test=[900, 900, 900])
    assert "never" not in tolerance([1000, 1000, 1000])  # top-1


@pytest.mark.parametrize(
    "machine", [LAPTOP, replace(LAPTOP, open_clip=True, student_weights=True), replace(LAPTOP, gpu=True)]
)
@pytest.mark.parametrize("runtimes", [(), ("onnxruntime",), ("onnxruntime", "openvino")])
def test_every_recipe_is_valid_for_loader_and_editor(six: Path, machine: Machine, runtimes: tuple[str, ...]) -> None:
    text = text_for(six, replace(machine, runtimes=runtimes))
    recipe = parse_recipe(text)
    jsonschema.validate(yaml.safe_load(text), recipe_schema())
    assert text.startswith("# yaml-language-server: $schema=recipe.schema.json\n")
    assert [stage.kind for stage in recipe.stages][-1] == ("export" if runtimes else "quantize")
    assert isinstance(recipe.data, FolderData) and recipe.data.path == str(six) and recipe.data.broken == "skip"
    assert recipe.trainer.precision == "auto"
    assert max(map(len, text.splitlines())) <= 120 + len(str(six))
    assert yaml.safe_load(text)["data"]["views"] == "light"


def test_resolution_and_epochs_follow_images_and_machine(tmp_path: Path) -> None:
    small = survey_images(detect_source(str(folder(tmp_path, cat=8, dog=8))))
    large = replace(small, short_sides=np.full(9, 3000))
    many = replace(large, counts={"train": [30_000, 30_000]})
    eight_cores, gpu = replace(LAPTOP, cores=8), replace(LAPTOP, gpu=True)
    assert choose(small, LAPTOP).resolution == 32 and choose(large, LAPTOP).resolution == 64
    assert choose(large, eight_cores).resolution == 96 and choose(large, gpu).resolution == 224
    assert choose(large, LAPTOP).epochs == 60 and choose(many, LAPTOP).epochs == 5
    assert choose(large, LAPTOP).batch == 32 and choose(many, LAPTOP).batch == 128


def test_unlabelled_images_count_where_a_teacher_teaches_on_them(tmp_path: Path) -> None:
    images = survey_images(detect_source(str(folder(tmp_path, cat=8, dog=8))))
    many = replace(images, counts={"train": [100, 100], "unlabeled": [100_000]})
    distilled = choose(many, LAPTOP)
    assert distilled.teacher and (distilled.epochs, distilled.batch, distilled.views) == (5, 128, 2)
    trained = choose(replace(many, classes=("robin", "wren")), LAPTOP)
    assert not trained.teacher and (trained.epochs, trained.batch) == (60, 32)


def test_only_large_images_are_cropped(tmp_path: Path) -> None:
    settings, gpu = detect_source(str(folder(tmp_path, cat=8, dog=8))), replace(LAPTOP, gpu=True)
    small = survey_images(settings)
    for side, machine, views in ((95, gpu, "light"), (96, gpu, "standard"), (3000, LAPTOP, "light")):
        survey = replace(small, short_sides=np.full(9, side))
        text = recipe_text(settings, survey, machine, choose(survey, machine))
        assert yaml.safe_load(text)["data"]["views"] == views


def test_images_that_do_not_fit_as_pixels_stay_in_their_files(tmp_path: Path) -> None:
    settings = detect_source(str(folder(tmp_path, cat=8, dog=8)))
    survey = replace(survey_images(settings), total=1_300_000, short_sides=np.full(9, 3000))
    gpu = replace(LAPTOP, gpu=True, free_bytes=80 * 10**9)

    def data(machine: Machine, **changes: bool) -> tuple[Any, str]:
        text = recipe_text(settings, replace(survey, **changes), machine, choose(survey, machine))
        return parse_recipe(text).data, text

    section, text = data(gpu)
    assert section.images == "files" and "all need 391.37 GB while they are decoded, of 80.00 GB that are free" in text
    assert data(replace(gpu, free_bytes=10**12))[0].images == "pixels"
    assert data(gpu, sequential=True)[0].images == "pixels"  # a compressed tar, which `files` refuses


@pytest.mark.parametrize(
    "text",
    [
        *('it\'s a "cat"', "Äpfel: #1 {x}", "鳥 - [b]", "yes", "no", "1e5", "~", "", " a", "a: b", "C:\\photos"),
        *("a\nb", "a\u2028b", "-x", "*x", "0x1", "tab\t", "null"),
    ],
)
def test_quoted_text_reads_back_as_itself(text: str) -> None:
    written = (
        f"description: {quoted(text)}\ndata: cifar10-sample\nstages: [{{id: s, kind: train, student: resnet18}}]\n"
    )
    assert parse_recipe(written).description == text


def test_names_that_are_not_utf8_are_refused() -> None:
    with pytest.raises(UsageError, match="is not UTF-8"):
        quoted(os.fsdecode(b"caf\xe9"))


def test_existing_recipes_and_missing_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("mine")
    for file, message in (
        (tmp_path / "recipe.yaml", "already exists; choose another --output, or overwrite it with --force"),
        (tmp_path, "is a folder; name a file"),
        (tmp_path / "no" / "recipe.yaml", "no does not exist; create it"),
    ):
        with pytest.raises(UsageError, match=message):
            require_writable(file, force=False)
    require_writable(tmp_path / "recipe.yaml", force=True)


@pytest.mark.parametrize("name", ["store", "Sweeps", "sweeps"])
def test_folders_of_other_things_in_runs_name_no_recipe(tmp_path: Path, name: str) -> None:
    assert parse_recipe(text_for(folder(tmp_path / name, cat=8, dog=8))).name == "photos"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("my photos", "my-photos"),
        ("photos/{test.csv,train.csv}", "photos"),
        ("photos/labels.csv", "photos"),
        ("photos/train-{000..007}.tar", "photos"),
        ("{train,test}.tsv", "here"),
        ("birds.parquet", "birds"),
    ],
)
def test_recipe_is_named_by_the_folder_of_tables_and_patterns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, name: str
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert recipe_name(path) == name


def test_a_schema_of_another_version_is_replaced(tmp_path: Path) -> None:
    for old in (None, "{", json.dumps({"title": "old"})):
        if old:
            (tmp_path / SCHEMA).write_text(old)
        write_recipe(tmp_path / "recipe.yaml", "name: a\n")
        assert json.loads((tmp_path / SCHEMA).read_text()) == recipe_schema()


def test_a_recipe_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    write_recipe(tmp_path / "recipe.yaml", "name: a\n")
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_recipe(tmp_path / "recipe.yaml", "name: b\n")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before


def test_hub_is_asked_whether_weights_can_be_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:  # refuses everything, which is an answer
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setattr(BaseHTTPRequestHandler, "log_message", lambda *_: None)
        Thread(target=server.handle_request, daemon=True).start()
        assert hub_is_reachable()
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert not hub_is_reachable()
        monkeypatch.delenv("HF_HUB_OFFLINE")
    assert not hub_is_reachable()  # nobody listens there now
    monkeypatch.setenv("HF_ENDPOINT", "no address")
    assert not hub_is_reachable() and not is_in_hub_cache("nobody/nothing", "x.safetensors")
