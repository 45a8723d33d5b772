"""What cannot work is refused in a dry run, before anything is trained."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from support import Job, typed

from compress.data.prepared import planned_data, prepare
from compress.pipeline import dry_run as module
from compress.pipeline.cost_model import estimate
from compress.pipeline.disk_space import expected_bytes
from compress.pipeline.dry_run import PASSED, dry_run_seconds, try_recipe
from compress.pipeline.plan import make_plan
from compress.pipeline.runner import run
from compress.recipe.load import parse_recipe
from compress.recipe.schema import Recipe, Trainer
from compress.stages.quantize import QuantizeStage
from compress.store.store import Store
from compress.utils.console import console
from compress.utils.errors import CompressError, SeveralErrors, SeveralFailures
from compress.utils.json_cache import seal
from compress.utils.system import free_bytes

pytestmark = pytest.mark.dry_run
FIT = {"epochs": 1, "batch": 16}
LR_THAT_DIVERGES = 1e9


@pytest.fixture(scope="module")
def images(make_job: Callable[[], Job]) -> Path:
    return make_job().root


def recipe_text(images: Path, *stages: dict[str, object]) -> str:
    worth = {"references": [stages[0]["id"]], "tolerance": 0.5}
    data = {"source": "image-folder", "path": str(images / "images"), "resolution": 32}
    measure = {"batches": [1], "rounds": 5, "processes": 1, "energy": "off"}
    parts = {"name": "small", "data": data, "stages": [*stages], "measure": measure, "worth": worth}
    return yaml.safe_dump(parts)


def recipe(images: Path, *stages: dict[str, object]) -> Recipe:
    return parse_recipe(recipe_text(images, *stages))


def trained(student: object = "test_resnet", **settings: object) -> dict[str, object]:
    return {"id": "dense", "kind": "train", "student": student, **FIT, **settings}


SHUFFLENET = {"library": "torchvision", "model": "shufflenet_v2_x0_5"}  # which torch-pruning cannot divide
PRUNED = {"id": "pruned", "kind": "prune", "from": "dense", "target_macs": 0.5, "repair": FIT}
INT8 = {"id": "int8", "kind": "quantize", "from": "dense", "method": "nncf"}
FILES = {"id": "files", "kind": "export", "from": ["dense"], "runtimes": ["onnxruntime"]}


def refused(tmp_path: Path, made: Recipe) -> list[str]:
    """Return the problems that a run is refused with; nothing of it may have been made."""
    with pytest.raises(SeveralErrors) as error:
        run(made, tmp_path)
    store = Store(tmp_path / "store")
    assert not any(store.has(each.key) for each in make_plan(made, store).stages)
    lines = str(error.value).splitlines()
    assert all(line.endswith("(found in a dry run; `--no-dry-run` skips this check)") for line in lines)
    return lines


class Making:
    """Counts the stages that dry runs make."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        make = module._make_one

        def counted(context, planned):  # type: ignore[no-untyped-def]
            self.names.append(planned.id)
            return make(context, planned)

        monkeypatch.setattr(module, "_make_one", counted)

    def since(self) -> list[str]:
        names, self.names = self.names, []
        return names


