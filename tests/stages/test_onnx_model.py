"""ONNX files as own models: from the file to INT8, artifacts and a student."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support import Job, typed

from compress.models.checkpoints import load_variant
from compress.models.factory import create_model
from compress.recipe.load import parse_recipe
from compress.utils.errors import RecipeError

STAGES = """\
  - {{id: own, kind: model, model: {{source: onnx, model: {root}/best.onnx, classes: [across, both, down],
     mean: [0.485, 0.456, 0.406],
     std: [0.229, 0.224, 0.225], interpolation: bicubic}}}}
  - {{id: own-ort, kind: quantize, from: own, method: onnxruntime, calibration_images: 16, keep: [fc]}}
  - {{id: own-nncf, kind: quantize, from: own, method: nncf, calibration_images: 16}}
  - {{id: learnt, kind: distill, from: own, student: test_resnet, epochs: 1, batch: 16}}
  - {{id: again, kind: model, model: {{source: variant, model: "{artifact}"}}}}
  - {{id: own-files, kind: export, from: [own-ort, own-nncf, again], runtimes: [onnxruntime, openvino],
     triton: true}}
  - {{id: own-auto, kind: export, from: [own], runtimes: auto}}
"""


@pytest.fixture(scope="module")
def finished(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Job:
    made = Job(tmp_path_factory.mktemp("onnx") / "copy")
    shutil.copytree(job.root, made.root)
    made.write()
    network = create_model("timm", "test_resnet", 3, 32).eval()
    network.load_state_dict(load_file(made.root / "teacher.safetensors"))
    torch.onnx.export(network, (torch.zeros(1, 3, 32, 32),), made.root / "best.onnx", dynamo=False)
    artifact = next((made.runs / "tiny").glob("*/artifacts/int8/onnx"))
    stages = STAGES.format(root=made.root, artifact=artifact)
    made.recipe.write_text(made.recipe.read_text().replace("measure: ", stages + "measure: "))
    done = made.run_here("--no-dry-run")
    assert done.returncode == 0, done.stderr
    (made.root / "output.txt").write_text(done.stderr)
    return made


def variant(job: Job, name: str) -> dict[str, Any]:
    return next(v for v in job.results()["variants"] if v["id"] == name)


@pytest.mark.slow
def test_file_is_evaluated_and_counted_like_the_network_that_it_was_exported_from(finished: Job) -> None:
    made, teacher = variant(finished, "own"), variant(finished, "teacher")
    assert made["accuracy"]["right"] == teacher["accuracy"]["right"]
    for key in ("macs", "bit_operations", "total_convs", "weight_bits"):
        assert made["inference"][key] == teacher["inference"][key]
    assert made["training"]["macs"] == 0
    stored = load_variant(finished.runs / "store" / made["stage_key"])
    assert stored.architecture.library == "onnx" and stored.preprocess.mean == (0.485, 0.456, 0.406)


@pytest.mark.slow
def test_int8_by_both_methods_runs_in_integer(finished: Job) -> None:
    for name in ("own-ort", "own-nncf"):
        made = variant(finished, name)
        assert made["inference"]["weight_bits"] == 8 and made["inference"]["quantized_convs"] == 15
        assert {artifact["runtime"] for artifact in made["artifacts"]} == {"onnxruntime", "openvino"}
        assert all(artifact["integer_convs"] for artifact in made["artifacts"])
    assert variant(finished, "own-ort")["quantization"]["keep"] == ["fc"]
    linear = [w for w in variant(finished, "own-ort")["inference"]["widths"] if w["kind"] == "linear"]
    assert [w["weight_bits"] for w in linear] == [32]


@pytest.mark.slow
def test_student_learns_from_an_onnx_file(finished: Job) -> None:
    parts = [part["what"] for part in variant(finished, "learnt")["training"]["parts"]]
    assert any(what.startswith("teacher: ") for what in parts)


@pytest.mark.slow
def test_artifact_of_a_run_comes_back_whole(finished: Job) -> None:
    again, int8 = variant(finished, "again"), variant(finished, "int8")
    artifact = next(a for a in int8["artifacts"] if a["runtime"] == "onnxruntime")
    assert again["accuracy"]["right"] == artifact["right"]
    for key in ("macs", "weight_bits", "activation_bits", "quantized_convs", "total_convs"):
        assert again["inference"][key] == int8["inference"][key]
    folders = [
        finished.runs / "store" / again["stage_key"],
        next((finished.runs / "tiny").glob("*/artifacts/int8/onnx")),
    ]
    assert (folders[0] / "model.onnx").read_bytes() == (folders[1] / "model.onnx").read_bytes()


@pytest.mark.slow
def test_latency_is_that_of_runtimes_which_read_onnx(finished: Job) -> None:
    costs = {name: variant(finished, name)["inference"] for name in ("own", "learnt")}
    runtimes = {name: {row["runtime"] for row in cost["latency"]} for name, cost in costs.items()}
    assert "pytorch" in runtimes["learnt"] and "pytorch" not in runtimes["own"]
    assert {"onnxruntime", "openvino"} <= runtimes["own"]


RECIPE = """\
data: cifar10-sample
stages:
  - {id: own, kind: model, model: %s}
  - {id: next, from: own, %s}
