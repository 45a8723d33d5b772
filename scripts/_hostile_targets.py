"""What `fuzz_campaign.py` attacks: each target writes an input into a folder and puts it through the program."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import shutil
import stat
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from typing import Any

from _hostile_inputs import (
    TOKENS,
    VALUES,
    bomb,
    changed,
    damaged,
    hostile_pickle,
    hostile_safetensors,
    images,
    of_schema,
    png_bomb,
)

CHECKOUT = Path(__file__).resolve().parents[1]
CANARY = "canary"


class Finding(Exception):
    """The program has done what it must not do."""


def recipe(rng: Random, folder: Path) -> None:
    """The recipe loader: bytes, tricks, changed shipped recipes, values of the schema."""
    from compress.recipe import load_recipe
    from compress.recipe.schema import Recipe

    shipped = sorted((CHECKOUT / "recipes").glob("*.yaml"))
    match rng.randrange(4):
        case 0:
            content = bomb(rng, folder / CANARY)
        case 1:
            content = damaged(rng.choice(shipped).read_bytes(), rng)
        case 2:
            import yaml

            content = json.dumps(
                changed(yaml.safe_load(rng.choice(shipped).read_text()), rng, rng.choice((0, 1, 2, 5)))
            ).encode()
        case _:
            schema = Recipe.model_json_schema(by_alias=True)
            content = json.dumps(of_schema(schema, schema, rng)).encode()
    file = folder / "it.yaml"
    file.write_bytes(content)
    loaded = load_recipe(file)
    for name in (loaded.name, *(stage.id for stage in loaded.stages)):
        if name in (".", "..") or Path(name).name != name or name.startswith("-"):
            raise Finding(f"the name {name!r} leads out of the run folder")
    json.dumps(loaded.resolved())


def image(rng: Random, folder: Path) -> None:
    """The decoder of one image file."""
    from compress.data.files import decode

    ending, data = rng.choice(list(images(rng).items()))
    name = rng.choice((f"it.{ending}", "it.jpg", f"-\n{rng.choice(('é', '‮', 'a' * 200))}.{ending}"))
    data = png_bomb(rng) if rng.random() < 0.05 else damaged(data, rng)
    (folder / name).write_bytes(data)
    pixels = decode(folder / name, 32)
    if pixels.shape != (3, 32, 32):
        raise Finding(f"decoded to {pixels.shape}")


def tree(rng: Random, folder: Path) -> None:
    """The reader of a folder of images: odd names, links, pipes, depth."""
    from compress.data.sources import SOURCES
    from compress.recipe.data import FolderData

    good = images(rng)["png"]
    names = ("a", rng.choice(("b", "-b", "b\nc", "é" * 100, "ü", "<script>", "b" * 255)))
    for part in ("train", "test"):
        for name in names:
            (folder / part / name).mkdir(parents=True, exist_ok=True)
            for number in range(12):
                (folder / part / name / f"{number}.png").write_bytes(good)
    where = folder / rng.choice(("train", "test")) / "a"
    match rng.randrange(9):
        case 0:
            (where / "out.png").symlink_to(
                rng.choice(("/etc/passwd", "/dev/zero", "/dev/stdin", "/nowhere", "out.png"))
            )
        case 1:
            (where / "up").symlink_to(rng.choice(("..", "../..", "/proc/self", "up", str(folder))))
        case 2:
            os.mkfifo(where / "pipe.png")
        case 3:
            _deep(where, rng.choice((50, 900, 2000)), rng.choice(("d", "d" * 200)))
        case 4:
            (where / rng.choice(("x\n.png", "-rf.png", "a" * 251 + ".png", "‮gnp.png", "\udcff.png"))).write_bytes(good)
        case 5:
            (where / "folder.png").mkdir()
        case 6:
            (where / "bad.png").write_bytes(damaged(good, rng))
        case 7:
            shutil.rmtree(where)
        case _:
            (folder / "fifo").mkdir()
            os.mkfifo(folder / "fifo" / "it")
            (where / "pipe.png").symlink_to(folder / "fifo" / "it")
    settings = FolderData(
        source="image-folder", path=str(folder), resolution=16, broken=rng.choice(("refuse", "skip")), validation=0.2
    )
    source = SOURCES[settings.source]
    source.contents(settings, None)
    scratch = folder / "scratch"
    scratch.mkdir()
    source.read(settings, scratch)


def _deep(folder: Path, levels: int, name: str) -> None:
    """Folders in folders, deeper than a path may be long."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.mknod("it.png", 0o600 | stat.S_IFREG, dir_fd=here)
    os.close(here)


