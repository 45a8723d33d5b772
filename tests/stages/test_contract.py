"""Contract of all stage kinds: those of the registry, and one from a plugin."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from support import Job, without_plugins

from compress import plugins
from compress.data.prepared import prepare
from compress.pipeline.dry_run import try_recipe
from compress.pipeline.plan import make_plan
from compress.recipe import load_recipe, ordered_stages
from compress.recipe.load import parse_recipe
from compress.recipe.stage import NETWORK, PRUNED, QUANTIZED, SPARSE, TEACHER, kinds_that_make, stage_sections
from compress.registry import STAGES, load_entry
from compress.results import VariantMetrics
from compress.stages.costs import CostModel
from compress.stages.kind import StageKind, kind_of
from compress.store.store import Store
from compress.utils.errors import UsageError

EXAMPLE = Path(__file__).parents[2] / "recipes" / "plugins" / "own_stage.py"
PLUGIN = "round-weights"
KINDS = (*STAGES, PLUGIN)
PRODUCTS = {TEACHER, NETWORK, PRUNED, SPARSE, QUANTIZED}
FURTHER = """\
  - {id: own, kind: model, model: {source: timm, model: test_resnet, checkpoint: ROOT/teacher.safetensors,
     classes: [across, both, down]}}
  - {id: narrow, kind: shrink, from: pruned}
  - {id: longer, kind: match, from: pruned, baseline: scratch}
  - {id: sparse, kind: sparsify, from: scratch, repair: {epochs: 1, batch: 16}}
  - {id: rounded, kind: round-weights, from: pruned, bits: 4}