def test_a_recipe_is_tried_once_and_only_what_changed_again(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    making = Making(monkeypatch)
    try_recipe(recipe(images, trained(), PRUNED, INT8), tmp_path)
    assert making.since() == ["dense", "pruned", "int8"]
    try_recipe(recipe(images, trained(), PRUNED, INT8), tmp_path)
    assert making.since() == []
    try_recipe(recipe(images, trained(), {**PRUNED, "target_macs": 0.6}, INT8), tmp_path)
    assert making.since() == ["dense", "pruned"], "the parent of what changed is made again"
    try_recipe(recipe(images, trained(epochs=7, batch=32, lr=0.3), PRUNED, INT8), tmp_path)
    assert making.since() == [], "in one step these are the same"


def test_stages_in_the_store_are_not_tried(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(recipe(images, trained()), tmp_path, dry_run_first=False)
    making = Making(monkeypatch)
    run(recipe(images, trained()), tmp_path)
    assert making.since() == []
    run(recipe(images, trained(), INT8), tmp_path)
    assert making.since() == ["dense", "int8"]


@pytest.mark.parametrize("text", ["{", seal({"passed": {"key": True}}), seal({"passed": {"key": {"other": 1}}})])
def test_a_list_that_is_damaged_or_of_another_version_is_made_again(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    try_recipe(recipe(images, trained()), tmp_path)
    (tmp_path / "store" / PASSED).write_text(text)
    making = Making(monkeypatch)
    for made in (["dense"], []):
        try_recipe(recipe(images, trained()), tmp_path)
        assert making.since() == made


def test_all_that_cannot_work_is_listed_and_nothing_that_starts_from_it(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = {**PRUNED, "id": "twice", "from": "pruned"}
    other = trained({"model": "test_vit", "resolution": 32}, id="other")
    problems = refused(tmp_path, recipe(images, trained(SHUFFLENET), PRUNED, twice, other))
    assert [line.split(":")[0] for line in problems] == ["stage pruned"]
    making = Making(monkeypatch)
    try_recipe(recipe(images, trained(SHUFFLENET), other), tmp_path)
    assert making.since() == [], "the others have passed"


@pytest.mark.parametrize(
    "stages",
    [
        [trained({"library": "torchvision", "model": "squeezenet1_1"}), PRUNED],
        *(
            pytest.param(stages, marks=pytest.mark.slow)
            for stages in (
                [trained({"model": "levit_128s", "resolution": 224}), PRUNED],
                [trained({"model": "levit_128s", "resolution": 224}), INT8, {**FILES, "from": ["int8"]}],
                [trained("res2net50_26w_4s"), PRUNED],
                [trained("ghostnet_100"), PRUNED],
            )
        ),
    ],
    ids=lambda stages: f"{stages[0]['student']} {stages[-1]['kind']}",
)
def test_networks_that_a_stage_cannot_work_on(images: Path, tmp_path: Path, stages: list[dict[str, object]]) -> None:
    """Each either works to the end or is refused before it is trained, in a line a person can read."""
    try:
        try_recipe(recipe(images, *stages), tmp_path)
    except SeveralErrors as error:
        (line,) = str(error).splitlines()
        assert line.startswith("stage ") and "unexpected" not in line and len(line) < 300


EVERY_KIND = {
    "probe": [trained({"model": "test_resnet", "checkpoint": "CHECKPOINT", "head": "probe"}, epochs=None, batch=None)],
    "model": [
        {
            "id": "dense",
            "kind": "model",
            "model": {"source": "timm", "model": "test_resnet", "checkpoint": "CHECKPOINT"},
        },
        INT8,
    ],
    "shrink": [trained(), PRUNED, {"id": "narrow", "kind": "shrink", "from": "pruned"}],
    "match": [trained(), PRUNED, {"id": "longer", "kind": "match", "from": "pruned", "baseline": "dense"}],
    "sparsify": [trained(), {"id": "sparse", "kind": "sparsify", "from": "dense", "pattern": "2:4", "repair": FIT}],
    "sensitivity": [trained(), {**PRUNED, "analyse": [0.3, 0.6], "ranking": "sensitivity", "rounds": 3}],
    "taylor": [trained(), {**PRUNED, "importance": "taylor"}],
    "latency": [
        trained(),
        {**PRUNED, "target_macs": None, "target_latency": {"share": 0.7, "runtime": "onnxruntime", "rounds": 5}},
    ],
    "torchao": [trained(), {**INT8, "method": "torchao"}],
    "portable": [trained(), {**INT8, "method": "torchao", "target": "portable"}],
    "percentile": [trained(), {**INT8, "method": "onnxruntime", "observer": "percentile"}],
    "keep_accuracy": [trained(), {**INT8, "keep_accuracy": 0.01}],
    "qat": [trained(), {**INT8, "method": "torchao", "training": FIT}],
    "options": [
        trained(ema=0.9, mix={"kind": "cutmix"}, patience=2, select_on="validation", clip=1, on_divergence="lower")
    ],
}


QUICK = {"model", "taylor", "sparsify", "options"}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind in QUICK else pytest.mark.slow) for kind in EVERY_KIND]
)
def test_every_kind_of_stage_can_be_tried(images: Path, tmp_path: Path, kind: str) -> None:
    text = recipe_text(images, *[{k: v for k, v in each.items() if v is not None} for each in EVERY_KIND[kind]])
    try_recipe(parse_recipe(text.replace("CHECKPOINT", str(images / "teacher.safetensors"))), tmp_path)


def test_a_failing_export_is_found_before_the_training(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: object) -> None:
        raise CompressError("ONNX files are limited to 2 GB")

    monkeypatch.setattr("compress.models.onnx_export._export", too_large)
    (problem,) = refused(tmp_path, recipe(images, trained(), FILES))
    assert problem.startswith("stage files/dense:") and "limited to 2 GB" in problem


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ZeroDivisionError("division by zero\nsecond line"), "stage pruned: ZeroDivisionError: division by zero"),
        (FileNotFoundError(2, "No such file", "x"), "stage pruned: FileNotFoundError: [Errno 2] No such file: 'x'"),
    ],
    ids=["library", "path"],
)
def test_what_a_library_raises_is_a_line(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("compress.stages.prune.make.prune_channels", breaks)
    (problem,) = refused(tmp_path, recipe(images, trained(), PRUNED))
    assert problem.startswith(f"{line}; choose another network or other settings for this stage (found in a dry run")


def test_a_reason_of_several_stages_is_one_line(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise ValueError("no such thing")

    monkeypatch.setattr("compress.stages.fitting.fit", breaks)
    problems = refused(tmp_path, recipe(images, trained(), trained(id="other", seed=1), PRUNED))
    assert len(problems) == 1 and problems[0].startswith("stages dense and other: ValueError: no such thing")


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("not enough memory: you tried to allocate 9 GB")]
)
def test_the_machines_faults_are_no_faults_of_the_recipe(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("compress.stages.prune.make.prune_channels", breaks)
    with pytest.raises(type(error), match=str(error.args[-1])):
        try_recipe(recipe(images, trained(), PRUNED), tmp_path)


def test_settings_that_would_diverge_are_not_the_dry_runs_business(images: Path, tmp_path: Path) -> None:
    try_recipe(recipe(images, trained(lr=LR_THAT_DIVERGES)), tmp_path)


@pytest.mark.slow
def test_a_dry_run_changes_no_bit_of_a_run(images: Path, tmp_path: Path) -> None:
    made = recipe(images, trained(), PRUNED)
    logits = []
    for tried in (True, False):
        torch.manual_seed(5)
        done = run(made, tmp_path / str(tried), dry_run_first=tried)
        assert done
        store = Store(tmp_path / str(tried) / "store")
        plan = make_plan(made, store)
        logits.append([np.load(store.path(each.key) / "test_logits.npy") for each in plan.variants])
    assert all(np.array_equal(one, other) for one, other in zip(*logits, strict=True))


def test_random_states_of_gpus_that_are_not_used_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine with several GPUs, torch warns where all of them are forked."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.random._fork_rng_warned_already", False)
    plan: Any = SimpleNamespace(recipe=SimpleNamespace(trainer=Trainer(accelerator="cpu")), stages=[])
    state = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module._make(plan, None, [], module._Outcome({}))  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), state)


