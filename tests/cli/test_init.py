"""`init`: it looks at a person's images, says what it saw, and writes a recipe that runs as it is."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml
from own_photographs import SIX, make_photographs
from PIL import Image
from support import environment, typed

from compress.data.folder import FolderData
from compress.recipe import load_recipe, parse_recipe
from compress.recipe.json_schema import recipe_schema
from compress.scaffold import survey
from compress.scaffold.detect import guess
from compress.scaffold.recipe import Machine, check_free, choose, quoted, recipe_text
from compress.scaffold.summary import survey_lines
from compress.utils.errors import CompressError, UsageError
from compress.utils.system import hub_answers, in_hub_cache

LAPTOP = Machine(cores=2, gpu=False, open_clip=False, downloads=False, runtimes=("onnxruntime", "openvino"))
call = partial(typed, HF_HUB_OFFLINE="1")
NAMES = ('it\'s a "cat"', "Äpfel: #1 {x}", "鳥 - [b]", "yes")


@pytest.fixture(scope="session")
def six(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes of uneven size; tests leave it as it is."""
    root = tmp_path_factory.mktemp("six") / "my photos"
    few = {name: (cifar, max(6, count // 6)) for name, (cifar, count) in SIX.items()}
    make_photographs(root, few, largest=90, huge=(700, 400))
    return root


def paint(path: Path, seed: int, size: tuple[int, int] = (40, 40), grey: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels[..., 0] if grey else pixels).save(path)


def folder(root: Path, **counts: int) -> Path:
    for row, (name, count) in enumerate(counts.items()):
        for number in range(count):
            paint(root / name / f"{number}.png", 1000 * row + number)
    return root


def text_for(path: Path, machine: Machine = LAPTOP) -> str:
    settings = guess(str(path))
    seen = survey.look(settings)
    return recipe_text(settings, seen, machine, choose(seen, machine))


# --- what is seen -------------------------------------------------------------------------------------------------


def test_what_is_seen_of_a_folder(six):
    seen = survey.look(guess(str(six)))
    assert seen.classes == tuple(sorted(SIX)) and seen.looked == seen.total
    files = [path for path in six.rglob("*") if path.is_file() and path.suffix != ".db"]
    assert sum(seen.counts["train"]) + len(seen.broken) == len(files)
    assert len(seen.broken) == 3 and all("IMG 0009" in text for text in seen.broken)
    assert seen.grey >= 6 and seen.copies == 6 and seen.contradictions == seen.leaks == 0
    lines = "\n".join(survey_lines(guess(str(six)), seen))
    assert "6 classes" in lines and "of which 20% are cut off for test" in lines and "Kätzchen & co 15" in lines
    assert "and 2 more cannot be read; they are skipped" in lines and "6 are copies of others" in lines
    assert "keeps copies together" in lines


def test_uneven_classes_and_wrong_copies_are_said(tmp_path):
    folder(tmp_path / "p", cat=24, dog=4)
    shutil.copy(tmp_path / "p" / "cat" / "0.png", tmp_path / "p" / "dog" / "cat.png")
    paint(tmp_path / "p" / "dog" / "grey.png", 77, grey=True)
    settings = guess(str(tmp_path / "p"))
    seen = survey.look(settings)
    assert (seen.copies, seen.contradictions, seen.grey) == (1, 2, 1)
    lines = "\n".join(survey_lines(settings, seen))
    assert "classes are uneven, 4 to 1" not in lines and "in several classes, so that some labels are wrong" in lines
    folder(tmp_path / "q", cat=36, dog=6)
    assert "uneven, 6 to 1" in "\n".join(survey_lines(settings, survey.look(guess(str(tmp_path / "q")))))


def test_train_images_in_test_are_said(tmp_path):
    for part, count in (("train", 5), ("test", 3)):
        folder(tmp_path / part, cat=count, dog=count)  # the same seeds, so the same images
    settings = guess(str(tmp_path))
    seen = survey.look(settings)
    assert settings.test is None and seen.leaks == 6
    assert "6 of validation or test are train images too" in "\n".join(survey_lines(settings, seen))


def test_of_many_images_some_are_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "MOST", 10)
    settings = guess(str(folder(tmp_path, cat=18, dog=9)))
    seen = survey.look(settings)
    assert seen.looked == 9 and seen.counts["train"] == [18, 9]
    assert "9 of 27 images were looked at" in "\n".join(survey_lines(settings, seen))


# --- what is chosen -----------------------------------------------------------------------------------------------


def stages(text: str) -> dict[str, Any]:
    return {stage["id"]: stage for stage in yaml.safe_load(text)["stages"]}


def test_the_teacher_is_one_that_knows_the_classes(tmp_path):
    unknown, known = folder(tmp_path / "a", robin=8, wren=30), folder(tmp_path / "b", cat=8, Dog=8)
    numbers, many = folder(tmp_path / "c", **{"01": 8, "02": 8}), folder(tmp_path / "d", robin=20, wren=20)
    online = replace(LAPTOP, open_clip=True, downloads=True)
    assert "teacher" not in stages(text_for(unknown)) and "OpenCLIP's weights cannot be" in text_for(unknown)
    assert stages(text_for(known))["teacher"]["teacher"] == "embedded"
    assert stages(text_for(unknown, online))["teacher"]["teacher"] == "openclip-vit-b-32"
    for path, why in ((numbers, "their names are no words"), (many, "labels enough")):
        text = text_for(path, online)
        assert stages(text)["teacher"]["teacher"] == {"use": "openclip-vit-b-32", "head": "probe"}
        assert why in text.replace("\n  # ", " ")
    cached = replace(LAPTOP, open_clip=True)
    assert stages(text_for(many, cached))["distilled"]["student"] == "resnet18"
    assert stages(text_for(many, online))["distilled"]["student"]["pretrained"] is True


@pytest.mark.parametrize(
    "machine", [LAPTOP, replace(LAPTOP, open_clip=True, downloads=True), replace(LAPTOP, gpu=True)]
)
@pytest.mark.parametrize("runtimes", [(), ("onnxruntime",), ("onnxruntime", "openvino")])
def test_every_recipe_is_valid_for_reader_and_editor(six, machine, runtimes):
    text = text_for(six, replace(machine, runtimes=runtimes))
    recipe = parse_recipe(text)
    jsonschema.validate(yaml.safe_load(text), recipe_schema())
    assert text.startswith("# yaml-language-server: $schema=recipe.schema.json\n")
    assert [stage.kind for stage in recipe.stages][-1] == ("export" if runtimes else "quantize")
    assert isinstance(recipe.data, FolderData) and recipe.data.path == str(six) and recipe.data.broken == "skip"
    assert max(map(len, text.splitlines())) <= 120 + len(str(six))


def test_side_and_epochs_follow_images_and_machine(tmp_path):
    small = survey.look(guess(str(folder(tmp_path, cat=8, dog=8))))
    large = replace(small, short_sides=np.full(9, 3000))
    many = replace(large, counts={"train": [30_000, 30_000]})
    assert choose(small, LAPTOP).side == 32 and choose(large, LAPTOP).side == 64
    assert choose(large, replace(LAPTOP, cores=8)).side == 96 and choose(large, replace(LAPTOP, gpu=True)).side == 224
    assert choose(large, LAPTOP).epochs == 60 and choose(many, LAPTOP).epochs == 5
    assert choose(large, LAPTOP).batch == 32 and choose(many, LAPTOP).batch == 128


@pytest.mark.parametrize(
    "text",
    [*NAMES, "no", "1e5", "~", "", " a", "a: b", "C:\\photos", "a\nb", "a\u2028b", "-x", "*x", "0x1", "tab\t", "null"],
)
def test_any_text_stays_itself_in_yaml(text):
    read = parse_recipe(
        f"data: {{source: image-folder, path: {quoted(text)}}}\nstages: [{{id: s, kind: train, student: resnet18}}]\n"
    ).data
    assert isinstance(read, FolderData) and read.path == text


def test_a_name_that_is_not_utf8():
    with pytest.raises(UsageError, match="is not UTF-8"):
        quoted(os.fsdecode(b"caf\xe9"))


def test_whether_weights_can_be_fetched(monkeypatch):
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:  # says no to everything, and so answers
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setattr(BaseHTTPRequestHandler, "log_message", lambda *_: None)
        Thread(target=server.handle_request, daemon=True).start()
        assert hub_answers()
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert not hub_answers()
        monkeypatch.delenv("HF_HUB_OFFLINE")
    assert not hub_answers()  # nobody listens there now
    monkeypatch.setenv("HF_ENDPOINT", "no address")
    assert not hub_answers() and not in_hub_cache("nobody/nothing", "x.safetensors")


# --- other sources ------------------------------------------------------------------------------------------------


def write_csv(root: Path, head: str) -> Path:
    with (root / "list of all.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head.split(","))
        for name in NAMES:
            for number in range(4):
                paint(root / "i" / f"{name[:3]}{number}.png", hash(name) % 1000 + number)
                writer.writerow([number, f"i/{name[:3]}{number}.png", name])
    return root / "list of all.csv"


def test_a_csv(tmp_path):
    table = write_csv(tmp_path, "Number,Filename,Species")
    for path in (table, tmp_path):  # the folder holds no class folders, so it is the table that counts
        recipe = parse_recipe(text_for(path))
        assert recipe.data.source == "csv" and (recipe.data.image, recipe.data.label) == ("Filename", "Species")
        assert recipe.data.test == 0.2
    with pytest.raises(
        UsageError, match=r"list of all.csv:1: no column is called as one of labels would be; there are"
    ):
        text_for(write_csv(tmp_path, "Number,Filename,What"))


def test_parquet_and_saved_datasets(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    folder(tmp_path / "i", cat=4, dog=4)
    files = sorted((tmp_path / "i").rglob("*.png"))
    made = pa.table({"pic": [{"bytes": f.read_bytes()} for f in files], "Class": [f.parent.name for f in files]})
    pq.write_table(made, tmp_path / "birds.parquet")
    data = parse_recipe(text_for(tmp_path / "birds.parquet")).data
    assert (data.source, data.image, data.label, data.test) == ("parquet", "pic", "Class", 0.2)
    (tmp_path / "saved").mkdir()
    with pa.OSFile(str(tmp_path / "saved" / "a.arrow"), "wb") as sink, pa.ipc.new_stream(sink, made.schema) as writer:
        writer.write_table(made)
    (tmp_path / "saved" / "state.json").write_text(json.dumps({"_data_files": [{"filename": "a.arrow"}]}))
    data = parse_recipe(text_for(tmp_path / "saved")).data
    assert (data.source, data.image, data.label) == ("hf-dataset", "pic", "Class")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "birds.parquet")
    with pytest.raises(UsageError, match=r"birds.parquet: no column holds images; there are: a"):
        text_for(tmp_path / "birds.parquet")


@pytest.mark.parametrize(
    ("members", "label"),
    [
        ({"cls": b"%d", "txt": b"a caption"}, "cls"),
        ({"txt": b"kind %d"}, "txt"),
        ({"json": b'{"id": 3, "Category": "k%d"}'}, "json.Category"),
    ],
)
def test_tars(tmp_path, members, label):
    write_tars(tmp_path, members)
    data = parse_recipe(text_for(tmp_path)).data
    assert data.source == "webdataset" and data.label == label and data.test is None


def write_tars(root: Path, members: dict[str, bytes]) -> None:
    for split, count in (("train", 8), ("test", 4)):
        with tarfile.open(root / f"{split}.tar", "w") as archive:
            for number in range(count):
                paint(root / "x.png", number)
                archive.add(root / "x.png", f"{number:03}.png")
                for ending, content in members.items():
                    info = tarfile.TarInfo(f"{number:03}.{ending}")
                    value = content % (number % 2) if b"%d" in content else content
                    info.size = len(value)
                    archive.addfile(info, io.BytesIO(value))
    (root / "x.png").unlink()


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"seg": b"0"}, r"\.tar: no \.cls, \.txt or \.json lies beside its images; it has .*seg"),
        (
            {"json": b'{"id": 3, "width": 7}'},
            r"no field of its \.json is called as a label would be; there are: id, width",
        ),
    ],
)
def test_tars_without_labels(tmp_path, members, says):
    write_tars(tmp_path, members)
    with pytest.raises(UsageError, match=says):
        text_for(tmp_path)