"""
START = {  # settings of the kinds that may start from a network which exists before the run
    "distill": {"student": "test_resnet", "epochs": 1, "batch": 16},
    "prune": {"target_macs": 0.6, "repair": {"epochs": 1, "batch": 16}},
    "sparsify": {"repair": {"epochs": 1, "batch": 16}},
    "quantize": {"method": "torchao", "calibration_images": 4},
    "match": {"baseline": "scratch"},
    "export": {"runtimes": ["onnxruntime"]},
    PLUGIN: {"bits": 4},
}


@pytest.fixture(autouse=True)
def _plugin(no_plugins: None) -> None:
    plugins.load([str(EXAMPLE)])


@pytest.fixture(scope="module")
def every_kind(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    """The tiny job with stages of every kind, run on the store of the finished job."""
    root = tmp_path_factory.mktemp("kinds") / "copy"
    shutil.copytree(job.root, root)
    made = Job(root)
    made.write()
    made.recipe.write_text(
        made.recipe.read_text().replace("measure: ", FURTHER.replace("ROOT", str(root)) + "measure: ")
    )
    with without_plugins():
        done = made.run_here("--no-dry-run", "--plugin", str(EXAMPLE))
    assert done.returncode == 0, done.stderr
    yield made


def section(kind: str) -> type[StageKind]:
    cls = stage_sections()[kind]
    assert issubclass(cls, StageKind)
    return cls


@pytest.mark.parametrize("kind", KINDS)
def test_section_declares_all_required_attributes(kind: str) -> None:
    declared = section(kind)
    assert declared.kind_name() == kind
    assert declared.makes <= PRODUCTS and declared.starts_from <= PRODUCTS
    assert bool(declared.starts_from) == ("from_" in declared.model_fields)
    assert not declared.starts_from or kinds_that_make(declared.starts_from)
    assert not declared.makes or declared.lineage, "variants are described in the lineage of the report"
    assert declared.__doc__ and declared.__doc__.strip().endswith(".")
    assert callable(load_entry(declared.maker))
    assert set(declared.named_sections) <= set(declared.model_fields)


@pytest.mark.parametrize("kind", KINDS)
def test_key_depends_on_settings_and_data_but_not_on_names(every_kind: Job, kind: str) -> None:
    recipe = load_recipe(every_kind.recipe)
    store = Store(every_kind.runs / "store")
    plan = make_plan(recipe, store)
    planned = [each for each in plan.stages if each.stage.kind == kind]
    assert planned and all(store.has(each.key) for each in planned)
    stage = planned[0].stage
    assert stage.progress().count("\n") == 0 and stage.progress()
    assert all(isinstance(name, str) for name in stage.packages())
    assert all(holder is None or holder in type(stage).model_fields for holder, _ in stage.fits())
    assert list(stage.problems(recipe)) == []
    assert bool(stage.named_models()) == stage.brings_network
    # Published figures do not affect the result.
    if stage.makes:
        published = stage.model_copy(update={"published": {"top1": 0.5, "source": "nowhere"}})
        changed = recipe.model_copy(update={"stages": [published if s.id == stage.id else s for s in recipe.stages]})
        assert {each.key for each in make_plan(changed, store).stages} == {each.key for each in plan.stages}
    # A change of the data changes every key.
    other = recipe.model_copy(update={"seed": 9, "data": recipe.data.model_copy(update={"validation": 0.4})})
    other_keys = {each.id: each.key for each in make_plan(other, store).stages}
    if kind not in ("teacher", "model"):  # nothing is trained
        assert all(other_keys[each.id] != each.key for each in planned)


@pytest.mark.parametrize("kind", KINDS)
def test_cost_is_estimated_before_the_stage_runs(every_kind: Job, kind: str, tmp_path: Path) -> None:
    recipe = load_recipe(every_kind.recipe)
    store = Store(tmp_path / "store")
    plan = make_plan(recipe, store)
    data = prepare(recipe.data, store, recipe.seed)
    (first, *_) = [each for each in plan.stages if each.stage.kind == kind]
    cost = CostModel(plan, store, data).expect(first)
    assert cost.macs >= 0 and cost.seconds > 0
    kind_of(first.stage).check_data(data)


@pytest.mark.parametrize("kind", KINDS)
def test_maker_writes_logits_metrics_and_a_consistent_ledger(every_kind: Job, kind: str) -> None:
    recipe = load_recipe(every_kind.recipe)
    store = Store(every_kind.runs / "store")
    plan = make_plan(recipe, store)
    for planned in (each for each in plan.stages if each.stage.kind == kind):
        folder = store.path(planned.key)
        if not planned.makes_variant:
            assert json.loads((folder / "artifacts.json").read_text())
            continue
        metrics = VariantMetrics.model_validate_json((folder / "metrics.json").read_text())
        logits = np.load(folder / "test_logits.npy")
        assert logits.shape == (120, 3) and logits.dtype == np.float32
        assert metrics.inference.macs > 0
        assert sum(part.macs for part in metrics.training.parts) == metrics.training.macs
        if planned.stage.continues_ledger:
            parent = VariantMetrics.model_validate_json(
                (store.path(plan.stage(planned.parent or "").key) / "metrics.json").read_text()
            )
            assert metrics.training.parts[: len(parent.training.parts)] == parent.training.parts


@pytest.mark.dry_run
@pytest.mark.parametrize("parent", ["teacher", "own"])
def test_every_kind_that_may_start_from_an_existing_network_works_on_it(
    make_job: Callable[[], Job], parent: str, tmp_path: Path
) -> None:
    job = make_job()
    text = job.recipe.read_text().replace("measure: ", FURTHER.replace("ROOT", str(job.root)) + "measure: ")
    recipe = yaml.safe_load(text)
    makes = {stage["id"]: section(stage["kind"]).makes for stage in recipe["stages"]}
    kinds = {kind for kind in KINDS if section(kind).starts_from & makes[parent]}
    assert kinds == START.keys(), "settings in START for each kind"
    started = [
        {"id": f"its-{kind}", "kind": kind, "from": [parent] if section(kind).starts_from_many else parent, **settings}
        for kind, settings in START.items()
    ]
    kept = [stage for stage in recipe["stages"] if stage["id"] in (parent, "scratch")]
    recipe |= {"stages": [*kept, *started], "worth": {"references": [parent]}, "measure": {"energy": "off"}}
    try_recipe(parse_recipe(yaml.safe_dump(recipe)), tmp_path)


def test_report_names_the_kind_of_a_plugin(every_kind: Job) -> None:
    page = next((every_kind.runs / "tiny").glob("*/report.html")).parent
    newest = max((every_kind.runs / "tiny").glob("*/report.html"), key=lambda path: path.stat().st_mtime_ns)
    assert "round-weights" in newest.read_text(), page
    rounded = next(v for v in every_kind.results()["variants"] if v["id"] == "rounded")
    assert rounded["parent"] == "pruned" and rounded["accuracy"]["n"] == 120


def test_kind_of_a_plugin_is_unknown_without_the_plugin(every_kind: Job) -> None:
    del STAGES[PLUGIN]
    with pytest.raises(UsageError, match="unknown kind 'round-weights'; allowed: teacher, model, train, distill"):
        load_recipe(every_kind.recipe)


def test_name_of_a_kind_is_unique() -> None:
    class Mine(section("train")):  # type: ignore[misc]
        """Another training."""

    with pytest.raises(UsageError, match="there is a kind of stage 'train' already"):
        plugins.stage(Mine)


def test_stages_are_ordered_by_dependency(every_kind: Job) -> None:
    recipe = load_recipe(every_kind.recipe)
    turned = recipe.model_copy(update={"stages": recipe.stages[::-1]})
    seen: set[str] = set()
    for stage in ordered_stages(turned):
        assert seen.issuperset(stage.parents())
        seen.add(stage.id)
