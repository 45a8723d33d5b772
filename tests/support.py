"""A tiny job like a real one, but for its size: generated photographs, a timm teacher and a timm student."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import Forked, start
from PIL import Image

from compress.cli import main
from compress.utils.console import console

RECIPE = """\
name: tiny
seed: 3
data:
  source: image-folder
  path: {root}/images
  resolution: 32
stages:
  - id: teacher
    kind: teacher
    teacher: {{source: timm, model: test_resnet, checkpoint: {root}/teacher.safetensors}}
  - {{id: scratch, kind: train, student: test_resnet, epochs: 4, batch: 16, lr: 0.05}}
  - {{id: distilled, kind: distill, from: teacher, student: test_resnet, epochs: {epochs}, batch: 16, lr: 0.05,
     views: 2, losses: {{ce: 1, kd: 1, embedding: 0.5}}}}
  - {{id: pruned, kind: prune, from: distilled, target_macs: 0.6, round_to: 4,
     repair: {{epochs: 1, batch: 16, lr: 0.02, views: 2}}}}
  - {{id: int8, kind: quantize, from: pruned, calibration_images: 32}}
  - {{id: files, kind: export, from: [distilled, int8], runtimes: [onnxruntime, openvino], triton: true}}
measure: {{batches: [1, 4], rounds: 5, processes: 1, energy: off}}
worth: {{references: [teacher, distilled], tolerance: 0.2}}
"""


@dataclass(frozen=True)
class Job:
    """A recipe with its data in its own folder."""

    root: Path

    @property
    def recipe(self) -> Path:
        return self.root / "tiny.yaml"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    def write(self, epochs: int = 4, *, deployed: bool = True) -> None:
        """Write the recipe; unless `deployed`, it ends with pruning, which saves most of a run's time."""
        lines = RECIPE.format(root=self.root, epochs=epochs).splitlines(keepends=True)
        kept = [line for line in lines if deployed or not line.startswith(("  - {id: int8", "  - {id: files"))]
        self.recipe.write_text("".join(kept))

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "compress", "run", str(self.recipe), "--runs", str(self.runs), *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.start(*arguments).wait()

    def start(self, *arguments: str) -> Forked:
        """Start a run in a fresh process, without a dry run."""
        folder = self.root / "output"
        folder.mkdir(exist_ok=True)
        return start(self.command(*arguments, "--no-dry-run"), environment(), folder)

    def run_here(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run in this process."""
        return typed(*self.command(*arguments)[3:])

    def results(self) -> dict[str, Any]:
        """Return the results of the last run."""
        last = sorted((self.runs / "tiny").glob("*/results.json"), key=lambda path: path.stat().st_mtime_ns)[-1]
        return json.loads(last.read_text())  # type: ignore[no-any-return]


def typed(*arguments: object, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in this process, which saves the ten seconds of imports in a new one."""
    command = ["compress-model", *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", command)
        patch.setattr(console, "file", err)
        for name, value in {"COLUMNS": "200", **variables}.items():
            patch.setenv(name, value)
        if cwd:
            patch.chdir(cwd)
        with pytest.raises(SystemExit) as ended:
            main()
    return subprocess.CompletedProcess(command, int(ended.value.code or 0), out.getvalue(), err.getvalue())


@contextmanager
def without_plugins() -> Iterator[None]:
    """Start without plugins, and forget those that were loaded meanwhile."""
    from compress import plugins, registry

    tables = (registry.RUNTIMES, registry.STAGES, registry.SOURCES, registry.PLUGIN_LOSSES)
    before = [dict(table) for table in tables]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(plugins.VARIABLE, "")
        patch.setattr(plugins, "_DIGESTS", {})
        try:
            yield
        finally:
            for table, entries in zip(tables, before, strict=True):
                table.clear()
                table.update(entries)  # type: ignore[arg-type]


def environment() -> dict[str, str]:
    return {**os.environ, "COLUMNS": "200"}


def photographs(folder: Path, count: int, seed: int) -> None:
    """Write noisy stripes whose colour and direction depend on the class."""
    rng = np.random.default_rng(seed)
    for label, name in enumerate(("across", "down", "both")):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            waves = np.sin((np.arange(32) + rng.uniform(0, 6)) * rng.uniform(0.5, 1.5))
            across, down = np.tile(waves, (32, 1)), np.tile(waves[:, None], (1, 32))
            grey = (across, down, (across + down) / 2)[label]
            colour = 90 * grey[..., None] * np.eye(3)[label] + rng.normal(128, 25, (32, 32, 3))
            Image.fromarray(colour.clip(0, 255).astype(np.uint8)).save(folder / name / f"{number}.png")


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def teacher_folder(parent: Path) -> None:
    """Write the folder that scripts/train_cifar10_teacher.py makes, as far as a recipe's checks read it."""
    folder = parent / "cifar10-teacher"
    folder.mkdir()
    vision = {"timm_model_name": "resnet50", "timm_proj": "linear", "image_size": 96}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"embed_dim": 256, "vision_cfg": vision}}))