def test_parquet_without_its_package(tmp_path, monkeypatch):
    (tmp_path / "train.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr("compress.scaffold.detect.version_of", lambda package: None)
    with pytest.raises(UsageError, match=r"parquet needs pyarrow: pip install 'compress-model\[data\]'"):
        text_for(tmp_path)


# --- what is refused ----------------------------------------------------------------------------------------------


def spoil(name: str, root: Path) -> Path:
    root.mkdir()
    if name == "nowhere":
        return root / "nowhere"
    if name == "text":
        (root / "a.txt").write_text("x")
        return root / "a.txt"
    if name == "one class":
        return folder(root, cat=5)
    if name == "loose":
        for number in range(3):
            paint(root / f"{number}.png", number)
    if name == "two images":
        return folder(root, cat=8, dog=2)
    if name == "three, one broken":
        folder(root, cat=8, dog=3)
        (root / "dog" / "1.png").write_bytes(b"")
    if name == "all broken":
        for file in folder(root, cat=3, dog=3).rglob("*.png"):
            file.write_bytes(b"")
    return root


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere", "nowhere does not exist; give a folder of images, or a CSV, Parquet or tar file"),
        ("empty", "holds no image .*and no CSV, Parquet or tar file either"),
        ("text", "a.txt is neither a folder of images nor a CSV, Parquet or tar file"),
        ("one class", "expected two or more class folders, found only cat"),
        ("loose", "expected two or more class folders, found none"),
        ("two images", r"leaves no train image of dog \(1\)"),
        ("three, one broken", r"leaves no train image of dog \(1\)"),
        ("all broken", "none of its images can be read: cat/0.png"),
    ],
)
def test_what_cannot_be_started_with(tmp_path, name, says):
    with pytest.raises(CompressError, match=says) as caught:
        text_for(spoil(name, tmp_path / "x"))
    assert "\n" not in str(caught.value)


