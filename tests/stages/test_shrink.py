"""The control of a pruned network takes as much compute, with all that a step of its training computes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from compress.data.preprocess import Preprocess
from compress.measurement.compute import macs, training_macs
from compress.models.architecture import Network
from compress.models.class_list import ClassList
from compress.models.teachers import LoadedTeacher
from compress.recipe.fit import Distillation
from compress.recipe.schema import Trainer
from compress.stages.shrink import ShrinkStage, make
from compress.stages.shrink.make import _affordable_epochs

SIDE, FEATURES, WIDTH, IMAGES, VALIDATION, BATCH = 8, 4, 5000, 16, 4, 8
HEAD = 2 * WIDTH  # MACs of the teacher's classes
PREPROCESS = Preprocess(SIDE, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def network(outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, FEATURES, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(FEATURES, outputs)
    ).eval()


def epochs_of(folder: Path, model: Network, spent: int, **settings: Any) -> int:
    head, tower = nn.Linear(WIDTH, 2), nn.Sequential(nn.Conv2d(3, 7, 3), nn.Flatten(), nn.Linear(7 * 6 * 6, WIDTH))
    save_file(head.state_dict(), folder / "head.safetensors")
    ledgers = {"teacher": SimpleNamespace(inference=SimpleNamespace(macs=0))}
    ledgers["pruned"] = SimpleNamespace(training=SimpleNamespace(macs=spent))

    def split(count: int) -> Any:
        return SimpleNamespace(images=torch.zeros(count))

    context: Any = SimpleNamespace(
        data=SimpleNamespace(train=split(IMAGES), unlabeled=split(0), validation=split(VALIDATION)),
        metrics=ledgers.__getitem__,
        teacher=lambda name: LoadedTeacher(tower, nn.Identity(), PREPROCESS),
        folder=lambda name: folder,
        recipe=SimpleNamespace(trainer=Trainer()),
    )
    planned: Any = SimpleNamespace(parent="pruned", teacher="teacher")
    return _affordable_epochs(context, planned, model, Distillation.model_validate({"batch": BATCH, **settings}))


@pytest.mark.parametrize(
    ("settings", "beside"),
    [
        ({"losses": {"kd": 1}}, HEAD),
        ({"losses": {"kd": 1, "embedding": 1}}, HEAD + 3 * FEATURES * WIDTH),
        # the student's features go through the head, too, which is folded into its classifier in each step
        (
            {"losses": {"kd": 1}, "classifier": "teacher"},
            3 * HEAD + 3 * FEATURES * WIDTH + HEAD * FEATURES // BATCH,
        ),
        (
            {"losses": {"kd": 1, "hint": {"student_layer": "0", "teacher_layer": "0"}}, "teacher": "live"},
            HEAD + 3 * FEATURES * 6 * 6 * 7,
        ),
    ],
)
def test_what_is_trained_beside_the_network_counts(tmp_path: Path, settings: dict[str, Any], beside: int) -> None:
    model = network(2)
    step = training_macs(model, SIDE) + beside
    epoch = IMAGES * step + VALIDATION * macs(model, SIDE)
    whole: Any = SimpleNamespace(classifier=model, architecture=SimpleNamespace(resolution=SIDE), preprocess=PREPROCESS)
    assert epochs_of(tmp_path, whole, 10 * epoch, **settings) == 10


def test_it_trains_all_of_its_epochs_from_a_seed_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a network that this run did not train, settings are those of the repair, which may stop early."""
    made: Any = SimpleNamespace(architecture=SimpleNamespace(with_sizes=lambda sizes: None))
    repair = Distillation.model_validate({"patience": 1, "freeze": ["conv1"]})
    context: Any = SimpleNamespace(
        recipe=SimpleNamespace(seed=0),
        parent_network=lambda name: made,
        plan=SimpleNamespace(origin=lambda unit: SimpleNamespace(stage=None)),
    )
    pruned: Any = SimpleNamespace(parent="own", stage=SimpleNamespace(fits=lambda: iter([("repair", repair)])))
    monkeypatch.setattr(make, "unpruned_network", lambda architecture: network(2))
    monkeypatch.setattr(make, "replace", lambda given, **_: given)
    seeded = [make._dense(context, ShrinkStage(id="n", kind="shrink", from_="p", seed=s), pruned)[1] for s in (None, 5)]
    assert [settings.seed for settings in seeded] == [None, 5]
    assert [(each.epochs, each.patience, each.freeze) for each in map(make._whole, seeded, (7, 9))] == [
        (7, None, []),
        (9, None, []),
    ]


def test_the_class_list_of_an_embedding_student_counts(tmp_path: Path) -> None:
    names = tuple(map(str, range(40)))
    weight = torch.zeros(len(names), WIDTH).numpy()
    classes = ClassList(names, weight, torch.zeros(len(names)).numpy(), names, ("{}",))
    architecture: Any = SimpleNamespace(resolution=SIDE, preprocess=PREPROCESS)
    student, product = Network(network(WIDTH), architecture, classes), len(names) * WIDTH
    step = training_macs(student.model, SIDE) + 2 * product + HEAD  # forward, and backward to the embedding
    epoch = IMAGES * step + VALIDATION * (macs(student.model, SIDE) + product)
    assert epochs_of(tmp_path, student, 10 * epoch, losses={"embedding": 1}) == 10
