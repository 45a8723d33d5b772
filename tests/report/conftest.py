"""A realistic `results.json` for the tests of the report; what a saving is worth is from the real arithmetic."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.data.prepared import ImageData, Split
from compress.efficiency import training_efficiency, wilson, worth
from compress.pipeline.predictions import Predictions, bits, class_changes, digest_of, disagreements
from compress.report.compare import compare
from compress.report.comparison import Comparison

TREND: dict[str, Any] = {
    "name": "epoch-fp32",
    "growth": 4.1,
    "hardware": 1.35171,
    "basis": "FP32 rate of accelerators",
    "source": "Hobbhahn, Heim and Aydos, Trends in Machine Learning Hardware, Epoch AI (2023)",
}
N = 2500
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
# id, kind, parent, correct, MACs, bits, params, bytes, times as fast
ROWS: tuple[tuple[Any, ...], ...] = (
    ("teacher", "teacher", None, 2372, 470_000_000, 32, 5_400_000, 10_900_000, 1.0),
    ("scratch", "train", None, 1488, 148_700_000, 32, 11_174_000, 44_780_000, 2.4),
    ("distilled", "distill", None, 2060, 148_700_000, 32, 11_174_000, 44_780_000, 2.4),
    ("pruned", "prune", "distilled", 2046, 73_900_000, 32, 4_312_000, 17_310_000, 4.3),
    ("int8", "quantize", "pruned", 2043, 73_900_000, 8, 4_312_000, 4_490_000, 12.6),
)
TRAINING: dict[str, list[tuple[str, int]]] = {
    "scratch": [("student forward and backward", 61_000_000_000_000)],
    "distilled": [
        ("student forward and backward", 61_000_000_000_000),
        ("teacher forward, stored once", 11_280_000_000_000),
    ],
    "pruned": [
        ("student forward and backward", 79_400_000_000_000),
        ("teacher forward, stored once", 11_280_000_000_000),
    ],
    "int8": [
        ("student forward and backward", 79_400_000_000_000),
        ("teacher forward, stored once", 11_280_000_000_000),
        ("calibration", 18_000_000_000),
    ],
}
PAIRED: dict[str, dict[str, tuple[int, int, int]]] = {
    "teacher": {"scratch": (910, 26, N), "distilled": (356, 44, N), "pruned": (371, 45, N), "int8": (374, 45, N)},
    "distilled": {"teacher": (44, 356, N), "scratch": (650, 78, N), "pruned": (41, 27, N), "int8": (44, 27, N)},
}


def _latency(id: str, bits: int, faster: float) -> list[dict[str, Any]]:
    rows = []
    for runtime, base in (("pytorch", 11.8), ("onnxruntime", 8.6), ("openvino", 6.9)):
        if bits == 8 and runtime == "pytorch":
            continue
        for batch in (1, 16):
            p50 = base * batch**0.86 / faster
            rows.append(
                {
                    "runtime": runtime,
                    "precision": "int8" if bits == 8 else "fp32",
                    "batch": batch,
                    "threads": 2,
                    "resolution": 32,
                    "p50_ms": p50,
                    "p99_ms": p50 * 1.31,
                    "ratio_to_reference": faster,
                    "ratio_ci95": [faster * 0.97, faster * 1.04] if id != "teacher" else None,
                }
            )
    return rows


def _artifacts(id: str, bits: int, top1: float, size: int) -> list[dict[str, Any]]:
    if id == "teacher":
        return []
    form = "QDQ ONNX" if bits == 8 else "ONNX"
    return [
        {
            "runtime": runtime,
            "format": form if runtime == "onnxruntime" else "OpenVINO IR",
            "path": f"artifacts/{id}/{runtime}/model.{'onnx' if runtime == 'onnxruntime' else 'xml'}",
            "bytes": size,
            "top1": top1,
            "top1_agreement": 0.9964 if bits == 8 else 1.0,
            "integer_macs_share": (0.49 if runtime == "onnxruntime" else 1.0) if bits == 8 else 0.0,
            "max_abs_diff": 0.31 if bits == 8 else 3.1e-6,
        }
        for runtime in ("onnxruntime", "openvino")
    ]


def _variant(row: tuple[Any, ...]) -> dict[str, Any]:
    id, kind, parent, correct, macs, bits, params, size, faster = row
    parts: list[dict[str, Any]] = [{"what": what, "macs": spent} for what, spent in TRAINING.get(id, [])]
    total = sum(part["macs"] for part in parts)
    final = correct / N
    curve = [{"macs": total * i / 10, "top1": final * (1 - 0.6**i)} for i in range(1, 11)] if total else []
    return {
        "id": id,
        "kind": kind,
        "parent": parent,
        "stage_key": f"{abs(hash(id)):x}",
        "accuracy": {"top1": final, "correct": correct, "n": N, "ci95": list(wilson(correct, N)), "split": "test"},
        "inference": {
            "macs": macs,
            "bit_operations": macs * bits * bits,
            "params": params,
            "bytes": size,
            "weight_bits": bits,
            "activation_bits": bits,
            "quantized_convs": 20 if bits == 8 else 0,
            "total_convs": 49 if id == "teacher" else 20,
            "latency": _latency(id, bits, faster),
            "peak_memory_bytes": 412_000_000,
            "energy_j": {"value": None, "method": None},
        },
        "training": {
            "macs": total,
            "parts": parts,
            "wall_s": 140.0 if parts else 0.0,
            "energy_j": {"value": None, "method": None},
            "curve": curve if kind in ("train", "distill") else [],
        },
        "artifacts": _artifacts(id, bits, final, size),
    }


def answered() -> Predictions:
    """Logits that are right as often, and on as many images together, as the rows and `PAIRED` say."""
    rng = np.random.default_rng(0)
    labels, images = np.arange(N) % len(CLASSES), rng.integers(0, 256, (N, 3, 32, 32), np.uint8)
    test = Split(images, labels)
    data = ImageData("cifar10-sample", tuple(CLASSES), 32, test, test, test, test, "", 0)
    logits = {}
    for row in ROWS:
        said = np.where(_right(row[0]), labels, (labels + 1 + labels % 3) % len(CLASSES))
        logits[row[0]] = np.eye(len(CLASSES), dtype=np.float32)[said] * rng.uniform(2, 9, (N, 1)).astype(np.float32)
    return Predictions(data, logits)


def _right(id: str) -> np.ndarray:
    """[N] booleans. The images lie in four blocks: teacher and `distilled` right, only the one or the other, none."""
    b, c, _ = PAIRED["teacher"]["distilled"]
    teacher = ROWS[0][3]
    sizes = (teacher - b, b, c, N - teacher - c)
    if id in ("teacher", "distilled"):
        mine = ((sizes[0], b, 0, 0), (sizes[0], 0, c, 0))[id == "distilled"]
    else:
        (lost, gained, _), (left, won, _) = PAIRED["teacher"][id], PAIRED["distilled"][id]
        mine = next(
            shares
            for new in range(gained + 1)  # of the images that neither has right
            if (shares := (sizes[0] - (lost - (b - won + new)), won - new, gained - new, new))
            and all(0 <= share <= size for share, size in zip(shares, sizes, strict=True))
            and sizes[0] - shares[0] + c - shares[2] == left
        )
    return np.concatenate([np.arange(size) < share for share, size in zip(mine, sizes, strict=True)])


def _answers() -> dict[str, Any]:
    """What `results.json` says of them."""
    found = answered()
    return {
        "right": {name: bits(right) for name, right in found.right.items()},
        "test_sha256": digest_of(found.data.test),
        "class_changes": [change for reference in PAIRED for change in class_changes(found, reference)],
        "disagreements": disagreements(found, "teacher", "int8"),
    }


def example() -> dict[str, Any]:
    """The example, fresh each time."""
    return copy.deepcopy(_example())


@cache
def _example() -> dict[str, Any]:
    """The quickstart as it could come out: nothing is granted against the teacher, much against `distilled`."""
    variants, answers = [_variant(row) for row in ROWS], _answers()
    for variant in variants:
        variant["accuracy"]["right"] = answers["right"][variant["id"]]
    return {
        "schema_version": 1,
        "recipe": {
            "name": "quickstart",
            "sha256": "9f2c" * 16,
            "resolved": {
                "name": "quickstart",
                "seed": 0,
                "data": {"kind": "cifar10-sample"},
                "stages": [
                    {"id": "teacher", "kind": "teacher", "open_clip": "embedded"},
                    {"id": "distilled", "kind": "distill", "from": "teacher", "epochs": 20, "temperature": 2.0},
                    {"id": "pruned", "kind": "prune", "from": "distilled", "target_macs": 0.5},
                    {"id": "int8", "kind": "quantize", "from": "pruned", "scheme": "static-int8"},
                ],
                "worth": {"references": ["teacher", "distilled"], "tolerance": 0.02, "trend": TREND},
            },
        },
        "command": "compress-model run recipes/quickstart.yaml --set stages.pruned.target_macs=0.5",
        "run": {
            "id": "2026-11-23T13-20-04-9f2c",
            "started": "2026-11-23T13:20:04Z",
            "wall_s": 541.2,
            "made": ["pruned", "int8"],
            "from_store": ["teacher", "scratch", "distilled"],
        },
        "environment": {
            "compress": "0.1.0",
            "python": "3.11.7",
            "torch": "2.15.0",
            "packages": {"timm": "1.0.30", "torchao": "0.18.0", "openvino": "2026.3.0"},
            "cpu": "AMD EPYC 9B14",
            "threads": 2,
            "gpu": None,
        },
        "data": {
            "name": "cifar10-sample",
            "classes": CLASSES,
            "train": 2000,
            "unlabeled": 6000,
            "validation": 500,
            "test": N,
            "skipped": 0,
            "test_sha256": answers["test_sha256"],
        },
        "variants": variants,
        "efficiency": [worth(variants, reference, 0.02, TREND, paired) for reference, paired in PAIRED.items()],
        "training_efficiency": training_efficiency(variants, TREND),
        "class_changes": answers["class_changes"],
        "disagreements": answers["disagreements"],
    }


@pytest.fixture
def results() -> dict[str, Any]:
    """The example, fresh for every test."""
    return example()


@pytest.fixture
def second() -> dict[str, Any]:
    """Another run of the example: pruned further, 200 more of the test images wrong for it, and one new variant."""
    run = example()
    run["run"]["id"] = "second"
    run["recipe"]["resolved"]["stages"][2]["target_macs"] = 0.25
    run["environment"]["cpu"] = "another"
    pruned = run["variants"][3]
    right = np.unpackbits(np.frombuffer(bytes.fromhex(pruned["accuracy"]["right"]), np.uint8))[:N].astype(bool)
    right[np.flatnonzero(right)[:200]] = False
    correct = int(right.sum())
    pruned["accuracy"] |= {"correct": correct, "top1": correct / N, "right": bits(right), "n": N}
    pruned["accuracy"]["ci95"] = list(wilson(correct, N))
    pruned["inference"]["macs"] //= 2
    pruned["stage_key"] = "another"
    for row in pruned["inference"]["latency"]:
        row["ratio_ci95"] = [2 * end for end in row["ratio_ci95"]]
    run["variants"].append({**copy.deepcopy(pruned), "id": "new"})
    return run


@pytest.fixture
def crowded() -> dict[str, Any]:
    """The quantization recipe as it comes out: one reference, and nine variants of its MACs and nearly its accuracy."""
    run = example()
    teacher, distilled, int8 = (run["variants"][number] for number in (0, 2, 4))
    names = (
        "histogram",
        "minmax",
        "percentile",
        "eight_bits",
        "nncf",
        "nncf_corrected",
        "onnxruntime",
        "aware",
        "held",
    )
    made = []
    for number, name in enumerate(names):
        correct = 2060 - 3 * (number % 5)
        variant = {**copy.deepcopy(int8), "id": name, "parent": "distilled"}
        variant["accuracy"] |= {"correct": correct, "top1": correct / N, "ci95": list(wilson(correct, N))}
        variant["inference"] |= {"macs": distilled["inference"]["macs"], "bit_operations": 64 * 148_700_000}
        made.append(variant)
    run["variants"] = [teacher, distilled, *made]
    paired = {name: (20 + 3 * (number % 5), 20, N) for number, name in enumerate(names)}
    run["efficiency"] = [worth(run["variants"], "distilled", 0.02, TREND, {"teacher": (44, 356, N), **paired})]
    run["class_changes"], run["training_efficiency"] = [], []
    return run


@pytest.fixture
def compared(results: dict[str, Any], second: dict[str, Any], tmp_path: Path) -> Callable[[], Comparison]:
    """Holds the two against each other, as they are when it is called."""

    def held() -> Comparison:
        folders = [tmp_path / name for name in ("first", "second")]
        for folder, run in zip(folders, (results, second), strict=True):
            folder.mkdir(exist_ok=True)
            (folder / "results.json").write_text(json.dumps(run))
        return compare(folders)

    return held
