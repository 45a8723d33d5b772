"""Local weights: an open_clip folder, a checkpoint for it, and students that start from safetensors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import Job

from compress.models.factory import create_model
from compress.utils.resources import ASSETS

RECIPE = """\
name: tiny
data: {{source: image-folder, path: {root}/images, resolution: 32}}
stages:
  - {{id: folder, kind: teacher, teacher: {{source: open_clip, model: "local-dir:{root}/clip"}}}}
  - id: tuned
    kind: teacher
    teacher: {{source: open_clip, model: "local-dir:{root}/clip", checkpoint: {root}/tuned.safetensors, head: probe}}
  - {{id: small, kind: distill, from: tuned, epochs: 0,
     student: {{model: test_resnet, checkpoint: {root}/start.safetensors}}}}
  - {{id: other, kind: train, student: torchvision/shufflenet_v2_x0_5, epochs: 0}}
measure: {{batches: [1], rounds: 5, processes: 1, energy: off}}
worth: {{references: [folder], tolerance: 0.2}}
"""


def stored(job: Job) -> dict[str, Path]:
    return {v["id"]: job.runs / "store" / v["stage_key"] for v in job.results()["variants"]}


@pytest.mark.slow
def test_teachers_and_students_start_from_local_weights(make_job: Callable[[], Job]) -> None:
    job = make_job()
    shutil.copytree(ASSETS / "teacher", job.root / "clip")
    weights = load_file(job.root / "clip" / "open_clip_model.safetensors")
    generator = torch.Generator().manual_seed(0)
    noisy = {k: v + 0.02 * torch.randn(v.shape, generator=generator) if v.ndim > 1 else v for k, v in weights.items()}
    save_file(noisy, job.root / "tuned.safetensors")
    start = create_model("timm", "test_resnet", 3, 32).state_dict()
    save_file(start, job.root / "start.safetensors")
    job.recipe.write_text(RECIPE.format(root=job.root))
    done = job.run_here()
    assert done.returncode == 0, done.stderr
    folders = stored(job)
    accuracy = {v["id"]: v["accuracy"]["top1"] for v in job.results()["variants"]}
    assert (
        accuracy["tuned"] > 0.6 > accuracy["folder"]
    )  # zero-shot does not know the class names; the probe learns them
    made = load_file(folders["small"] / "model.safetensors")
    # At 32 pixels the taps of the last layer see only padding, and are stored as zeros.
    kept = [name for name in start if not name.startswith("layer4")]
    assert len(kept) > 30 and all(torch.equal(made[name], start[name]) for name in kept)
    about = json.loads((folders["other"] / "architecture.json").read_text())
    assert (about["library"], about["model"]) == ("torchvision", "shufflenet_v2_x0_5")


def test_fingerprint_of_a_teacher_follows_its_weights_not_their_path(make_job: Callable[[], Job]) -> None:
    from compress.models.fingerprint import teacher_weights_id
    from compress.recipe.models import OpenClipTeacher

    job = make_job()
    shutil.copytree(ASSETS / "teacher", job.root / "clip")
    settings = OpenClipTeacher(source="open_clip", model=f"local-dir:{job.root}/clip")
    moved = shutil.copytree(job.root / "clip", job.root / "moved")
    assert teacher_weights_id(settings.model_copy(update={"model": f"local-dir:{moved}"})) == teacher_weights_id(
        settings
    )
    file = job.root / "clip" / "open_clip_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    assert teacher_weights_id(settings.model_copy(update={"model": f"local-dir:{moved}"})) != teacher_weights_id(
        settings
    )
