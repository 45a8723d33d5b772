"""Composition from configs/, overrides, files, stage order, and defaults."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from recipe.recipe_texts import GOOD
from support import teacher_folder

from compress.cli.catalog import names
from compress.recipe import compose as compose_module
from compress.recipe import load_recipe, ordered_stages, parse_recipe, teacher_of
from compress.recipe.data import Views
from compress.recipe.models import OpenClipTeacher, Student
from compress.stages.distill import DistillStage
from compress.stages.teacher import TeacherStage
from compress.stages.train import TrainStage
from compress.utils import resources
from compress.utils.errors import RecipeError, UsageError

SHORT = """\
data: cifar10-sample
stages:
  - {id: teacher, kind: teacher, teacher: embedded}
  - {id: scratch, kind: train, student: resnet18}
"""


def student_of(written: str) -> Student:
    stage = parse_recipe(SHORT.replace("resnet18", written)).stages[1]
    assert isinstance(stage, TrainStage)
    return stage.student


def messages(text: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, overrides, "bad.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_names_are_replaced_by_sections_and_defaults_are_set() -> None:
    recipe = parse_recipe(SHORT, file="some/my recipe.yaml")
    assert recipe.name == "my-recipe"
    assert recipe.data.source == "cifar10-sample"
    assert isinstance(recipe.stages[0], TeacherStage)
    assert recipe.stages[0].teacher.model == "local-dir:{assets}/teacher"
    assert recipe.worth.references == ["teacher"]
    assert (recipe.worth.trend.name, recipe.worth.trend.growth) == ("notable", 4.7)


def test_resolved_recipe_round_trips() -> None:
    recipe = parse_recipe(GOOD)
    assert type(recipe).model_validate(recipe.resolved()) == recipe


def test_keys_beside_use_override_the_config() -> None:
    recipe = parse_recipe(SHORT.replace("cifar10-sample", "{use: cifar10, labeled: 70, views: {flip: false}}"))
    assert (recipe.data.source, recipe.data.labeled) == ("cifar10", 70)
    assert (recipe.data.views.flip, recipe.data.views.shift) == (False, 0.125)
    assert len(recipe.data.templates) == 5


@pytest.mark.parametrize(
    ("written", "library", "model"),
    [
        ("resnet34", "timm", "resnet34"),
        ("mobilenetv3_small_100", "timm", "mobilenetv3_small_100"),
        ("torchvision/resnet18", "torchvision", "resnet18"),
        ("timm/resnet18", "timm", "resnet18"),
        ("{use: resnet50, model: resnet101}", "timm", "resnet101"),
        ("{model: vgg11, library: torchvision}", "torchvision", "vgg11"),
    ],
)
def test_student_by_name(written: str, library: str, model: str) -> None:
    student = student_of(written)
    assert (student.library, student.model) == (library, model)


@pytest.mark.parametrize(
    ("changes", "overrides"),
    [
        ("pretrained: laion400m_e32", {}),
        ("model: ViT-B-16, pretrained: laion2b_s34b_b88k", {}),
        ("checkpoint: mine.pt", {}),
        ("batch: 8", {"pretrained": "laion400m_e32"}),
        ("batch: 8", {"checkpoint": "mine.pt"}),
    ],
)
def test_other_weights_have_another_training(changes: str, overrides: dict[str, str]) -> None:
    text = GOOD.replace("{source: timm, model: resnet50, pretrained: true}", f"{{use: openclip-vit-b-32, {changes}}}")
    stage = parse_recipe(text, [f"stages.teacher.teacher.{key}={value}" for key, value in overrides.items()]).stages[0]
    assert isinstance(stage, TeacherStage) and isinstance(stage.teacher, OpenClipTeacher)
    assert stage.teacher.pretraining is None
    stated = [stage.teacher.pretrained, stage.teacher.checkpoint]
    assert sum(source is not None for source in stated) == 1 and stage.teacher.head == "zero-shot"


def test_the_same_weights_keep_their_training() -> None:
    for changes in ("batch: 8", "pretrained: laion2b_s34b_b79k"):
        text = GOOD.replace(
            "{source: timm, model: resnet50, pretrained: true}", f"{{use: openclip-vit-b-32, {changes}}}"
        )
        assert parse_recipe(text).stages[0].pretraining() is not None
    assert student_of("{use: resnet18-imagenet, pretrained: false, resolution: 64}").pretraining is not None


def test_one_source_of_weights_replaces_the_other() -> None:
    mine = student_of("{use: resnet18-imagenet, checkpoint: mine.pth}")
    assert mine.checkpoint == "mine.pth" and mine.pretraining is None
    published = student_of("{use: resnet18-imagenet, pretrained: true}")
    assert (published.checkpoint, published.pretraining) == (None, None)
    both = messages(SHORT.replace("resnet18", "{use: resnet18, pretrained: true, checkpoint: mine.pth}"))
    assert any("`pretrained` and `checkpoint` exclude each other" in line for line in both)


def test_what_an_override_states_holds_beside_another() -> None:
    training = "stages.scratch.student.pretraining={samples: 1, macs_per_sample: 2, source: mine}"
    changes = [training, "stages.scratch.student.checkpoint=mine.pth"]
    for overrides in (changes, changes[::-1]):
        recipe = parse_recipe(SHORT.replace("resnet18", "resnet18-imagenet"), overrides)
        stated = next(stage for stage in recipe.stages if stage.id == "scratch").pretraining()
        assert stated is not None and stated.source == "mine"


def test_a_path_in_place_of_a_data_set_is_told_how_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def said(name: str) -> str:
        (message,) = messages(SHORT.replace("cifar10-sample", name))
        return message.partition("; for your own images ")[2]

    assert said("photos") == "write `{source: image-folder, path: photos}`, or run `compress-model init photos`"
    assert said("cifar11") == ""  # a slip, as nothing has this name
    (tmp_path / "cifar11").mkdir()
    assert said("cifar11").startswith("write `{source: image-folder, path: cifar11}`")
    (tmp_path / "labels.csv").touch()
    assert said("labels.csv") == "run `compress-model init labels.csv`"
    assert said("{use: photos}").startswith("write `{source: image-folder, path: photos}`")


def test_mistake_in_a_config_is_reported_at_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("data", "teachers", "students", "trends"):
        (tmp_path / "configs" / folder).mkdir(parents=True)
    (tmp_path / "configs/data/mine.yaml").write_text("source: cifar10\n\nvews: {flip: true}\n")
    (tmp_path / "configs/students/torn.yaml").write_text("model: [x\n")
    (tmp_path / "configs/students/latin.yaml").write_bytes(b"model: \xe4\n")
    (tmp_path / "configs/students/bare.yaml").write_text("resnet18\n")
    (tmp_path / "configs/teachers/embedded.yaml").write_text("source: open_clip\nmodel: local-dir:x\n")
    monkeypatch.setattr(compose_module, "shipped", lambda kind: tmp_path / kind)
    monkeypatch.setattr(resources, "shipped", lambda kind: tmp_path / kind)
    monkeypatch.chdir(tmp_path)
    trend = "worth: {trend: {name: x, growth: 2, hardware: 1, basis: b, source: s}}\n"
    found = messages(SHORT.replace("cifar10-sample", "mine").replace("resnet18", "torn") + trend)
    assert found[0].startswith("configs/data/mine.yaml:3: data.vews: unknown key; did you mean 'views'?")
    assert found[1].startswith("configs/students/torn.yaml:2: stages.scratch.student: is not valid YAML")
    assert len(found) == 2
    for name, says in (("latin", "cannot be read: "), ("bare", "must be a section, not 'resnet18'")):
        lines = messages(SHORT.replace("resnet18", name))
        assert any(line.startswith(f"configs/students/{name}.yaml:1: ") and says in line for line in lines), lines


# --- overrides ----------------------------------------------------------------------------------------------------


def test_overrides_change_values() -> None:
    recipe = parse_recipe(
        SHORT,
        [
            "stages.scratch.epochs=5",
            "stages.1.lr=1e-3",
            "data.labeled=100",
            "measure.batches=[1, 8]",
            "measure.batches.1=4",
            "worth.trend=openai",
            "stages.scratch.student=resnet50",
            "description='a: b'",
        ],
    )
    stage = recipe.stages[1]
    assert isinstance(stage, TrainStage)
    assert (stage.epochs, stage.lr, stage.student.model) == (5, 1e-3, "resnet50")
    assert recipe.data.labeled == 100
    assert recipe.measure.batches == [1, 4]
    assert recipe.worth.trend.name == "openai"
    assert recipe.description == "a: b"


def test_a_single_override_may_be_a_text() -> None:
    assert parse_recipe(SHORT, "seed=7").seed == 7
    with pytest.raises(RecipeError) as caught:
        parse_recipe(SHORT, "sead=7")
    assert len(caught.value.problems) == 1


def test_override_names_a_config_and_a_later_one_changes_a_key_of_it() -> None:
    recipe = parse_recipe(SHORT, ["data=stl10", "data.views.flip=false"])
    assert (recipe.data.source, recipe.data.views.flip) == ("stl10", False)


def test_override_replaces_a_mistake_in_the_file() -> None:
    assert parse_recipe(SHORT.replace("cifar10-sample", "cifr10"), ["data=cifar10"]).data.source == "cifar10"


def test_override_reaches_an_id_with_dots() -> None:
    text = SHORT.replace("id: scratch", "id: v1.0-a")
    stage = parse_recipe(text, ["stages.v1.0-a.epochs=2"]).stages[1]
    assert isinstance(stage, TrainStage) and stage.epochs == 2


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("stages.scratch.epochs=abc", "stages.scratch.epochs: must be an integer, not 'abc'"),
        ("stages.scratch.epocs=5", "stages.scratch.epocs: unknown key; did you mean 'epochs'?"),
        ("stages.scrach.epochs=5", "stages has no entry 'scrach'; did you mean 'scratch'? allowed: teacher or scratch"),
        ("stages.7.epochs=5", "stages has no entry '7'"),
        ("stages.scratch.epochs.x=5", "stages.scratch.epochs: must be an integer, not a section"),
        ("stages.scratch.lr", "expected key=value"),
        ("a..b=1", "expected key=value"),
        ("=1", "expected key=value"),
        ("seed=[1", "is not valid YAML"),
        ("seed=!!python/name:os.system", "YAML tag"),
        ("data=cifr10", "data: unknown data set 'cifr10'; did you mean 'cifar10'?"),
        ("data.source.x=1", "cannot set 'x': data.source is 'cifar10-sample', not a section"),
        (".".join("a" * 40) + "=1", "more than 32 parts"),
    ],
)
def test_wrong_override_is_reported_with_its_text(override: str, words: str) -> None:
    found = [message for message in messages(SHORT, override) if message.startswith(f"--set {override[:50]}")]
    assert any(words in message for message in found), messages(SHORT, override)


def test_mistakes_in_overrides_and_file_are_reported_together() -> None:
    found = messages(SHORT + "sede: 3\n", "nonsense", "stages.scratch.epochs=abc")
    assert len(found) == 3
    assert found[0].startswith("bad.yaml:5: sede")


# --- files --------------------------------------------------------------------------------------------------------


def one_line(path: str | Path) -> str:
    with pytest.raises(UsageError) as caught:
        load_recipe(path)
    assert caught.value.exit_status == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_that_are_not_recipes_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD)
    (tmp_path / "latin.yaml").write_bytes(b"name: x\ndescription: \xe9t\xe9\n")
    (tmp_path / "empty.yaml").write_bytes(b"")
    (tmp_path / "large.yaml").write_bytes(b"#" * (2**20 + 1))
    assert "did you mean" in one_line(tmp_path / "mien.yaml")
    assert "mine.yaml" in one_line(tmp_path / "mien.yaml")
    assert "latin.yaml:2: is not UTF-8" in one_line(tmp_path / "latin.yaml")
    assert "empty.yaml:1: is empty" in one_line(tmp_path / "empty.yaml")
    assert "larger than 1 MiB" in one_line(tmp_path / "large.yaml")
    assert "is a folder" in one_line(tmp_path)
    assert "not a file" in one_line("/dev/zero")
    assert "recipe not found" in one_line("a\0b")
    assert "recipe not found" in one_line("x" * 5000)
    assert "did you mean 'quickstart'?" in one_line("quikstart")
    assert "did you mean 'jetson_example/train'?" in one_line("jetson_example/trian")


def test_unreadable_file_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD)

    def refuse(*_: object) -> None:  # root may read everything
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert "mine.yaml: cannot be read (Permission denied)" in one_line(tmp_path / "mine.yaml")


def test_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbf" + SHORT.replace("\n", "\r\n").encode())
    assert load_recipe(tmp_path / "bom.yaml").name == "bom"


def test_views_by_name() -> None:
    def views(written: str, *overrides: str) -> Views:
        return parse_recipe(SHORT.replace("cifar10-sample", written), list(overrides)).data.views

    standard = views("{use: cifar10-sample, views: standard}")
    assert (standard.shift, standard.flip, standard.crop, standard.saturation) == (0, True, (0.08, 1), 0.4)
    changed = views("{use: cifar10-sample, views: {use: standard, flip: false}}")
    assert changed == standard.model_copy(update={"flip": False})
    assert views("cifar10-sample", "data.views=standard", "data.views.flip=false") == changed
    assert views("{use: cifar10-sample, views: light}") == views("{use: cifar10-sample, views: {use: light}}")
    strong = views("{use: cifar10-sample, views: strong}")
    assert (strong.augment, strong.erasing, strong.brightness) == ("trivialaugment", 0.1, 0)


def test_keys_of_views_are_those_from_before_further_settings() -> None:
    assert Views(flip=False).key_settings() == {"shift": 0.125, "flip": False, "brightness": 0.0, "contrast": 0.0}
    assert Views(crop=(0.5, 1)).key_settings()["crop"] == [0.5, 1.0]
    assert Views(shift=0).key_settings() != Views().key_settings()


@pytest.mark.parametrize("path", sorted(resources.shipped("recipes").rglob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipe_loads_by_name_and_by_path(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    named = load_recipe(path.relative_to(resources.shipped("recipes")).with_suffix(""))
    assert load_recipe(path) == named
    ordered_stages(load_recipe(path))


@pytest.mark.parametrize("path", sorted(resources.shipped("recipes").rglob("*.yaml")), ids=lambda path: path.stem)
def test_a_resolved_recipe_is_a_valid_one(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It states the defaults, too: a run's `recipe.yaml` is run again, and tasks on other machines read it."""
    teacher_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    resolved = load_recipe(path).resolved()
    assert parse_recipe(yaml.safe_dump(resolved)).resolved() == resolved


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        (folder, name)
        for folder in ("data", "views", "teachers", "students", "trends", "deployments")
        for name in resources.config_names(folder)
    ],
)
def test_shipped_config_loads(folder: str, name: str) -> None:
    key = {
        "data": "data",
        "views": "data.views",
        "teachers": "stages.teacher.teacher",
        "students": "stages.scratch.student",
    }
    parse_recipe(SHORT, [f"{key.get(folder, f'worth.{folder[:-1]}')}={name}"])