def checkpoint(rng: Random, folder: Path) -> None:
    """Weights files and variants: pickles with code, false headers, architectures that are not."""
    import torch
    from safetensors.torch import save

    from compress.models.checkpoints import load_variant, read_weights
    from compress.models.class_names import classes_of

    name = rng.choice(("it.pth", "it.safetensors", "model.safetensors"))
    weights = {"fc.weight": torch.zeros(3, 4), "fc.bias": torch.zeros(3)}
    match rng.randrange(5):
        case 0:
            data = hostile_pickle(rng, folder / CANARY)
        case 1:
            out = io.BytesIO()
            torch.save({"state_dict": weights}, out, _use_new_zipfile_serialization=rng.random() < 0.7)
            data = damaged(out.getvalue(), rng)
        case 2:
            data = hostile_safetensors(rng, {name: list(value.shape) for name, value in weights.items()})
        case 3:
            data = damaged(save(weights), rng)
        case _:
            data, name = save(_network()), "model.safetensors"
    (folder / name).write_bytes(data)
    if name == "model.safetensors":
        about = {"library": "timm", "model": "test_resnet", "options": {}, "classes": ["a", "b"], "resolution": 32}
        about |= {"sizes": {"fc": {"out_features": 2}}, "quantization": None}
        text = json.dumps(changed(about, rng, rng.choice((0, 1, 1, 3)))).encode()
        (folder / "architecture.json").write_bytes(damaged(text, rng) if rng.random() < 0.2 else text)
        classes_of(folder / name)
        load_variant(folder)
    read_weights(folder / name)


@cache
def _network() -> dict[str, Any]:
    from compress.models.build import create_model

    return create_model("timm", "test_resnet", 2, 32).state_dict()


def artifact(rng: Random, folder: Path) -> None:
    """Artifacts: `preprocess.json`, the ONNX file, and what Triton is told of it."""
    from compress.deployment.artifact import load_artifact
    from compress.deployment.inputs import read_inputs
    from compress.deployment.triton import write_triton

    about = {"resolution": 8, "mean": [0.5] * 3, "std": [0.2] * 3, "interpolation": "bicubic", "classes": ["a", "b"]}
    whole = changed(about, rng, rng.choice((0, 0, 1, 2)))
    text = json.dumps(whole).encode()
    (folder / "preprocess.json").write_bytes(damaged(text, rng) if rng.random() < 0.2 else text)
    model = _onnx()
    (folder / "model.onnx").write_bytes(damaged(model, rng) if rng.random() < 0.5 else model)
    inputs, classes = read_inputs(folder)
    if isinstance(whole, dict) and rng.random() < 0.3:
        write_triton(
            {"onnxruntime": folder / "model.onnx"}, folder / "triton" / "it", {**about, "classes": list(classes)}
        )
        lines = (folder / "triton" / "it" / "labels.txt").read_text(encoding="utf-8").split("\n")
        if len(lines) != len(classes) + 1:
            raise Finding(f"{len(classes)} classes became {len(lines) - 1} lines of labels")
    if inputs.resolution <= 512:  # a larger one is the recipe's own wish, and takes what it takes
        load_artifact(folder / "model.onnx", threads=1)


def _onnx() -> bytes:
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, "h", "w"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor("w", TensorProto.FLOAT, [3, 2], [0.1] * 6)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


def table(rng: Random, folder: Path) -> None:
    """Tables of published points, as `gap --models` and `--hardware` read them."""
    from compress.gap import gap_record

    points = CHECKOUT / "configs" / "trends" / "points"
    kind, name = rng.choice((("models", "ai-and-compute.csv"), ("hardware", "hardware.csv")))
    rows = list(csv.reader((points / name).read_text().splitlines()))
    for _ in range(rng.randrange(6)):
        row = rng.choice(rows)
        row[rng.randrange(len(row))] = str(rng.choice(VALUES))
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    data = out.getvalue().encode("utf-8", "surrogatepass")
    (folder / "it.csv").write_bytes(damaged(data, rng) if rng.random() < 0.5 else data)
    record = gap_record((), 2012, 2024, **{kind: folder / "it.csv"})
    json.dumps(record, allow_nan=False)


