"""Embedding students through the stages: made without labels, compressed, exported, and given other classes."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from support import photographs, typed, write_open_clip

from compress import load_artifact
from compress.models.class_list import CLASSES, ClassList
from compress.models.embedding import EmbeddingNetwork, class_list_of
from compress.models.teachers import load_teacher
from compress.models.text_tower import load_text, write_text
from compress.pipeline.job import Job, open_store, prepare_job
from compress.pipeline.making import make_all
from compress.pipeline.run_folder import Log, copy_artifacts
from compress.recipe import parse_recipe
from compress.results.stored import read_artifacts
from compress.stages.embeddings import ALL_CLASSES, TEACHER_EMBEDDINGS
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


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a\na\n", [], "names.txt:2: 'a' is listed twice"),
        ("a:\n", [], "names.txt:1: expected `name` or `name: words`, not 'a:'"),
        ("\n", [], "names.txt has no class names"),
        ("a\n", ["--templates", "no braces"], "'no braces' must hold {} once"),
        ("a\n", ["--teacher", "embeded"], "unknown teacher 'embeded'"),
        ("a\n", ["--teacher", "embedded"], "gives another embedding of 'across'"),
        ("a\n", ["--teacher", "embedded", "--text", "b"], "--teacher and --text exclude each other"),
        ("a\n", ["--text", "nowhere"], "nowhere is no text tower: it has no open_clip_config.json"),
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
    assert ClassList.read(made.artifacts / "pruned" / "onnx").scale != ClassList.read(made.folder("pruned")).scale