NUMBERS = {
    "price_per_hour": "Price:",
    "inference_share": "Share of inference:",
    "watts": "power:",
    "queries": "an example",
    "budgets": "Budgets",
}


@pytest.mark.parametrize("name", [name for name in resources.config_names("deployments") if name != "on-device"])
def test_figures_of_a_shipped_device_have_a_source(name: str) -> None:
    (device,) = parse_recipe(SHORT, [f"worth.deployments=[{name}]"]).worth.deployments
    assert device.name == name and device.hardware and (device.runtime or device.toolchain)
    source = device.source
    assert "Hardware" in source and "an example" in source, "budgets are the user's"
    for key, word in NUMBERS.items():
        assert getattr(device, key) is None or word in source, (key, word)


def test_a_shipped_device_that_nothing_was_measured_on_says_so() -> None:
    descriptions = names("deployments")
    for name in resources.config_names("deployments"):
        device = parse_recipe(SHORT, [f"worth.deployment={name}"]).worth.deployment
        assert device and descriptions[name].startswith("Unmeasured") == bool(device.hardware and not device.processor)


def test_a_shipped_deployment_has_the_share_of_inference_that_aws_states() -> None:
    device = parse_recipe(SHORT, ["worth.deployment=cloud-cpu"]).worth.deployment
    assert device and device.inference_share == 0.9
    assert "Share of inference: AWS" in device.source and "2109.05472" in device.source


