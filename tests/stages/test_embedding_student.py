"""Embedding students through the stages: made without labels, compressed, exported, and given other classes."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import onnx
import pytest
from support import photographs, typed, write_open_clip

from compress import load_artifact
from compress.deployment import mlperf
from compress.deployment.artifact_files import artifact_files
from compress.deployment.classes import TEXT, Names, read_names, read_templates, replace_classes, text_folder
from compress.deployment.triton import write_triton
from compress.measurement.compute import layer_macs, macs, parameters
from compress.models.architecture import Architecture, QuantizationRecord
from compress.models.checkpoints import load_variant
from compress.models.class_list import CLASSES, ClassList
from compress.models.embedding import EmbeddingNetwork, class_list_of
from compress.models.own_files import own_model_files
from compress.models.teachers import load_teacher
from compress.models.text_tower import load_text, read_teacher, write_text
from compress.pipeline.dry_run import _small_data
from compress.pipeline.job import Job, open_store, prepare_job
from compress.pipeline.making import make_all
from compress.pipeline.publish import _network
from compress.pipeline.run_folder import Log, copy_artifacts
from compress.recipe import parse_recipe
from compress.recipe.models import OwnModel
from compress.results.inference import Inference, LayerWidths
from compress.results.stored import read_artifacts
from compress.stages.costs import CostModel
from compress.stages.embeddings import ALL_CLASSES, TEACHER_EMBEDDINGS, _Test
from compress.stages.evaluation import quantized_inference, with_fewer_products
from compress.store.store import Store
from compress.utils.errors import CompressError, RecipeError, UsageError

RECIPE = """\
name: tiny
data: {{source: image-folder, path: {root}/images, resolution: 32, held_out: [both]}}
stages:
  - {{id: teacher, kind: teacher, teacher: {{source: open_clip, model: 'local-dir:{root}/clip'}}}}
  - {{id: student, kind: distill, from: teacher, output: embedding, student: test_resnet, epochs: 1, batch: 16,
     lr: 0.05, views: 1, losses: {{embedding: 1, rkd_distance: 0.1}}}}
"""
FILES = "  - {{id: files, kind: export, from: [student], runtimes: [onnxruntime], text: true}}\n"
EVERY_KIND = """\
  - {{id: pruned, kind: prune, from: student, target_macs: 0.6, round_to: 4, importance: taylor, analyse: [0.5],
     repair: {{epochs: 1, batch: 16, views: 1, losses: {{kd: 1, embedding: 1}}}}}}
  - {{id: narrow, kind: shrink, from: pruned}}
  - {{id: sparse, kind: sparsify, from: student, repair: {{epochs: 1, batch: 16, views: 1}}}}
  - {{id: int8, kind: quantize, from: pruned, calibration_images: 16, keep_accuracy: 0.5}}
  - {{id: nncf, kind: quantize, from: student, method: nncf, calibration_images: 16}}
  - {{id: aware, kind: quantize, from: student, training: {{epochs: 1, batch: 16, views: 1}}}}
  - {{id: files, kind: export, from: [student, int8, nncf, aware], runtimes: [onnxruntime, openvino],
     temperature_scaling: false}}
  - {{id: scaled, kind: export, from: [pruned], runtimes: [onnxruntime], temperature_scaling: true}}
