"""Cost model: a network is counted and timed once per store; later estimates import no torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from head_first import HeadFirst
from safetensors.torch import save_file
from support import photographs

from compress.models.factory import create_model
from compress.models.heads import classifier
from compress.pipeline.cost_model import estimate
from compress.recipe.load import parse_recipe
from compress.stages import profiling
from compress.store.store import Store
from compress.training.formats import Choice, Format

RECIPE = """\
name: many
data: {{source: image-folder, path: {root}/images, resolution: 32, validation: 0.2}}
stages:
  - {{id: teacher, kind: teacher, teacher: {{source: timm, model: test_resnet, checkpoint: {root}/it.safetensors}}}}
  - {{id: first, kind: distill, from: teacher, student: test_resnet, epochs: 2, views: 2}}
  - {{id: longer, kind: distill, from: teacher, student: test_resnet, epochs: 5, views: 3}}
  - {{id: pruned, kind: prune, from: first, target_macs: 0.5, repair: {{epochs: 1}}}}
  - {{id: narrow, kind: shrink, from: pruned}}
  - {{id: sparse, kind: sparsify, from: longer, pattern: "2:4", repair: {{epochs: 1}}}}
  - {{id: int8, kind: quantize, from: pruned, calibration_images: 16}}
  - {{id: alone, kind: train, student: test_resnet, epochs: 1}}