def test_device_is_named_changed_or_defined_in_full() -> None:
    text = (
        SHORT + "worth:\n  deployments:\n    - cloud-cpu\n    - {use: cloud-cpu, name: mine, budgets: {size_mb: 5}}\n"
    )
    text += "    - {name: own, runtime: ncnn, budgets: {energy_j: 1}}\n"
    named, changed, own = parse_recipe(text, ["worth.deployments.2.batch=4"]).worth.deployments
    assert (named.budgets.latency_ms, named.budgets.size_mb) == (50, None)
    assert (changed.budgets.latency_ms, changed.budgets.size_mb, changed.runtime) == (50, 5, named.runtime)
    assert own.batch == 4 and own.budgets.model_dump(exclude_none=True) == {"energy_j": 1}


# --- the graph ----------------------------------------------------------------------------------------------------


def test_stages_are_ordered_by_dependency() -> None:
    head, _, tail = GOOD.partition("stages:\n")
    stages, _, rest = tail.partition("worth:")
    teacher, distilled, *others = stages.split("  - id: ")[1:]
    swapped = head + "stages:\n" + "".join(f"  - id: {s}" for s in (*others, distilled, teacher)) + "worth:" + rest
    recipe = parse_recipe(swapped)
    assert [stage.id for stage in recipe.stages] == ["pruned", "int8", "files", "distilled", "teacher"]
    assert [stage.id for stage in ordered_stages(recipe)] == ["teacher", "distilled", "pruned", "int8", "files"]
    assert ordered_stages(parse_recipe(GOOD)) == list(parse_recipe(GOOD).stages)