"""
STATED: dict[str, Any] = {"source": "onnx", "model": "best.onnx", "mean": [0, 0, 0], "std": [1, 1, 1]}


@pytest.mark.parametrize(
    ("stage", "problem"),
    [
        (
            "kind: prune, target_macs: 0.5",
            "stage next: prune changes a network in PyTorch, not an ONNX file; start from",
        ),
        ("kind: sparsify, sparsity: 0.5", "stage next: sparsify changes a network in PyTorch"),
        (
            "kind: quantize, method: torchao",
            "`method: torchao` quantizes a network in PyTorch, .*; set `method: nncf` or `method: onnx",
        ),
        ("kind: quantize, training: {epochs: 1}", "an ONNX file cannot be trained; remove `training` and set"),
    ],
)
def test_stages_that_need_pytorch_are_refused_before_anything_runs(stage: str, problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        parse_recipe(RECIPE % (json.dumps(STATED), stage))


def test_runtimes_that_cannot_build_from_onnx_are_refused() -> None:
    stage = "kind: export, runtimes: [executorch, onnxruntime]"
    message = r"executorch cannot be built from an ONNX file; export it to .*onnxruntime"
    with pytest.raises(RecipeError, match=message):
        parse_recipe((RECIPE % (json.dumps(STATED), stage)).replace("from: own", "from: [own]"))


def test_normalisation_must_be_stated(tmp_path: Path) -> None:
    settings = json.dumps({"source": "onnx", "model": str(tmp_path / "best.onnx")})
    with pytest.raises(RecipeError, match="an ONNX file does not say how its images are normalised; set `mean`"):
        parse_recipe(RECIPE % (settings, "kind: quantize, method: nncf"))
    (tmp_path / "preprocess.json").write_text("{}")
    parse_recipe(RECIPE % (settings, "kind: quantize, method: nncf"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_resnet18_goes_from_a_file_to_int8_files_and_a_report(tmp_path: Path) -> None:
    model = create_model("torchvision", "resnet18", 10, 64).eval()
    torch.onnx.export(model, (torch.zeros(1, 3, 64, 64),), tmp_path / "best.onnx", dynamo=True, verbose=False)
    recipe = tmp_path / "own.yaml"
    recipe.write_text(
        f"""\
data: cifar10-sample
stages:
  - {{id: own, kind: model, model: {{source: onnx, model: {tmp_path}/best.onnx, mean: [0, 0, 0], std: [1, 1, 1],
     classes: [airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck]}}}}
  - {{id: nncf, kind: quantize, from: own, method: nncf, calibration_images: 32, keep: [fc]}}
  - {{id: ort, kind: quantize, from: own, method: onnxruntime, calibration_images: 32}}
  - {{id: files, kind: export, from: [own, nncf, ort], runtimes: [onnxruntime, openvino]}}
measure: {{batches: [1], rounds: 5, processes: 1, energy: off}}
"""
    )
    done = typed("run", recipe, "--runs", tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    results = json.loads(next((tmp_path / "runs").glob("own/*/results.json")).read_text())
    variants = {variant["id"]: variant for variant in results["variants"]}
    assert variants["own"]["inference"]["total_convs"] == variants["nncf"]["inference"]["quantized_convs"] == 20
    for name in ("nncf", "ort"):
        assert all(artifact["top1_agreement"] > 0.5 for artifact in variants[name]["artifacts"])
    assert next((tmp_path / "runs").glob("own/*/report.html")).is_file()