def report(rng: Random, folder: Path) -> None:
    """`report` on a hostile `results.json`: refused in one line, or a page that runs nothing."""
    from compress.cli import app

    results = _example()
    if rng.random() < 0.7:
        results = _renamed(results, rng.choice(sorted(_texts(results))), rng.choice(MARKUP) + rng.choice(TOKENS[:10]))
    if rng.random() < 0.6:
        results = changed(results, rng, rng.choice((1, 1, 2, 8)))
    (folder / "results.json").write_text(json.dumps(results))
    app(["report", str(folder)], standalone_mode=False)
    page = _Page()
    page.feed((folder / "report.html").read_text(encoding="utf-8"))
    if page.wrong:
        raise Finding(f"the page holds {page.wrong[0]}")


MARKUP = ("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", '"><svg onload=alert(1)>', "</svg><script>1")


def _texts(value: Any) -> set[str]:
    """All texts in plain data: names of classes, variants, layers, machines."""
    if isinstance(value, dict | list):
        return set().union(*(_texts(part) for part in (value.values() if isinstance(value, dict) else value)))
    return {value} if isinstance(value, str) else set()


def _renamed(value: Any, old: str, new: str) -> Any:
    """Plain data in which a text is another one wherever it stands, also as a key."""
    if isinstance(value, dict):
        return {_renamed(key, old, new): _renamed(part, old, new) for key, part in value.items()}
    if isinstance(value, list):
        return [_renamed(part, old, new) for part in value]
    return new if value == old else value


def _example() -> Any:
    spec = importlib.util.spec_from_file_location("example_results", CHECKOUT / "tests" / "report" / "conftest.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.example()


class _Page(HTMLParser):
    """What a page must not hold: elements and attributes that run or load something, but for the one script of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []
        self.script: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self.script = ""
        if tag in ("iframe", "object", "embed", "link", "base", "form", "foreignobject"):
            self.wrong.append(f"<{tag}>")
        for name, value in attrs:
            outside = name in ("href", "src", "xlink:href", "action") and not (value or "").startswith(
                ("#", "data:image/")
            )
            if name.startswith("on") or outside:
                self.wrong.append(f"<{tag} {name}={value!r}>")

    def handle_data(self, data: str) -> None:
        if self.script is not None:
            self.script += data

    def handle_endtag(self, tag: str) -> None:
        ours = CHECKOUT / "compress" / "report" / "templates" / "html" / "sort.js"
        if tag == "script" and self.script is not None:
            if self.script.strip() != ours.read_text(encoding="utf-8").strip():
                self.wrong.append(f"<script>{self.script[:60]!r}")
            self.script = None


def store(rng: Random, folder: Path) -> None:
    """Entries of the store: manifests and digests that are not what they should be."""
    from compress.data.digests import digests
    from compress.pipeline.store import Store

    entry = folder / "store" / "aaaa"
    entry.mkdir(parents=True)
    (entry / "metrics.json").write_text("{}")
    manifest = {
        "what": "x",
        "files": {"metrics.json": {"bytes": 2, "sha256": "0" * 64}, "b/c": {"bytes": 1, "sha256": ""}},
    }
    text = json.dumps(changed(manifest, rng, rng.randrange(1, 4))).encode()
    (entry / "entry.json").write_bytes(damaged(text, rng) if rng.random() < 0.4 else text)
    if Store(folder / "store").has("aaaa"):
        listed = json.loads((entry / "entry.json").read_text())["files"]
        if any(name in listed for name in manifest["files"]):
            raise Finding("an entry whose digests are wrong counts as whole")
    cache = {str(entry / "metrics.json"): [2, 5, "x"], "b": [1, 2, rng.choice(TOKENS)]}
    (folder / "fingerprints.json").write_text(json.dumps(changed(cache, rng, 2)))
    digests([entry / "metrics.json"], folder / "fingerprints.json", "it")


TARGETS: dict[str, tuple[Callable[[Random, Path], None], float]] = {
    # What is attacked, and its share of the inputs: pages take a quarter of a second each.
    "recipe": (recipe, 0.36),
    "image": (image, 0.2),
    "tree": (tree, 0.03),
    "checkpoint": (checkpoint, 0.12),
    "artifact": (artifact, 0.12),
    "table": (table, 0.08),
    "report": (report, 0.006),
    "store": (store, 0.08),
}
