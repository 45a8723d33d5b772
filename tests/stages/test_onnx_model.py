"""ONNX files as own models: from the file to INT8, artifacts and a student."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file
from support import Job

from compress.models.checkpoints import load_variant
from compress.models.factory import create_model
from compress.recipe.load import parse_recipe
from compress.utils.errors import RecipeError

STAGES = """\
  - {{id: own, kind: model, model: {{source: onnx, model: {root}/best.onnx, mean: [0.485, 0.456, 0.406],
     std: [0.229, 0.224, 0.225], interpolation: bicubic}}}}
  - {{id: own-ort, kind: quantize, from: own, method: onnxruntime, calibration_images: 16, keep: [fc]}}
  - {{id: own-nncf, kind: quantize, from: own, method: nncf, calibration_images: 16}}
  - {{id: learnt, kind: distill, from: own, student: test_resnet, epochs: 1, batch: 16}}
  - {{id: again, kind: model, model: {{source: variant, model: "{artifact}"}}}}
  - {{id: own-files, kind: export, from: [own, own-ort, own-nncf, again], runtimes: [onnxruntime, openvino],
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
    done = made.run()
    assert done.returncode == 0, done.stderr
    (made.root / "output.txt").write_text(done.stderr)
    return made


def variant(job: Job, name: str) -> dict[str, Any]:
    return next(v for v in job.results()["variants"] if v["id"] == name)


def test_file_is_evaluated_and_counted_like_the_network_that_it_was_exported_from(finished: Job) -> None:
    made, teacher = variant(finished, "own"), variant(finished, "teacher")
    print((finished.root / "output.txt").read_text())
    assert made["accuracy"]["right"] == teacher["accuracy"]["right"]
