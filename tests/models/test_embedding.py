"""Embedding students: the class list, and the network that it is kept apart from."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from compress.models.checkpoints import load_variant, save_variant
from compress.models.class_list import CLASSES, ClassList, beside
from compress.models.embedding import EmbeddingNetwork, class_list_of, encoder_of, logits_of, with_encoder
from compress.models.heads import classifiers, layers_named
from compress.models.hub_repository import write_repository
from compress.models.students import load_embedding_student
from compress.recipe.fit import Distillation
from compress.recipe.models import Student
from compress.training.freeze import freezing
from compress.training.hooks import map_shapes
from compress.training.objective import Objective
from compress.training.teacher_signal import OnlineTeacher
from compress.utils.errors import CompressError, UsageError

WIDTH = 6
TEMPLATES = ("a photo of a {}.",)


def listed(names: tuple[str, ...] = ("cat", "dog", "owl"), width: int = WIDTH) -> ClassList:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((len(names), width))
    rows = 20 * rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return ClassList(names, rows.astype(np.float32), np.full(len(names), -2, np.float32), names, TEMPLATES)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_class_list_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = listed()
    written.write(tmp_path)
    read = beside(tmp_path / "model.onnx")
    assert read is not None
    assert (read.names, read.words, read.templates) == (written.names, written.words, written.templates)
    assert np.array_equal(read.weight, written.weight) and np.array_equal(read.bias, written.bias)
    assert read.scale == pytest.approx(20, rel=1e-5) and read.width == WIDTH
    assert beside(tmp_path / "other" / "model.onnx") is None


def test_damaged_class_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match=f"has no {CLASSES}, which the export writes"):
        ClassList.read(tmp_path)
    replace(listed(), names=("cat", "cat", "owl")).write(tmp_path)
    with pytest.raises(CompressError, match="is damaged: class names must be unique"):
        ClassList.read(tmp_path)
    replace(listed(), bias=np.full(3, np.nan, np.float32)).write(tmp_path)
    with pytest.raises(CompressError, match="is damaged: a weight is not finite"):
        ClassList.read(tmp_path)
    replace(listed(), bias=np.zeros(2, np.float32)).write(tmp_path)
    with pytest.raises(CompressError, match="is damaged: 3 names, weight"):
        ClassList.read(tmp_path)
    (tmp_path / CLASSES).write_bytes(b"no tensors")
    with pytest.raises(CompressError, match="export its variant again"):
        ClassList.read(tmp_path)


def test_class_list_is_read_with_numpy_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed().write(tmp_path)
    (tmp_path / "other").touch()
    assert (tmp_path / CLASSES).stat().st_mode == (tmp_path / "other").stat().st_mode, "others may read it too"
    monkeypatch.setitem(sys.modules, "safetensors", None)
    assert ClassList.read(tmp_path).names == ("cat", "dog", "owl")
    content = (tmp_path / CLASSES).read_bytes()
    for damaged in (content[:5], content[:40], content[:-1], content.replace(b"F32", b"F64"), content[8:]):
        (tmp_path / CLASSES).write_bytes(damaged)
        with pytest.raises(CompressError, match=r"is damaged: .*; export its variant again"):
            ClassList.read(tmp_path)
    (tmp_path / CLASSES).unlink()
    (tmp_path / CLASSES).mkdir()
    with pytest.raises(CompressError, match=f"{CLASSES} cannot be read: Is a directory"):
        ClassList.read(tmp_path)


def test_embeddings_of_another_width_are_refused() -> None:
    run = listed().after(lambda images: np.zeros((len(images), 7), np.float32))
    with pytest.raises(CompressError, match=f"its embeddings have width 7, and {CLASSES} is for {WIDTH}"):
        run(np.zeros((2, 3, 8, 8), np.float32))


def test_layers_have_the_names_of_the_library_everywhere() -> None:
    network, _ = load_embedding_student(Student(model="test_resnet"), listed(), 32)
    model, encoder, classifier = network.model, encoder_of(network.classifier), network.classifier
    assert encoder is model
    first = layers_named(model, ["conv1.0"])
    assert list(first.values()) == [model.visual.conv1[0]] == list(layers_named(model, ["visual.conv1.0"]).values())
    with freezing(classifier, ["conv1", "layer1.*"]):
        frozen = {name for name, value in model.visual.named_parameters() if not value.requires_grad}
    names = [name for name, _ in model.visual.named_parameters()]
    assert frozen == {name for name in names if name.startswith(("conv1.", "layer1."))} and frozen != set(names)
    maps = {"weight": 1, "student_layer": "layer1", "teacher_layer": "layer1"}
    settings = Distillation.model_validate({"losses": {"attention": maps}, "teacher": "live"})
    teacher = OnlineTeacher(SimpleNamespace(tower=model.visual, preprocess=network.preprocess), nn.Identity(), 1)  # type: ignore[arg-type]
    own, other = map_shapes(settings.losses, classifier, network.preprocess, teacher)["attention"]
    assert own == other
    with pytest.raises(UsageError, match=r"keep: no layer matches 'conv1\.1'; did you mean 'conv1\."):
        layers_named(model, ["conv1.1"])


def test_rows_are_selected_in_another_order() -> None:
    own = listed()
    other = own.select([2, 0], ["Owl", "Cat"])
    embeddings = np.eye(WIDTH, dtype=np.float32)[:2]
    assert other.names == ("Owl", "Cat") and other.words == ("owl", "cat")
    assert np.array_equal(other.logits(embeddings), own.logits(embeddings)[:, [2, 0]])


@pytest.mark.parametrize(("library", "model"), [("timm", "test_resnet"), ("torchvision", "mobilenet_v3_small")])
def test_student_is_stored_and_built_again(library: str, model: str, tmp_path: Path, images: torch.Tensor) -> None:
    torch.manual_seed(0)
    network, _ = load_embedding_student(Student(library=library, model=model), listed(), 32)  # type: ignore[arg-type]
    architecture = network.architecture
    assert architecture.embedding == architecture.outputs == WIDTH
    assert architecture.classes == ("cat", "dog", "owl")
    (head,) = classifiers(network.model).values()
    assert head.weight.shape[0] == WIDTH
    save_variant(tmp_path, network)
    stored = load_variant(tmp_path)
    with torch.no_grad():
        logits, embeddings = network.classifier.eval()(images), stored.model(images)
        assert torch.equal(stored.classifier(images), logits)
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(3))
    assert np.allclose(logits_of(stored.classifier, embeddings.numpy()), logits.numpy(), atol=1e-4)


def test_no_repository_of_the_hub_is_made_of_it(tmp_path: Path) -> None:
    network, _ = load_embedding_student(Student(model="test_resnet"), listed(), 32)
    with pytest.raises(UsageError, match="an embedding student gives embeddings, and timm and the loader give logits"):
        write_repository(network, tmp_path)


def test_files_are_made_of_the_encoder(images: torch.Tensor) -> None:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, WIDTH))
    network = EmbeddingNetwork(encoder, listed())
    assert encoder_of(network) is encoder and encoder_of(encoder) is encoder
    with torch.no_grad():
        network.head.weight.div_(2)  # as a temperature does
    other = with_encoder(network, nn.Flatten())
    assert isinstance(other, EmbeddingNetwork) and other.classes.scale == pytest.approx(10, rel=1e-5)
    assert with_encoder(encoder, other) is other
    assert network.classes.names == ("cat", "dog", "owl")
    assert class_list_of(nn.Linear(2, 1), ["a"], ["a"], TEMPLATES).weight.shape == (1, 2)


@pytest.mark.parametrize("losses", [{"embedding": 1}, {"kd": 1}, {"ce": 1}, {"crd": {"negatives": 4}}])
def test_every_loss_trains_the_embedding_through_a_frozen_head(losses: dict[str, object], images: torch.Tensor) -> None:
    torch.manual_seed(0)
    network = EmbeddingNetwork(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, WIDTH)), listed())
    settings = Distillation.model_validate({"losses": losses})
    objective = Objective(settings, nn.Linear(WIDTH, 3), WIDTH, WIDTH, {}, embeds=True)
    assert objective.step_macs(1) == 3 * WIDTH + 2 * 4 * WIDTH * ("crd" in losses)
    assert not any(p.requires_grad for p in objective.parameters())
    found = []
    hook = network.head.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    logits = network(images)
    hook.remove()
    loss = objective(
        logits,
        found[0],
        torch.randn(3, WIDTH),
        torch.tensor([0, 1, 2]),
        progress=0.0,
        sample_negatives=lambda count: torch.randn(count, WIDTH),
    )
    loss.backward()
    assert network.head.weight.grad is None
    assert network.encoder[1].weight.grad.abs().sum() > 0  # type: ignore[index, union-attr, operator]