def write_stl10(root: Path, monkeypatch: pytest.MonkeyPatch, **counts: int) -> dict[str, np.ndarray]:
    """Write noise in STL-10's own format, with the given counts per split; return images `[n, 3, 96, 96]`."""
    from torchvision.datasets import STL10

    from compress.data.torchvision_sets import PUBLISHED

    rng, folder = np.random.default_rng(0), root / "stl10_binary"
    folder.mkdir()
    images = {name: rng.integers(0, 256, (count, 3, 96, 96), np.uint8) for name, count in counts.items()}
    for name, array in images.items():
        array.transpose(0, 1, 3, 2).tofile(folder / f"{name}_X.bin")  # columns first, as STL-10 has them
        if name != "unlabeled":
            (np.arange(len(array)) % 10 + 1).astype(np.uint8).tofile(folder / f"{name}_y.bin")
    (folder / "class_names.txt").write_text("".join(f"{name}\n" for name in PUBLISHED["stl10"].classes))
    folds = (" ".join(map(str, rng.permutation(counts["train"])[: counts["train"] // 5])) for _ in range(10))
    (folder / "fold_indices.txt").write_text("".join(f"{fold} \n" for fold in folds))
    for table in ("train_list", "test_list"):
        monkeypatch.setattr(STL10, table, [[name, md5(folder / name)] for name, _ in getattr(STL10, table)])
    return images


def write_open_clip(folder: Path, architecture: str, **changes: dict[str, object]) -> None:
    """Write an OpenCLIP model with random weights as a `local-dir:` folder.

    Args:
        architecture: Name in open_clip.
        changes: Entries of `vision_cfg` and `text_cfg` that differ from it.
    """
    import open_clip
    import torch
    from safetensors.torch import save_file

    config = open_clip.get_model_config(architecture)
    for section, values in changes.items():
        config[section] |= values
    # Published checkpoints state the filter and the mean and standard deviation of OpenAI's CLIP.
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    preprocess = {"mean": mean, "std": std, "interpolation": "bicubic", "resize_mode": "shortest"}
    folder.mkdir()
    about = {"model_cfg": config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(about))
    torch.manual_seed(0)
    save_file(open_clip.model.CLIP(**config).state_dict(), folder / "open_clip_model.safetensors")


def follows_the_schema(results: dict[str, Any]) -> None:
    """Assert that results follow the published schema and have no key that it does not describe."""
    jsonschema = pytest.importorskip("jsonschema")
    from compress.results.schema import results_schema

    schema = results_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    errors = [
        f"{error.json_path}: {error.message}" for error in jsonschema.Draft202012Validator(schema).iter_errors(results)
    ]
    assert not errors, errors
    unknown = list(_not_described(results, schema, schema["$defs"], "$"))
    assert not unknown, f"keys that compress/results does not describe: {unknown}"


def _not_described(value: Any, schema: dict[str, Any], definitions: dict[str, Any], place: str) -> Iterator[str]:
    for alternative in alternatives(schema, definitions):
        if isinstance(value, list) and "items" in alternative:
            for item in value:
                yield from _not_described(item, alternative["items"], definitions, f"{place}[]")
        if isinstance(value, dict) and "properties" in alternative:
            for key, item in value.items():
                if key not in alternative["properties"]:
                    yield f"{place}.{key}"
                yield from _not_described(item, alternative["properties"].get(key, {}), definitions, f"{place}.{key}")


def alternatives(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schemas of which a value follows one, without references."""
    if "$ref" in schema:
        yield from alternatives(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    elif "anyOf" in schema:
        for one in schema["anyOf"]:
            yield from alternatives(one, definitions)
    else:
        yield schema