def test_exports_are_tried_on_the_last_variant_of_a_line(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    making = Making(monkeypatch)
    files = {**FILES, "from": ["dense", "pruned", "int8"]}
    try_recipe(recipe(images, trained(), PRUNED, {**INT8, "from": "pruned"}, files), tmp_path)
    assert making.since() == ["dense", "pruned", "int8", "files/int8"]
    try_recipe(recipe(images, trained(), PRUNED, {**INT8, "from": "pruned"}, files), tmp_path)
    assert making.since() == []


def test_its_images_depend_on_no_image(images: Path, tmp_path: Path) -> None:
    made = recipe(images, trained())
    data = prepare(made.data, Store(tmp_path / "store"), made.seed)
    small, again = module._small_data(data), module._small_data(replace(data, train=data.test))
    sizes = {name: len(split) for name in module.IMAGES if (split := getattr(small, name)) is not None}
    assert {**module.IMAGES, **sizes} == module.IMAGES and set(module.IMAGES) - set(sizes) == {"held_out"}
    assert np.array_equal(small.train.images, again.train.images) and small.key == again.key != data.key
    assert small.classes == data.classes and small.train.images.shape[1:] == data.train.images.shape[1:]
    assert module._small_data(replace(data, classes=("a", "b"))).key != small.key


def test_the_console_shows_one_line_and_its_time(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(console, "print", lambda text, **_: None if console.quiet else lines.append(str(text)))
    try_recipe(recipe(images, trained()), tmp_path)
    dry = [line for line in lines if "data" not in line]
    assert dry[0] == "dry run of a stage on a few images, once for these settings"
    assert dry[1].startswith("  done in ") and len(dry) == 2


def test_what_passed_before_an_interruption_is_not_tried_again(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    making, made = Making(monkeypatch), recipe(images, trained(), PRUNED)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("compress.stages.prune.make.prune_channels", interrupted)
        try_recipe(made, tmp_path)
    making.since()
    try_recipe(recipe(images, trained()), tmp_path)
    assert making.since() == []
    try_recipe(made, tmp_path)
    assert making.since() == ["dense", "pruned"]


def test_a_long_dry_run_says_how_long(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(console, "print", lambda text, **_: None if console.quiet else lines.append(str(text)))
    monkeypatch.setattr("compress.utils.console.PLAIN_EVERY_S", 0.0)
    try_recipe(recipe(images, trained(), PRUNED), tmp_path)
    assert any(line.startswith("  stages: 1 of 2, about ") and line.endswith(" left") for line in lines)
    assert not any("epoch" in line for line in lines)


@pytest.mark.parametrize("loss", ["crd", "rkd_distance", "rkd_angle"])
def test_losses_between_images_are_tried_with_enough_of_them(images: Path, tmp_path: Path, loss: str) -> None:
    """Without unlabelled images, the few train images of a dry run are all that a step compares with."""
    teacher = {"source": "timm", "model": "test_resnet", "checkpoint": str(images / "teacher.safetensors")}
    taught = {"kind": "distill", "from": "teacher", "student": "test_resnet", "unlabeled": False, **FIT}
    losses = {"losses": {"ce": 1, loss: 0.8}}
    try_recipe(
        recipe(images, {"id": "teacher", "kind": "teacher", "teacher": teacher}, {"id": "taught", **taught, **losses}),
        tmp_path,
    )


def test_a_full_disk_is_known_before_the_training(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = images / "teacher.safetensors"
    teacher = {"source": "timm", "model": "test_resnet", "checkpoint": str(weights)}
    stages: list[dict[str, object]] = [{"id": "teacher", "kind": "teacher", "teacher": teacher}]
    stages.append({"id": "taught", "kind": "distill", "from": "teacher", "student": "test_resnet", **FIT, "epochs": 9})
    stages[-1]["views"] = 5
    made = recipe(images, *stages)
    try_recipe(made, tmp_path)
    store = Store(tmp_path / "store")
    plan, data = make_plan(made, store), prepare(made.data, store, made.seed)
    planned = module.plan_stages(module._small_recipe(made), module._small_data(data).key)
    spaces = {each.id: module._load(store)[each.key] for each in planned.stages}
    needed = expected_bytes(plan.stages, spaces, data)
    embeddings = 2 * 5 * spaces["taught"].width * (len(data.train) + len(data.unlabeled))
    network = weights.stat().st_size
    assert spaces["taught"].width > 0 and spaces["taught"].entry > network
    assert 5 * network < needed - embeddings < 6 * network, "the student, and the state of its fit"
    for free, refuses in ((needed - 1, True), (needed, False)):
        monkeypatch.setattr(module, "free_bytes", lambda folder, free=free: free)
        if refuses:
            with pytest.raises(CompressError, match=r"the stages take about 0\.0 GB in .*store, of 0\.0 GB"):
                run(made, tmp_path)
        else:
            try_recipe(made, tmp_path)
    assert not any(store.has(each.key) for each in plan.stages)
    assert free_bytes(tmp_path / "not" / "there") == free_bytes(tmp_path)


def test_the_estimate_takes_overheads_from_it(images: Path, tmp_path: Path) -> None:
    made = recipe(images, trained(), INT8)
    guessed = {row.unit: row.seconds for row in estimate(made, tmp_path)}
    try_recipe(made, tmp_path)
    store = Store(tmp_path / "store")
    plan = make_plan(made, store)
    took = dry_run_seconds(plan, store, planned_data(made.data, store, made.seed, plan.data_key))
    measured = {row.unit: row.seconds for row in estimate(made, tmp_path)}
    assert guessed["int8"] - measured["int8"] == pytest.approx(QuantizeStage.overhead - took["int8"], abs=0.01)
    assert measured["dense"] - guessed["dense"] == pytest.approx(took["dense"], abs=0.01)


def test_validate_deep_and_plan_have_it_too(images: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(recipe_text(images, trained(SHUFFLENET), PRUNED))
    runs = ("--runs", tmp_path / "runs")
    assert typed("validate", file).returncode == 0
    for command in (("validate", "--deep", file), ("plan", file), ("run", file)):
        failed = typed(*command, *runs)
        assert failed.returncode == 2 and "stage pruned: " in failed.stderr, command
    assert typed("plan", file, *runs, "--no-dry-run").returncode == 0


def plan(made: Recipe, runs: Path) -> None:
    estimate(made, runs)


@pytest.mark.parametrize("check", [try_recipe, run, plan])
def test_what_the_data_lacks_is_found_by_plan_and_validation_too(
    images: Path, tmp_path: Path, check: Callable[[Recipe, Path], object]
) -> None:
    shutil.copytree(images / "images", tmp_path / "images", ignore=shutil.ignore_patterns("unlabeled"))
    text = recipe_text(tmp_path, trained(), {**INT8, "calibrate_on": "unlabeled"}, {**FILES, "from": ["dense", "int8"]})
    with pytest.raises(SeveralErrors) as error:
        check(parse_recipe(text, ["worth.metric=top5"]), tmp_path / "runs")
    calibration, metric = str(error.value).splitlines()
    assert calibration.startswith("stage int8: no calibration images in unlabeled")
    assert metric.startswith("worth.metric: top5 needs at least 20 classes")


def leak(root: Path) -> None:
    first, *_ = (root / "train").rglob("*.*")
    shutil.copy(first, next((root / "test").iterdir()) / f"copy{first.suffix}")


def damage(root: Path) -> None:
    first, *_ = (root / "test").rglob("*.*")
    first.write_bytes(b"no image")


@pytest.mark.parametrize(
    ("spoil", "words"), [(leak, "so accuracy on test is meaningless"), (damage, "is not a readable image")]
)
def test_deep_validation_reads_the_data(
    images: Path, tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(Path(shutil.copytree(images / "images", tmp_path / "images")))
    with pytest.raises(CompressError, match=words):
        try_recipe(recipe(tmp_path, trained()), tmp_path / "runs")


def test_every_runtime_that_is_missing_is_named(images: Path, tmp_path: Path) -> None:
    gone = ["onnxruntime-cuda", "onnxruntime-qnn"]
    with pytest.raises(SeveralFailures) as error:
        run(recipe(images, trained(), {**FILES, "runtimes": gone}), tmp_path)
    assert [name in line for name, line in zip(gone, str(error.value).splitlines(), strict=True)] == [True, True]


def test_an_export_that_no_other_one_stood_for_is_tried_itself(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise CompressError("no such layer")

    making, files = Making(monkeypatch), {**FILES, "from": ["dense", "int8"]}
    with monkeypatch.context() as patch:
        patch.setattr("compress.stages.quantize.make.quantize", breaks)
        assert len(refused(tmp_path, recipe(images, trained(), INT8, files))) == 1
    assert making.since() == ["dense", "int8", "files/dense"]
    try_recipe(recipe(images, trained(), FILES), tmp_path)
    assert making.since() == []