def test_a_class_of_three_is_enough(tmp_path):
    parse_recipe(text_for(folder(tmp_path, cat=9, dog=3)))


def test_files_are_not_written_over(tmp_path):
    (tmp_path / "recipe.yaml").write_text("mine")
    for file, says in (
        (tmp_path / "recipe.yaml", "is there already; --output names another file, --force writes over it"),
        (tmp_path, "is a folder; name a file"),
        (tmp_path / "no" / "recipe.yaml", "no does not exist"),
    ):
        with pytest.raises(UsageError, match=says):
            check_free(file, force=False)
    check_free(tmp_path / "recipe.yaml", force=True)
    folder(tmp_path / "p", cat=3, dog=3)
    done = call("init", "p", cwd=tmp_path)
    assert done.returncode == 2 and "recipe.yaml is there already" in done.stderr and len(done.stderr.splitlines()) == 1
    assert (tmp_path / "recipe.yaml").read_text() == "mine" and not (tmp_path / "recipe.schema.json").exists()


# --- from end to end ----------------------------------------------------------------------------------------------


def own_photos(root: Path) -> None:
    folder(root / 'my "own" photos', **{"it's a cat": 12, "Äpfel: #1": 9, "鳥": 3})
    (root / 'my "own" photos' / "鳥" / "broken.jpg").write_bytes(b"x")