"""


@dataclass(frozen=True)
class Made:
    """A recipe whose stages are made."""

    root: Path
    job: Job

    def folder(self, unit: str) -> Path:
        return self.job.store.path(self.job.plan.stage(unit).key)

    @property
    def artifacts(self) -> Path:
        return self.root / "run" / "artifacts"


def make(root: Path, stages: str) -> Made:
    store = open_store(root / "runs" / "store")
    recipe = parse_recipe((RECIPE + stages).format(root=root))
    log = Log(root / "log.jsonl")
    job = prepare_job(recipe, store, log, dry_run_first=False)
    _, failures = make_all(job)
    assert not failures, failures.reasons
    copy_artifacts(job.plan, store, root / "run")
    return Made(root, job)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("embedding")
    for part, count in (("train", 8), ("val", 4), ("test", 8)):
        photographs(root / "images" / part, count, seed=len(part))
    vision, text = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 1}, {"width": 64, "heads": 2, "layers": 1}
    write_open_clip(root / "clip", "ViT-B-32", vision_cfg=vision, text_cfg=text)
    return root


@pytest.fixture(scope="module")
def made(root: Path) -> Made:
    return make(root, FILES)


def test_figures_are_against_the_teacher_on_the_same_images(made: Made) -> None:
    metrics = made.job.context().metrics("student")
    own = metrics.embeddings
    assert own is not None and own.teacher is not None
    assert [(each.images, each.names, each.n) for each in own.zero_shot] == [
        ("trained", "trained", 16),
        ("held-out", "all", 8),
        ("all", "all", 24),
    ]
    assert own.zero_shot[0].top1 == metrics.accuracy.top1
    assert own.image_to_text[0].recall == own.zero_shot[0].top1
    assert [each.k for each in own.image_to_image] == [1, 5, 10]
    teacher = made.job.context().metrics("teacher")
    assert own.teacher.zero_shot[0].top1 == teacher.accuracy.top1
    assert own.cosine is not None and own.rank_correlation is not None and -1 <= own.cosine <= 1
    (artifact,) = read_artifacts(made.folder("files/student"))
    assert artifact.embeddings is not None and artifact.top1_agreement == 1.0
    assert artifact.embeddings.zero_shot == own.zero_shot


def test_macs_include_the_product_with_the_class_list_as_those_of_the_teacher(made: Made) -> None:
    network = load_variant(made.folder("student"))
    encoder, product = macs(network.model, 32), network.architecture.outputs * 2
    inference = made.job.context().metrics("student").inference
    assert inference.macs == encoder + product == macs(network.classifier, 32)
    assert inference.bit_operations == 1024 * inference.macs and inference.params == parameters(network.model)
    bits = dict.fromkeys(layer_macs(network.model, 32), (8, 8))
    int8 = quantized_inference(network.model, network.preprocess, bits, (1, 1), 1, network.classes)
    assert (int8.macs, int8.bit_operations) == (inference.macs, 64 * encoder + 1024 * product)


def test_planned_macs_are_those_that_training_takes(made: Made) -> None:
    planned, context = made.job.plan.stage("student"), made.job.context()
    costs = CostModel(made.job.plan, Store(made.root / "planned"), made.job.data)
    expected = costs.fit(planned, planned.stage).macs  # type: ignore[arg-type]
    parts = {part.what: part.macs for part in context.metrics("student").training.parts}
    assert expected == sum(spent for what, spent in parts.items() if "validation" not in what)


def test_names_of_all_classes_are_asked_for_in_the_order_of_their_images(made: Made) -> None:
    folder = made.folder("student")
    listed, embeddings = ClassList.read(folder / ALL_CLASSES), np.load(folder / TEACHER_EMBEDDINGS)
    assert listed.names == ("across", "down", "both")
    stage, recipe = made.job.plan.stage("teacher").stage, made.job.plan.recipe
    assert stage.teacher  # type: ignore[attr-defined]
    other = load_teacher(stage.teacher, recipe.data, listed.names[::-1], 32)  # type: ignore[attr-defined]
    turned = class_list_of(other.head, listed.names[::-1], listed.words[::-1], listed.templates)
    assert np.allclose(listed.logits(embeddings)[:, ::-1], turned.logits(embeddings), atol=1e-3)
    held = listed.logits(embeddings)[16:].argmax(1) == 2
    own = made.job.context().metrics("student").embeddings
    assert own is not None and own.teacher is not None
    assert held.mean() == own.teacher.zero_shot[1].top1


def test_artifact_gives_embeddings_and_logits(made: Made) -> None:
    artifact = load_artifact(made.artifacts / "student" / "onnx")
    pictures = sorted((made.root / "images" / "test" / "down").glob("*.png"))[:2]
    embeddings = artifact.embeddings(pictures)
    assert embeddings.shape == (2, 512) and np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-4)
    listed = ClassList.read(made.artifacts / "student" / "onnx")
    assert np.allclose(artifact.logits(pictures), listed.logits(embeddings), atol=1e-3)
    (output,) = onnx.load(artifact.path).graph.output
    assert output.name == "embedding"
    stated = json.loads((made.artifacts / "student" / "onnx" / "preprocess.json").read_text())
    assert stated["output"] == "embedding" and stated["class_list"] == CLASSES and CLASSES in stated["steps"][-1]


def test_class_list_is_changed_by_a_command_and_evaluated(made: Made, tmp_path: Path) -> None:
    names, folder = tmp_path / "names.txt", made.artifacts / "student" / "onnx"
    tested = made.root / "images" / "test"
    before = (folder / "preprocess.json").read_bytes()
    figures = {}
    for order in (("across", "down", "both"), ("both", "down", "across")):
        names.write_text("# of the test images\n\n" + "\n".join(order) + "\n")
        out = tmp_path / order[0]
        done = typed("classes", folder, "--names", names, "--output", out, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"artifact": str(out), "classes": list(order)}
        done = typed("evaluate", out, "--data", tested, "--json")
        assert done.returncode == 0, done.stderr
        figures[order[0]] = json.loads(done.stdout)["accuracy"]["correct"]
    own = made.job.context().metrics("student").embeddings
    assert own is not None
    assert figures["across"] == figures["both"] == round(24 * own.zero_shot[2].top1)
    assert (folder / "preprocess.json").read_bytes() == before, "a copy was asked for"
    listed = ClassList.read(tmp_path / "across")
    stored = ClassList.read(made.folder("student") / ALL_CLASSES)
    assert listed.words == stored.words and np.allclose(listed.weight, stored.weight, atol=1e-3)


def test_class_list_is_changed_in_place_and_the_store_stays(made: Made, tmp_path: Path) -> None:
    shutil.copytree(made.artifacts / "student", tmp_path / "student")
    folder, names = tmp_path / "student" / "onnx", tmp_path / "names.txt"
    names.write_text("vertical: lines from top to bottom\nhorizontal\n")
    teacher = f"local-dir:{made.root}/clip"
    done = typed("classes", folder, "--names", names, "--teacher", teacher, "--templates", "a drawing of {}.")
    assert done.returncode == 0 and done.stdout == f"{folder}: 2 classes\n", done.stderr
    listed = ClassList.read(folder)
    assert listed.words == ("lines from top to bottom", "horizontal") and listed.templates == ("a drawing of {}.",)
    assert listed.scale == pytest.approx(ClassList.read(made.folder("student")).scale, rel=1e-4)
    assert load_artifact(folder).classes == ("vertical", "horizontal")
    assert sorted(path.name for path in (tmp_path / "student").iterdir()) == ["onnx", "text"]


@pytest.fixture
def copied(made: Made, tmp_path: Path) -> Path:
    """A copy of an artifact, which may be changed."""
    return shutil.copytree(made.artifacts / "student", tmp_path / "artifacts" / "student") / "onnx"


ONE = Names(("one",), ("one",))


def test_a_folder_is_found_from_inside_and_through_a_link(
    made: Made, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = load_text(made.artifacts / "student" / TEXT)
    (tmp_path / "link").symlink_to(copied)
    assert text_folder(tmp_path / "link") == text_folder(copied) == copied.parent / TEXT
    assert replace_classes(tmp_path / "link", ONE, [], text) == copied
    assert (tmp_path / "link").is_symlink() and load_artifact(tmp_path / "link").classes == ("one",)
    monkeypatch.chdir(copied)
    replace_classes(Path("model.onnx"), Names(("two",), ("two",)), [], text)
    artifact = load_artifact("model.onnx")
    assert artifact.classes == ("two",) and artifact.embeddings([]).shape == (0, 512)


def test_a_killed_change_of_classes_is_made_good(made: Made, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = load_text(made.artifacts / "student" / TEXT)
    for place in ("write_atomic", "write_sums"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(f"compress.deployment.classes.{place}", Mock(side_effect=KeyboardInterrupt))
            replace_classes(copied, Names((place,), ("one",)), [], text)
        assert (copied / "model.onnx").is_file()
        replace_classes(copied, ONE, [], text)
        assert load_artifact(copied).classes == ("one",)


@pytest.mark.parametrize(
    ("listed", "stale"),
    [
        ([" image.iso"], None),
        (["*./preprocess.json"], "preprocess.json"),
        ([" classes.safetensors", " image.iso", " preprocess.json"], "classes.safetensors, preprocess.json"),
    ],
)
def test_sums_of_another_tool_stay_and_stale_lines_are_named(
    made: Made, copied: Path, listed: list[str], stale: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = list[str]()
    monkeypatch.setattr("compress.deployment.classes.say", said.append)
    text = "".join(f"{'0' * 64} {name}\n" for name in listed)
    (copied / "SHA256SUMS").write_text(text)
    replace_classes(copied, ONE, [], load_text(made.artifacts / "student" / TEXT))
    assert (copied / "SHA256SUMS").read_text() == text and load_artifact(copied).classes == ("one",)
    line = f"{copied / 'SHA256SUMS'} is another tool's and has old digests of {stale}; make it again"
    assert said == ([line] if stale else [])


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_copy_that_fails_leaves_nothing(
    made: Made, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exists: bool, error: type[BaseException]
) -> None:
    text, output = load_text(made.artifacts / "student" / TEXT), tmp_path / "new" / "copy"
    if exists:
        output.mkdir(parents=True)
    for place in ("copy_tree", "write_atomic", "write_sums"):
        with monkeypatch.context() as patch, pytest.raises(error):
            patch.setattr(f"compress.deployment.classes.{place}", Mock(side_effect=error))
            replace_classes(copied, ONE, [], text, output)
        assert list((tmp_path / "new").rglob("*")) == ([output] if exists else [])
    assert load_artifact(replace_classes(copied, ONE, [], text, output)).classes == ("one",)
    assert sorted(file.name for file in output.iterdir()) == sorted(file.name for file in copied.iterdir())


def test_classes_of_a_run_are_changed_in_a_copy(made: Made, copied: Path, tmp_path: Path) -> None:
    text = load_text(made.artifacts / "student" / TEXT)
    (tmp_path / "results.json").touch()
    before = (copied / CLASSES).read_bytes()
    with pytest.raises(UsageError, match=r"onnx belongs to the run .*; name a folder for a copy with --output"):
        replace_classes(copied, ONE, [], text)
    assert load_artifact(replace_classes(copied, ONE, [], text, tmp_path / "copy")).classes == ("one",)
    assert (copied / CLASSES).read_bytes() == before


def test_an_artifact_is_sent_with_its_class_list(copied: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for file in artifact_files(copied / "model.onnx"):
        shutil.copy(file, tmp_path / "there")
    assert load_artifact(tmp_path / "there").classes == ("across", "down")


def test_a_class_list_of_another_width_is_refused(copied: Path) -> None:
    listed = ClassList.read(copied)
    replace(listed, weight=listed.weight[:, 1:]).write(copied)
    (copied / "SHA256SUMS").unlink()
    with pytest.raises(CompressError, match=f"its embeddings have width 512, and {CLASSES} is for 511"):
        load_artifact(copied)


def test_names_are_read_as_they_are_meant(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_bytes("\ufeffcafe\u0301_bar\r\nowl: a bird\n".encode())
    assert read_names(names) == Names(("caf\u00e9_bar", "owl"), ("caf\u00e9 bar", "a bird"))
    names.write_bytes("\ufeffa photo of {}.\n".encode())
    assert read_templates([str(names)]) == ("a photo of {}.",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\na\n", "names.txt:2: 'a' is listed twice"),
        ("caf\u00e9\ncafe\u0301\n", "names.txt:2: 'caf\u00e9' is listed twice"),
        ("a:\n", "names.txt:1: expected `name` or `name: words`, not 'a:'"),
        ("a\nb\ac\n", r"names.txt:2: 'b\x07c' has a control character; remove it"),
        ("a_b\na b\n", "names.txt:2: 'a b' and 'a_b' are both 'a b' in prompts; change one"),
        ("\n", "names.txt has no class names"),
    ],
)
def test_wrong_names_are_refused_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "names.txt").write_text(text)
    with pytest.raises(UsageError, match=re.escape(message)):
        read_names(tmp_path / "names.txt")


def test_teachers_without_a_text_tower_are_refused_and_not_suggested() -> None:
    with pytest.raises(UsageError, match=r"cifar10-resnet18.yaml is not a teacher of `source: open_clip`: source: "):
        read_teacher("cifar10-resnet18")
    with pytest.raises(UsageError, match=r"shipped ones: embedded, openclip-vit-b-32, openclip-vit-l-14$"):
        read_teacher("nothing")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\xff", "is not a YAML file; name the file of a teacher, such as embedded.yaml"),
        (b"source: open_clip\n", "is not a teacher of `source: open_clip`: model: Field required; correct it"),
        (b"- a\n", "is not a teacher of `source: open_clip`: the whole file: "),
    ],
)
def test_a_file_that_is_not_a_teacher_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "it.yaml").write_bytes(content)
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        read_teacher(str(tmp_path / "it.yaml"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a\na\n", [], "names.txt:2: 'a' is listed twice"),
        ("a\n", ["--templates", "no braces"], "'no braces' must hold {} once"),
        ("a\n", ["--teacher", "embeded"], "unknown teacher 'embeded'"),
        ("a\n", ["--teacher", "embedded"], "gives another embedding of 'across'"),
        ("a\n", ["--teacher", "embedded", "--text", "b"], "--teacher and --text exclude each other"),
        ("a\n", ["--text", "nowhere"], "nowhere is not a text tower: it has no open_clip_config.json"),
    ],
)
def test_mistakes_are_refused_in_one_line(
    made: Made, tmp_path: Path, text: str, options: list[str], message: str
) -> None:
    (tmp_path / "names.txt").write_text(text)
    done = typed("classes", made.artifacts / "student" / "onnx", "--names", tmp_path / "names.txt", *options)
    assert done.returncode in (1, 2) and message in done.stderr and done.stderr.count("\n") == 1


def test_artifact_without_its_class_list_is_refused(made: Made, tmp_path: Path) -> None:
    folder = shutil.copytree(made.artifacts / "student" / "onnx", tmp_path / "onnx")
    (folder / "SHA256SUMS").unlink()
    stated = json.loads((folder / "preprocess.json").read_text())
    (folder / "preprocess.json").write_text(json.dumps({**stated, "classes": ["down", "across"]}))
    with pytest.raises(CompressError, match="list different classes; write both by `compress-model classes`"):
        load_artifact(folder)
    (folder / CLASSES).unlink()
    with pytest.raises(CompressError, match=f"has no {CLASSES}"):
        load_artifact(folder)


def test_text_tower_is_read_as_it_was_written(made: Made, tmp_path: Path) -> None:
    teacher = made.job.plan.stage("teacher").stage.teacher  # type: ignore[attr-defined]
    write_text(teacher, tmp_path / "text")
    listed = ClassList.read(made.folder("student"))
    rows = load_text(tmp_path / "text").embed(listed.words, listed.templates)
    assert np.allclose(rows * listed.scale, listed.weight, atol=1e-3)
    (tmp_path / "text" / "text.safetensors").write_bytes(b"damaged")
    with pytest.raises(CompressError, match="is damaged"):
        load_text(tmp_path / "text")


TIMM = "teacher: {source: timm, model: resnet18, pretrained: true}"
CLIP = "teacher: {source: open_clip, model: 'local-dir:clip'}"


@pytest.mark.parametrize(
    ("teacher", "more", "message"),
    [
        (TIMM, "", "output: an embedding student needs a teacher with text embeddings"),
        (CLIP.replace("}", ", head: probe}"), "", "output: an embedding student needs a teacher with text embeddings"),
        (CLIP, "losses: {rkd_distance: 1}", "losses: no loss trains the embedding towards the teacher's; set a weight"),
        (CLIP, "classifier: teacher", "classifier: an embedding student has the teacher's head as it is"),
        (CLIP, "student: {model: resnet18, head: probe}", "student: `head: probe` learns from labels alone"),
    ],
)
def test_what_cannot_be_an_embedding_student_is_refused_before_training(teacher: str, more: str, message: str) -> None:
    student = "" if "student" in more else "student: resnet18"
    settings = ", ".join(filter(None, ["output: embedding", student, more]))
    with pytest.raises(RecipeError) as caught:
        parse_recipe(
            f"data: {{source: cifar10}}\nstages:\n  - {{id: t, kind: teacher, {teacher}}}\n"
            f"  - {{id: s, kind: distill, from: t, {settings}}}\n"
        )
    assert message in str(caught.value)


def test_further_settings_that_do_not_go_with_embeddings() -> None:
    start = f"data: {{source: cifar10}}\nstages:\n  - {{id: t, kind: teacher, {CLIP}}}\n"
    student = "  - {id: s, kind: distill, from: t, student: resnet18%s}\n"
    for stage, given, message in (
        ("{id: f, kind: export, from: s, triton: true}", ", output: embedding", "triton: s give embeddings"),
        ("{id: f, kind: export, from: s, text: true}", "", "text: is for embedding students, and none of these is one"),
        (
            "{id: p, kind: prune, from: s, target_macs: 0.5, repair: {classifier: teacher}}",
            ", output: embedding",
            "repair: an embedding student has the teacher's head as it is",
        ),
    ):
        with pytest.raises(RecipeError, match=message):
            parse_recipe(
                start
                + student % given
                + f"  - {stage.replace('from: s', 'from: [s]') if 'export' in stage else stage}\n"
            )


def test_logits_files_have_no_class_list_to_change(made: Made, tmp_path: Path) -> None:
    folder = shutil.copytree(made.artifacts / "student" / "onnx", tmp_path / "onnx")
    stated = json.loads((folder / "preprocess.json").read_text())
    (folder / "preprocess.json").write_text(json.dumps({**stated, "output": "logits"}))
    for name in ("SHA256SUMS", CLASSES):
        (folder / name).unlink()
    (tmp_path / "names.txt").write_text("a\nb\n")
    done = typed("classes", folder, "--names", tmp_path / "names.txt", "--teacher", "embedded")
    assert done.returncode == 2 and "gives logits of across, down" in done.stderr
    artifact = replace(load_artifact(made.artifacts / "student" / "onnx"), embed=None)
    with pytest.raises(UsageError, match="gives logits; embeddings come from a student"):
        artifact.embeddings([])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("triton", "triton: own give embeddings, and its models give logits; remove it"),
        ("text", "text: the teacher of own, which is made by another recipe, is not in this one; remove it"),
    ],
)
def test_an_embedding_student_of_another_run_is_exported_as_one(made: Made, setting: str, message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(message)):
        parse_recipe(
            f"data: {{source: image-folder, path: {made.root}/images}}\nstages:\n"
            f"  - {{id: own, kind: model, model: {{source: variant, model: '{made.folder('student')}'}}}}\n"
            f"  - {{id: files, kind: export, from: [own], runtimes: [onnxruntime], {setting}: true}}\n"
        )


def test_a_file_of_embeddings_is_no_own_model(copied: Path) -> None:
    for settings in ({"source": "variant", "model": str(copied)}, {"source": "onnx", "model": f"{copied}/model.onnx"}):
        with pytest.raises(CompressError, match=r"model\.onnx gives embeddings; name its variant as RUN/VARIANT"):
            own_model_files(OwnModel.model_validate(settings))


def test_a_quantized_embedding_student_cannot_be_pushed_by_another_variant(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = Architecture.read(made.folder("student"))
    stored.with_quantization(QuantizationRecord(method="pt2e")).write(tmp_path)
    monkeypatch.setattr("compress.pipeline.publish.variant_folder", lambda _: tmp_path)
    variant = SimpleNamespace(id="int8", artifacts=["onnx"])
    with pytest.raises(UsageError, match=r"^int8 gives embeddings, .*; upload its artifacts instead: hf upload"):
        _network(tmp_path, variant, SimpleNamespace())  # type: ignore[arg-type]


def test_load_generator_times_the_file_without_its_class_list(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[object] = []
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", Mock())
    monkeypatch.setattr(mlperf, "_rate", lambda run, _: timed.append(run) or 1.0)
    monkeypatch.setattr(mlperf, "_run", Mock())
    monkeypatch.setattr(mlperf, "_result", lambda *_: {})
    artifact = load_artifact(copied)
    mlperf.run_loadgen([artifact], 1, 0.1)
    assert timed == [artifact.embed] * 2


def test_triton_is_not_given_embeddings(copied: Path, tmp_path: Path) -> None:
    preprocess = json.loads((copied / "preprocess.json").read_text())
    with pytest.raises(UsageError, match=r"model\.onnx gives embeddings, and models for Triton give logits"):
        write_triton({"onnxruntime": copied / "model.onnx"}, tmp_path / "triton", preprocess)


def test_recall_without_queries_is_left_out() -> None:
    rows = np.eye(3, 6, dtype=np.float32)
    figures = _Test([np.arange(3)], ClassList(("a", "b", "c"), rows, np.zeros(3, np.float32), (), ()), None).figures(
        rows
    )
    assert figures.image_to_image == () and figures.image_to_text[0].recall == 1


def test_dry_run_has_images_of_held_out_classes(made: Made) -> None:
    small = _small_data(made.job.data)
    assert small.held_names == ("both",) and small.held_out is not None
    assert len(small.held_out) == 2 and np.asarray(small.held_out.labels).tolist() == [0, 0]


@pytest.mark.slow
def test_every_kind_of_stage_works_on_an_embedding_student(root: Path) -> None:
    made = make(root, EVERY_KIND)
    context = made.job.context()
    for unit in made.job.plan.variants:
        if unit.id == "teacher":
            continue
        metrics, model = context.metrics(unit.id), context.classifier(unit.id)[0]
        assert isinstance(model, EmbeddingNetwork) and metrics.embeddings is not None
        assert metrics.embeddings.teacher is not None and metrics.embeddings.width == 512
        assert metrics.embeddings.zero_shot[0].top1 == metrics.accuracy.top1
    for export in made.job.plan.exports:
        for artifact in read_artifacts(made.folder(export.id)):
            assert artifact.embeddings is not None and artifact.embeddings.zero_shot[0].top1 == artifact.top1
            loaded = load_artifact(made.artifacts / Path(artifact.path).relative_to("artifacts"), artifact.runtime)
            assert loaded.embed is not None and loaded.classes == ("across", "down")
            if artifact.runtime == "onnxruntime":
                assert onnx.load(loaded.path).graph.output[0].name == "embedding"
    assert ClassList.read(made.artifacts / "pruned" / "onnx").scale != ClassList.read(made.folder("pruned")).scale


def test_cost_of_a_quantized_student_with_fewer_classes() -> None:
    """Its class list is the part of the linear layers that is in float."""
    rows = (("convolution", 8, 900), ("linear", 32, 100))
    widths = tuple(
        LayerWidths(kind=kind, weight_bits=bits, activation_bits=bits, layers=1, macs_share=macs / 1000)
        for kind, bits, macs in rows
    )
    shared = {"params": 1, "bytes": 1, "weight_bits": 8, "activation_bits": 8, "quantized_convs": 1, "total_convs": 1}
    whole = Inference(macs=1000, bit_operations=900 * 64 + 100 * 1024, uncounted_operators=(), widths=widths, **shared)
    fewer = with_fewer_products(whole, 50)
    assert (fewer.macs, fewer.bit_operations) == (950, 900 * 64 + 50 * 1024)
    assert [row.macs_share for row in fewer.widths or ()] == pytest.approx([900 / 950, 50 / 950])