"""
TIMED = "measure: {energy: off}\n"
AGAIN = """\
import json, sys
from pathlib import Path
from compress.pipeline.cost_model import estimate
from compress.recipe.load import parse_recipe
rows = estimate(parse_recipe(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
print(json.dumps({"rows": [vars(row) for row in rows], "torch": "torch" in sys.modules}))
"""


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the networks that are timed, in order."""
    names: list[str] = []
    for name in ("existing_cost", "student_cost"):
        original = getattr(profiling, name)

        def counted(*given: Any, name: str = name, original: Any = original, **options: Any) -> Any:
            names.append(name + (" masked" if options.get("masked") else ""))
            return original(*given, **options)

        monkeypatch.setattr(profiling, name, counted)
    return names


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    for part, count in (("train", 10), ("test", 3)):
        photographs(tmp_path / "images" / part, count, seed=count)
    save_file(create_model("timm", "test_resnet", 3, 32).state_dict(), tmp_path / "it.safetensors")
    return RECIPE.format(root=tmp_path)


def test_equal_networks_are_timed_once_and_later_estimates_need_no_torch(tmp_path, recipe, timed) -> None:
    rows = estimate(parse_recipe(recipe), tmp_path / "runs")
    assert timed == ["existing_cost", "student_cost", "student_cost masked"]
    macs = {row.unit: row.macs for row in rows}
    images = 24  # train images, without validation
    forward, training = macs["int8"] // 16, macs["alone"] // images
    assert 2 * forward < training < 3 * forward
    teacher = macs["teacher"] // 15  # test and validation images
    assert macs["first"] == images * (2 * training + 2 * teacher)
    assert macs["longer"] == images * (5 * training + teacher), "two views are cached for the first"
    assert macs["narrow"] == macs["pruned"] + macs["first"] - 2 * images * teacher

    (tmp_path / "many.yaml").write_text(recipe)
    command = [sys.executable, "-c", AGAIN, str(tmp_path / "many.yaml"), str(tmp_path / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"rows": [vars(row) for row in rows], "torch": False}


def test_only_cached_embeddings_are_expected_in_the_format_chosen_for_them(tmp_path, recipe, monkeypatch) -> None:
    monkeypatch.setattr(profiling, "embedding_speedup", lambda *_: 4.0)
    monkeypatch.setattr(profiling, "_seconds_per_image", lambda *_, **__: 1.0)
    monkeypatch.setattr(profiling, "choose_for_steps", lambda *_, **__: Choice(Format()))
    live = "  - {id: live, kind: distill, from: teacher, student: test_resnet, epochs: 2, teacher: live}\n"
    rows = estimate(parse_recipe(recipe + live, ["trainer.precision=auto"]), tmp_path / "runs")
    seconds = {row.unit: row.seconds for row in rows}
    assert seconds["teacher"] == 15, "test and validation images"
    assert seconds["first"] == 24 * (2 + 2 / 4), "two epochs, and two views"
    assert seconds["live"] == 24 * (2 + 2)


def test_another_resolution_or_a_damaged_cache_is_timed_again(tmp_path, recipe, timed, monkeypatch) -> None:
    runs, short = tmp_path / "runs", "".join(line for line in recipe.splitlines(True) if "from:" not in line)
    rows = estimate(parse_recipe(short), runs)
    estimate(parse_recipe(short), runs)
    assert timed == ["existing_cost", "student_cost"]
    estimate(parse_recipe(short, ["data.resolution=24"]), runs)
    assert timed == 2 * ["existing_cost", "student_cost"]
    cache = runs / "store" / "speeds.json"
    text = cache.read_text()
    cache.write_text(text.replace("0.0", "9.0", 1))
    messages: list[str] = []
    monkeypatch.setattr("compress.utils.json_cache.say", messages.append)
    again = estimate(parse_recipe(short), runs)
    assert timed == 3 * ["existing_cost", "student_cost"]
    assert messages == [f"store: {cache} is damaged; networks are timed again"]
    assert [row.macs for row in again] == [row.macs for row in rows]


def test_timing_of_files_has_a_row_unless_it_is_stored(tmp_path: Path, recipe: str) -> None:
    files = "  - {id: files, kind: export, from: [alone], runtimes: [onnxruntime, openvino]}\n"
    row = estimate(parse_recipe(recipe + files), tmp_path / "runs")[-1]
    assert (row.unit, row.kind, row.stored, row.macs) == ("latency of files", "measure", False, 0)
    starts = 3 * 3 + 8  # processes of PyTorch and two runtimes, and one for the memory of each variant
    assert row.seconds > 5 * starts
    more = estimate(parse_recipe(recipe + files, ["measure.rounds=300"]), tmp_path / "runs")[-1]
    assert more.seconds > row.seconds and more.key != row.key
    store = Store(tmp_path / "runs" / "store")
    store.get(row.key, "latency", lambda folder: (folder / "latency.json").touch())
    stored = estimate(parse_recipe(recipe + files), tmp_path / "runs")[-1]
    assert stored.stored and stored.seconds == 0


def test_probe_embeds_train_and_validation_once(tmp_path, recipe) -> None:
    data = recipe.partition("stages:")[0]
    teacher = f"{{source: timm, model: test_resnet, checkpoint: {tmp_path}/it.safetensors, head: probe}}"
    stages = "".join(f"  - {{id: {name}, kind: teacher, teacher: {teacher}}}\n" for name in ("one", "two"))
    one, two, _ = (row.macs for row in estimate(parse_recipe(f"{data}stages:\n{stages}"), tmp_path / "runs"))
    assert one * 15 == two * (15 + 24 + 6), "evaluated on 15 images; 24 and 6 are embedded for the first"


def test_features_are_those_of_the_classifier_that_is_executed(recipe, monkeypatch) -> None:
    monkeypatch.setattr(profiling, "_seconds_per_image", lambda *_, **__: 1.0)
    cost = profiling._training_cost(HeadFirst(), 8, parse_recipe(recipe), Path(), "it", masked=True)
    assert cost.features == 6


def test_the_projection_of_features_is_expected_too(tmp_path, recipe) -> None:
    losses = ("stages.first.losses={ce: 1, kd: 1, embedding: 1}",)
    before, after = (
        {row.unit: row.macs for row in estimate(parse_recipe(recipe, changes), tmp_path / "runs")}
        for changes in ((), losses)
    )
    features = classifier(create_model("timm", "test_resnet", 3, 32))[1].in_features
    projection = 24 * 2 * 3 * features * 3  # images, epochs, and the teacher teaches by its three logits
    assert after["first"] - before["first"] == projection
    assert after["narrow"] - before["narrow"] == projection, "the control takes as much"
    assert after["longer"] == before["longer"]