def test_init_for_machines(tmp_path, monkeypatch):
    own_photos(tmp_path)
    shutil.copy(tmp_path / 'my "own" photos' / "鳥" / "0.png", tmp_path / 'my "own" photos' / "鳥" / "copy.png")
    done = call("init", 'my "own" photos', "--output", "own.yaml", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert set(record) == {"recipe", "seen", "chosen", "estimate"} and record["recipe"] == "own.yaml"
    recipe = parse_recipe((tmp_path / "own.yaml").read_text())
    assert record["seen"] == {
        "source": "image-folder",
        "path": 'my "own" photos',
        "images": 26,
        "looked_at": 26,
        "classes": {"it's a cat": {"train": 12}, "Äpfel: #1": {"train": 9}, "鳥": {"train": 4}},
        "unlabeled": 0,
        "short_side": {"least": 40, "median": 40, "most": 40},
        "grey": 0,
        "broken": ["鳥/broken.jpg (cannot identify image file it)"],
        "copies": 1,
        "contradictions": 0,
        "leaks": 0,
        "test_share": 0.2,
    }
    assert (record["chosen"]["resolution"], record["chosen"]["epochs"]) == (32, 60)
    assert record["chosen"]["teacher"].startswith("none, so that the recipe trains on your labels")
    kinds = {stage.id: stage.kind for stage in recipe.stages}
    rows = {row["unit"].split("/")[0]: row for row in record["estimate"]}
    assert {unit: rows[unit]["kind"] for unit in kinds} == kinds and rows["trained"]["seconds"] > 0
    monkeypatch.setattr("compress.cli.init.MAX_TIMED", 25)
    done = call("init", 'my "own" photos', "--output", "own.yaml", "--json", "--force", cwd=tmp_path)
    assert json.loads(done.stdout) == {**record, "estimate": None}
    again = call("init", 'my "own" photos', "--output", "own.yaml", "--json", cwd=tmp_path)
    assert (again.returncode, again.stdout) == (2, "") and "is there already" in again.stderr


def test_what_init_writes_is_valid_and_trains(tmp_path, monkeypatch):
    """The first stage only, a tiny network and one epoch; all else is as `init` chooses it."""
    from compress.pipeline.runner import run

    own_photos(tmp_path)
    done = call("init", 'my "own" photos', "--output", "own.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 classes, 24 train" in done.stdout and "compress-model run own.yaml" in done.stdout
    assert "trained" in done.stdout and "in all" in done.stdout
    assert json.loads((tmp_path / "recipe.schema.json").read_text()) == recipe_schema()
    assert call("validate", "own.yaml", cwd=tmp_path).returncode == 0
    monkeypatch.chdir(tmp_path)
    tiny = ("stages.trained.student=test_resnet", "stages.trained.epochs=1", "measure={rounds: 5, energy: off}")
    recipe = load_recipe("own.yaml", tiny)
    results = json.loads((run(recipe.model_copy(update={"stages": recipe.stages[:1]})) / "results.json").read_text())
    assert results["data"]["skipped"] == 1 and results["data"]["classes"] == ["it's a cat", "Äpfel: #1", "鳥"]
    assert results["variants"][0]["accuracy"]["n"] == 5  # a fifth of each class, rounded: 2, 2 and 1


@pytest.mark.slow
@pytest.mark.parametrize("known", [False, True])
def test_what_init_writes_runs(tmp_path, known):
    """Everything but the number of epochs, the network and the files' runtimes is as `init` chooses it."""
    if known:
        folder(tmp_path / 'my "own" photos', cat=12, dog=9, truck=8)
    else:
        own_photos(tmp_path)
    assert call("init", 'my "own" photos', "--output", "own.yaml", cwd=tmp_path).returncode == 0
    first = "distilled" if known else "trained"
    changes = (f"{first}.student=test_resnet", f"{first}.epochs=1", "pruned.repair.epochs=1", "pruned.round_to=4")
    words = [word for change in changes for word in ("--set", f"stages.{change}")]
    words += ["--set", "stages.files.runtimes=[onnxruntime]", "--set", "stages.files.from=[int8]"]
    done = call("run", "own.yaml", *words, "--set", "measure={rounds: 5, energy: off}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    results = json.loads(next(tmp_path.glob("runs/*/*/results.json")).read_text())
    made = [variant["id"] for variant in results["variants"]]
    assert made == ["teacher"] * known + [first, "pruned", "int8"]


@pytest.mark.slow
def test_a_day_of_a_new_user(tmp_path):
    """Photographs in six uneven classes: `init`, `plan`, `run`, and no file edited; fewer epochs, to save time."""
    made = make_photographs(
        tmp_path / "my photos", {name: (cifar, -(-count // 2)) for name, (cifar, count) in SIX.items()}
    )
    variables = {**environment(), "HF_HUB_OFFLINE": "1"}

    def work(*arguments: str) -> str:
        command = [sys.executable, "-m", "compress", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=variables)
        assert done.returncode == 0, done.stderr
        return done.stdout

    fewer = ("--set", "stages.trained.epochs=20", "--set", "stages.pruned.repair.epochs=5")
    assert "6 classes" in work("init", "my photos")
    assert "in the store" not in work("plan", "recipe.yaml", *fewer)
    assert "report.html" in work("run", "recipe.yaml", *fewer)
    recipe = load_recipe(tmp_path / "recipe.yaml")
    results = json.loads(next(tmp_path.glob(f"runs/{recipe.name}/*/results.json")).read_text())
    assert [variant["id"] for variant in results["variants"]] == ["trained", "pruned", "int8"]
    assert results["data"]["test"] > 25 and results["data"]["skipped"] == made["broken"] > 0
    assert all(variant["artifacts"] for variant in results["variants"])
    assert work("plan", "recipe.yaml", *fewer).count("in the store") == len(recipe.stages) + 2