def test_missing_dependency_has_no_order() -> None:
    recipe = parse_recipe(GOOD)
    lost = recipe.model_copy(update={"stages": recipe.stages[2:]})
    with pytest.raises(ValueError, match="circular or missing dependencies: pruned, int8, files"):
        ordered_stages(lost)


def test_teacher_of_a_stage_is_its_nearest_teacher_ancestor() -> None:
    recipe = parse_recipe(GOOD)
    teacher = recipe.stages[0]
    assert [teacher_of(recipe, name) for name in ("distilled", "pruned", "int8")] == [teacher] * 3
    assert teacher_of(recipe, "teacher") is None
    assert teacher_of(recipe, "files") is None
    assert isinstance(recipe.stages[1], DistillStage)
    with pytest.raises(KeyError):
        teacher_of(recipe, "nothing")


def test_a_network_trained_in_the_run_teaches_what_is_distilled_from_it_and_no_copy_of_itself() -> None:
    pruned = "kind: prune, target_macs: 0.5"
    recipe = parse_recipe(
        SHORT + "  - {id: small, kind: distill, from: scratch, student: resnet18}\n"
        f"  - {{id: pruned, from: small, {pruned}}}\n"
        f"  - {{id: control, from: scratch, {pruned}}}\n"
        "  - {id: files, kind: export, from: [scratch]}\n"
    )
    teachers = [teacher_of(recipe, name) for name in ("small", "pruned", "control", "files", "scratch")]
    assert teachers == [recipe.stages[1]] * 2 + [None] * 3


def test_loading_a_recipe_does_not_import_torch() -> None:
    program = "import sys, compress.recipe; compress.recipe.load_recipe('quickstart'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
