"""Hand-made records of a run: builders with defaults, and a whole quickstart as it could come out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from compress.data.prepared import ImageData, Split
from compress.efficiency.files import FileKey
from compress.efficiency.headline import headline
from compress.efficiency.intervals import wilson
from compress.efficiency.months import savings_in_months
from compress.efficiency.savings import savings
from compress.efficiency.training import training_efficiency
from compress.measurement.accuracy import bits
from compress.pipeline.predictions import Predictions, class_changes, digest_of, disagreements
from compress.pipeline.quality import Predictor, with_quality
from compress.pipeline.quality_changes import quality_changes
from compress.results import (
    Accuracy,
    Artifact,
    CurvePoint,
    DataSummary,
    EnergyRow,
    Environment,
    InferenceEnergy,
    LatencyRow,
    MeasuredInference,
    PeakMemoryBasis,
    RecipeRecord,
    RunInfo,
    RunRecord,
    TeacherPretraining,
    Training,
    TrainingEnergy,
    TrainingPart,
    Trend,
    Variant,
)
from compress.results.per_image import encode_labels

TREND = Trend(
    name="epoch-fp32",
    growth=4.1,
    hardware=1.35171,
    basis="FP32 rate of accelerators",
    source="Hobbhahn, Heim and Aydos, Trends in Machine Learning Hardware, Epoch AI (2023)",
)
N = 2500
BILLION = 10**9
DATE = 2026.9
VALIDATION = 500
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# id, kind, parent, correct, MACs, bits, params, bytes, times as fast
ROWS: tuple[tuple[str, str, str | None, int, int, int, int, int, float], ...] = (
    ("teacher", "teacher", None, 2372, 470_000_000, 32, 5_400_000, 10_900_000, 1.0),
    ("scratch", "train", None, 1488, 148_700_000, 32, 11_174_000, 44_780_000, 2.4),
    ("distilled", "distill", None, 2060, 148_700_000, 32, 11_174_000, 44_780_000, 2.4),
    ("pruned", "prune", "distilled", 2046, 73_900_000, 32, 4_312_000, 17_310_000, 4.3),
    ("int8", "quantize", "pruned", 2043, 73_900_000, 8, 4_312_000, 4_490_000, 12.6),
)
DISTILLED_FASTER = ROWS[2][-1]  # the first reference, which ratios of latency are to
SCRATCH = [("student forward and backward", 61_000_000_000_000)]
DISTILLED = [*SCRATCH, ("teacher forward, stored once", 11_280_000_000_000)]
PRUNED = [*DISTILLED, ("repair forward and backward", 18_400_000_000_000)]
TRAINING = {
    "scratch": SCRATCH,
    "distilled": DISTILLED,
    "pruned": PRUNED,
    "int8": [*PRUNED, ("calibration", 18_000_000_000)],
}
PAIRED: dict[str, dict[str, tuple[int, int, int]]] = {
    "distilled": {"teacher": (44, 356, N), "scratch": (650, 78, N), "pruned": (41, 27, N), "int8": (44, 27, N)},
    "teacher": {"scratch": (910, 26, N), "distilled": (356, 44, N), "pruned": (371, 45, N), "int8": (374, 45, N)},
}


def accuracy(correct: int = 800, n: int = 1000, right: str | None = None) -> Accuracy:
    return Accuracy(top1=correct / n, correct=correct, n=n, ci95=wilson(correct, n), split="test", right=right)


def latency_row(
    runtime: str = "openvino", batch: int = 1, p50_ms: float = 1.0, *, p99_ms: float | None = None, **changes: Any
) -> LatencyRow:
    values = {"precision": "fp32", "threads": 2, "resolution": 32, "ratio_to_reference": None, "ratio_ci95": None}
    processes = (0.99 * p50_ms, p50_ms, p50_ms / 0.99)  # whose geometric mean is the median
    values |= {"timings": 300, "process_p50_ms": processes, "rounds_ms": tuple((ms,) * 10 for ms in processes)}
    p99_ms = 1.2 * p50_ms if p99_ms is None else p99_ms
    return LatencyRow(runtime=runtime, batch=batch, p50_ms=p50_ms, p99_ms=p99_ms, **{**values, **changes})


def energy_row(runtime: str, value: float, batch: int = 16, method: str = "measured: RAPL") -> EnergyRow:
    return EnergyRow(value=value, method=method, runtime=runtime, precision="fp32", batch=batch, threads=2)


def inference(
    macs: int = 1000,
    bits: int = 32,
    *,
    bit_operations: int | None = None,
    latency: Sequence[LatencyRow] = (),
    energy: InferenceEnergy | None = None,
    memory: tuple[int, str, int] | None = None,
    params: int = 100,
    size: int = 400,
    convs: int = 20,
) -> MeasuredInference:
    """Cost of inference; `memory` is peak bytes with the runtime and batch that they were measured at."""
    return MeasuredInference(
        macs=macs,
        bit_operations=macs * bits * bits if bit_operations is None else bit_operations,
        params=params,
        bytes=size,
        weight_bits=bits,
        activation_bits=bits,
        quantized_convs=convs if bits < 32 else 0,
        total_convs=convs,
        latency=tuple(latency),
        peak_memory_bytes=memory[0] if memory else None,
        peak_memory_basis=PeakMemoryBasis(runtime=memory[1], batch=memory[2]) if memory else None,
        energy_j=energy or InferenceEnergy(value=None, method=None),
    )


def training(
    macs: int = 0,
    curve: Sequence[tuple[int, float] | CurvePoint] = (),
    parts: Sequence[tuple[str, int]] = (),
    **changes: Any,
) -> Training:
    values = {"wall_s": 0.0, "energy_j": TrainingEnergy(value=None, method=None), "selected_on": "last"}
    values["teacher_pretraining"] = TeacherPretraining(macs=0, source=None)
    return Training(
        macs=macs,
        curve=tuple(one if isinstance(one, CurvePoint) else CurvePoint(macs=one[0], top1=one[1]) for one in curve),
        parts=tuple(TrainingPart(what=what, macs=spent) for what, spent in parts),
        **{**values, **changes},
    )


def variant(id: str, kind: str = "train", **changes: Any) -> Variant:
    values = {"accuracy": accuracy(), "inference": inference(), "training": training()}
    return Variant(id=id, kind=kind, **{**values, **changes})


def right(correct: int, lost: int = 0, gained: int = 0, n: int = N) -> str:
    """One bit per image: what a reference with the first `correct` images right loses and gains."""
    found = np.arange(n) < correct
    found[:lost], found[n - gained :] = False, True
    return bits(found)


def savings_of(results: dict[str, Any], reference: str, tolerance: float = 0.02) -> dict[str, Any]:
    """An entry of `efficiency` for the variants of plain results, as plain data."""
    variants = [Variant.model_validate(one) for one in results["variants"]]
    return savings(variants, reference, tolerance, TREND, DATE).model_dump(mode="json")


def derive(results: dict[str, Any]) -> RunRecord:
    """The record of plain results, with its headline and months computed again."""
    record = RunRecord.model_validate(results)
    return record.model_copy(
        update={
            "headline": headline(record.variants, record.efficiency, record.training_efficiency, DATE),
            "months": savings_in_months(record.efficiency, record.training_efficiency, TREND, DATE),
        }
    )


def example() -> dict[str, Any]:
    """The example as plain data, fresh each time."""
    return example_record().model_dump(mode="json")


@cache
def example_record() -> RunRecord:
    """The quickstart as it could come out: nothing is granted against the teacher, much against `distilled`."""
    found = predictions()
    predicted = predictors(found)
    variants = with_quality([_variant(*row, right=bits(found.correct[row[0]])) for row in ROWS], predicted)
    saved = [savings(variants, reference, 0.02, TREND, DATE) for reference in PAIRED]
    learned = training_efficiency(variants, TREND, DATE, images=VALIDATION)
    return RunRecord(
        schema_version=3,
        run=RunInfo(
            id="2026-11-23T13-20-04-9f2c",
            started="2026-11-23T13:20:04Z",
            wall_s=541.2,
            made=("pruned", "int8"),
            from_store=("teacher", "scratch", "distilled"),
        ),
        command="compress-model run recipes/quickstart.yaml --set stages.pruned.target_macs=0.5",
        recipe=RecipeRecord(name="quickstart", sha256="9f2c" * 16, resolved=_recipe()),
        environment=Environment(
            compress="0.1.0",
            python="3.11.7",
            torch="2.15.0",
            packages={"timm": "1.0.30", "torchao": "0.18.0", "openvino": "2026.3.0"},
            cpu="AMD EPYC 9B14",
            threads=2,
            gpu=None,
        ),
        data=DataSummary(
            name="cifar10-sample",
            classes=CLASSES,
            train=2000,
            unlabeled=6000,
            validation=VALIDATION,
            test=N,
            skipped=0,
            chance=0.1,
            test_sha256=digest_of(found.data.test),
            test_labels=encode_labels(found.labels.tolist(), len(CLASSES)),
        ),
        variants=tuple(variants),
        headline=headline(variants, saved, learned, DATE),
        efficiency=tuple(saved),
        training_efficiency=learned,
        months=savings_in_months(saved, learned, TREND, DATE),
        class_changes=tuple(change for reference in PAIRED for change in class_changes(found, reference)),
        quality_changes=tuple(
            change for reference in PAIRED for change in quality_changes(reference, variants, predicted, 0.9)
        ),
        disagreements=disagreements(found, "teacher", "int8"),
    )


def _recipe() -> dict[str, Any]:
    return {
        "name": "quickstart",
        "seed": 0,
        "data": {"kind": "cifar10-sample"},
        "stages": [
            {"id": "teacher", "kind": "teacher", "open_clip": "embedded"},
            {"id": "distilled", "kind": "distill", "from": "teacher", "epochs": 20, "temperature": 2.0},
            {"id": "pruned", "kind": "prune", "from": "distilled", "target_macs": 0.5},
            {"id": "int8", "kind": "quantize", "from": "pruned", "scheme": "static-int8"},
        ],
        "worth": {"references": ["distilled", "teacher"], "tolerance": 0.02, "trend": TREND.model_dump(mode="json")},
    }


def _variant(
    id: str,
    kind: str,
    parent: str | None,
    correct: int,
    macs: int,
    bits: int,
    params: int,
    size: int,
    faster: float,
    *,
    right: str,
) -> Variant:
    parts = TRAINING.get(id, [])
    total, final = sum(spent for _, spent in parts), correct / N
    return Variant(
        id=id,
        kind=kind,
        parent=parent,
        stage_key=f"key-of-{id}",
        accuracy=accuracy(correct, N, right),
        validation=accuracy(round(VALIDATION * correct / N), VALIDATION).model_copy(update={"split": "validation"}),
        inference=inference(
            macs,
            bits,
            latency=_latency(id, bits, faster),
            memory=(412_000_000, "openvino", 16),
            params=params,
            size=size,
            convs=49 if id == "teacher" else 20,
        ),
        training=training(total, _curve(id, kind, parent, final), parts, wall_s=140.0 if parts else 0.0),
        artifacts=_artifacts(id, bits, final, size, right),
    )


def _curve(id: str, kind: str, parent: str | None, final: float) -> list[CurvePoint]:
    """Ten epochs from nothing to the final accuracy; a pruned variant starts from what its parent took."""
    if kind not in ("train", "distill", "prune"):
        return []
    spent, before = (
        sum(macs for _, macs in TRAINING.get(name, [])) for name in (id, parent if kind == "prune" else "")
    )
    order = np.random.default_rng(len(id)).permutation(VALIDATION)
    points = []
    for epoch in range(1, 11):
        correct = round(VALIDATION * final * (1 - 0.6**epoch))
        macs = before + (spent - before) * epoch // 10
        points.append(CurvePoint(macs=macs, top1=correct / VALIDATION, right=bits(order < correct)))
    return points


def _latency(id: str, bits: int, faster: float) -> list[LatencyRow]:
    return [
        latency_row(
            runtime,
            batch,
            base * batch**0.86 / faster,
            p99_ms=base * batch**0.86 / faster * 1.31,
            precision="int8" if bits == 8 else "fp32",
            ratio_to_reference=faster / DISTILLED_FASTER,
            ratio_ci95=(faster / DISTILLED_FASTER * 0.97, faster / DISTILLED_FASTER * 1.04)
            if id != "distilled"
            else None,
        )
        for runtime, base in (("pytorch", 11.8), ("onnxruntime", 8.6), ("openvino", 6.9))
        if not (bits == 8 and runtime == "pytorch")
        for batch in (1, 16)
    ]


def _artifacts(id: str, bits: int, top1: float, size: int, right: str) -> tuple[Artifact, ...]:
    if id == "teacher":
        return ()
    files = {
        "onnxruntime": ("QDQ ONNX" if bits == 8 else "ONNX", "model.onnx", 0.49),
        "openvino": ("OpenVINO IR", "model.xml", 1.0),
    }
    return tuple(
        Artifact(
            runtime=runtime,
            format=form,
            path=f"artifacts/{id}/{runtime}/{name}",
            bytes=size,
            top1=top1,
            ci95=wilson(round(top1 * N), N),
            right=right,
            top1_agreement=0.9964 if bits == 8 else 1.0,
            integer_macs_share=share if bits == 8 else 0.0,
            max_abs_diff=0.31 if bits == 8 else 3.1e-6,
        )
        for runtime, (form, name, share) in files.items()
    )


def predictions() -> Predictions:
    """Logits that are right as often, and on as many images together, as the rows and `PAIRED` state."""
    rng = np.random.default_rng(0)
    labels, images = np.arange(N) % len(CLASSES), rng.integers(0, 256, (N, 3, 32, 32), np.uint8)
    test = Split(images, labels)
    data = ImageData("cifar10-sample", CLASSES, 32, test, test, test, test, "", 0)
    logits = {}
    for row in ROWS:
        predicted = np.where(_right(row[0]), labels, (labels + 1 + labels % 3) % len(CLASSES))
        scale = rng.uniform(2, 9, (N, 1)).astype(np.float32)
        logits[row[0]] = np.eye(len(CLASSES), dtype=np.float32)[predicted] * scale
    return Predictions(data, logits)


def predictors(found: Predictions) -> dict[FileKey, Predictor]:
    """Networks and files of the example; a file predicts what its network does."""
    return {
        (name, runtime, None): Predictor(found.data, name, runtime, None, own, own)
        for name, own in found.logits.items()
        for runtime in ("pytorch", "onnxruntime", "openvino")
    }


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
