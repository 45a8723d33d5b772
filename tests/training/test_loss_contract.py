"""Contract of every loss, those of the registry and one of a plugin: its metadata tell what it reads and trains."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from support import Job, environment
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from compress import plugins
from compress.data.prepared import Split
from compress.data.preprocess import Preprocess
from compress.models.teachers import LoadedTeacher
from compress.recipe.data import Views
from compress.recipe.fit import Distillation, distillation_problems, reads_features
from compress.recipe.loss import Loss, Maps, Step
from compress.recipe.losses import LOSS_TYPES
from compress.recipe.schema import Trainer
from compress.registry import LOSSES
from compress.training.embedding_shards import EmbeddedView
from compress.training.fit import fit
from compress.training.module import FitModule
from compress.training.teacher_signal import CachedTeacher, OnlineTeacher, TeacherSignal
from compress.utils.errors import UsageError

PLUGIN = "own.squared"
LAYERS = {"student_layer": "layer2", "teacher_layer": "layer3"}
SETTINGS: dict[str, dict[str, Any]] = {name: LAYERS if issubclass(t, Maps) else {} for name, t in LOSS_TYPES.items()}
SETTINGS |= {"crd": {"negatives": 8}, PLUGIN: {}}
WITHOUT_PAPER = {"ce"}
NOT_A_DISTANCE = {"ce", "crd"}  # which are not 0 for a student that agrees with the teacher
every_loss = pytest.mark.parametrize("name", [*LOSSES, PLUGIN])


@pytest.fixture(autouse=True)
def _plugin(no_plugins: None) -> None:
    @plugins.loss("squared")
    def squared(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Squared difference of logits."""
        return (student - teacher).square().mean()


def recipe(name: str, **settings: Any) -> Distillation:
    """A distillation with this loss alone."""
    losses = {"own": {"squared": {}}} if name == PLUGIN else {name: SETTINGS[name]}
    return Distillation.model_validate({"losses": losses, **settings})


def loss_of(name: str) -> Loss:
    return recipe(name).losses.named()[name]


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def full_step(images: int = 6, width: int = 4) -> Step:
    """A step with everything that any loss reads; the student's tensors take gradients."""
    return Step(
        logits=drawn(images, 3, seed=0).requires_grad_(),
        features=drawn(images, 5, seed=1).requires_grad_(),
        projected=drawn(images, width, seed=2).requires_grad_(),
        teacher_logits=drawn(images, 3, seed=3),
        teacher_embeddings=drawn(images, width, seed=4),
        labels=torch.arange(images) % 3,
        progress=0.5,
        sample_negatives=lambda count: drawn(count, width, seed=5),
        maps=(drawn(images, 2, 4, 4, seed=6).requires_grad_(), drawn(images, 2, 4, 4, seed=7)),
    )


def forbidden(count: int) -> Tensor:
    raise AssertionError("the loss draws negatives")


def declared_step(loss: Loss) -> Step:
    """The same with nothing in it that the metadata of the loss do not ask for."""
    step = full_step()
    return replace(
        step,
        features=step.features if loss.reads_features else torch.full((6, 5), torch.nan),
        projected=step.projected if loss.trains_projection else None,
        sample_negatives=step.sample_negatives if loss.cached_only else None,
        maps=step.maps if isinstance(loss, Maps) else None,
    )


@every_loss
def test_metadata_are_complete_and_consistent(name: str) -> None:
    loss = loss_of(name)
    assert loss.trains_classifier or loss.reads_features or isinstance(loss, Maps), "it trains something"
    assert loss.reads_features or not loss.trains_projection
    assert isinstance(loss, Maps) or not loss.trains_adapter
    assert not (loss.online_only and loss.cached_only)
    assert bool(loss.online_only) == isinstance(loss, Maps), "maps are not cached"
    if name in LOSSES:
        assert 10 < len(loss.about()) < 120
        assert bool(re.search(r"arXiv \d{4}\.\d{4,5}", loss.about())) == (name not in WITHOUT_PAPER)


@every_loss
def test_the_loss_reads_nothing_but_what_its_metadata_say(name: str) -> None:
    loss = loss_of(name)
    assert torch.equal(loss.compute(declared_step(loss)), loss.compute(full_step()))


@every_loss
def test_the_gradient_reaches_what_the_metadata_say(name: str) -> None:
    loss, step = loss_of(name), full_step()
    loss.compute(step).backward()
    assert step.projected is not None and step.maps is not None

    def reached(tensor: Tensor) -> bool:
        return tensor.grad is not None and bool(tensor.grad.any())

    assert reached(step.logits) == loss.trains_classifier
    assert reached(step.projected) == loss.trains_projection
    assert (reached(step.features) or reached(step.projected)) == loss.reads_features
    assert reached(step.maps[0]) == isinstance(loss, Maps)


@every_loss
def test_the_loss_is_a_scalar_mean_over_images(name: str) -> None:
    loss, step = loss_of(name), full_step()
    assert step.projected is not None and step.maps is not None
    twice = replace(
        step,
        **{
            key: getattr(step, key).repeat(2, 1)
            for key in ("logits", "features", "projected", "teacher_logits", "teacher_embeddings")
        },
        labels=step.labels.repeat(2),
        maps=(step.maps[0].repeat(2, 1, 1, 1), step.maps[1].repeat(2, 1, 1, 1)),
    )
    value = loss.compute(step)
    assert value.shape == () and value > 0
    assert torch.allclose(loss.compute(twice), value, rtol=1e-4), "each image twice"


def agreeing(step: Step) -> Step:
    """The student is the teacher."""
    assert step.maps is not None
    embeddings = step.teacher_embeddings
    maps = step.maps[1], step.maps[1]
    return replace(step, logits=step.teacher_logits, features=embeddings, projected=embeddings, maps=maps)


@every_loss
def test_a_student_that_agrees_with_the_teacher_has_no_loss(name: str) -> None:
    value = loss_of(name).compute(agreeing(full_step()))
    assert value.isfinite()
    assert (abs(float(value)) < 1e-5) == (name not in NOT_A_DISTANCE)


def to_half(step: Step, dtype: torch.dtype) -> Step:
    def cast(value: Any) -> Any:
        return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

    maps = step.maps and (cast(step.maps[0]), cast(step.maps[1]))
    return replace(step, **{key: cast(value) for key, value in vars(step).items() if key != "maps"}, maps=maps)


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_float32(name: str, dtype: torch.dtype) -> None:
    loss, step = loss_of(name), to_half(full_step(), dtype)
    value = loss.compute(step)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss.compute(step), value)
    assert value.dtype == torch.float32 and value.isfinite()


@every_loss
def test_a_batch_of_one_has_a_finite_loss(name: str) -> None:
    step = full_step(images=1)
    value = loss_of(name).compute(step)
    assert value.shape == () and value.isfinite()


@every_loss
def test_without_labels_a_loss_is_zero_only_if_it_needs_them(name: str) -> None:
    loss, step = loss_of(name), replace(full_step(), labels=torch.full((6,), -1))
    value = loss.compute(step)
    assert value.isfinite() and (float(value) == 0) == loss.needs_labels
    value.backward()


@every_loss
@pytest.mark.parametrize("teacher", ["stored", "live"])
def test_validation_refuses_the_teachers_that_a_loss_cannot_use(name: str, teacher: str) -> None:
    loss = loss_of(name)
    why = loss.online_only if teacher == "stored" else loss.cached_only
    other = "live" if teacher == "stored" else "stored"
    problems = [
        message for _, message in distillation_problems(recipe(name, teacher=teacher)) if "set `teacher" in message
    ]
    assert problems == ([f"`{name}` {why}; set `teacher: {other}`"] if why else [])


@every_loss
@pytest.mark.parametrize("classifier", ["own", "teacher"])
def test_validation_asks_for_a_loss_that_trains_the_classifier(name: str, classifier: str) -> None:
    loss = loss_of(name)
    trains = loss.trains_classifier or (classifier == "teacher" and loss.trains_projection)
    messages = [message for _, message in distillation_problems(recipe(name, classifier=classifier))]
    assert any("no loss trains the classifier" in message for message in messages) == (not trains)


@every_loss
def test_losses_that_read_inside_the_student_are_listed(name: str) -> None:
    loss = loss_of(name)
    assert reads_features(recipe(name)) == ([name] if loss.reads_features or isinstance(loss, Maps) else [])


PREPROCESS = Preprocess(resolution=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def images(count: int) -> Split:
    rng = np.random.default_rng(count)
    return Split(rng.integers(0, 256, (count, 3, 32, 32)).astype(np.uint8), np.arange(count) % 2)


def teachers(kind: str, folder: Path) -> tuple[TeacherSignal, nn.Module]:
    """A teacher, and the module with all of its weights."""
    torch.manual_seed(5)
    head = nn.Linear(64, 2)
    if kind == "stored":
        file = folder / "view0.npy"
        np.save(file, np.random.default_rng(0).normal(size=(32, 64)).astype(np.float16))
        return CachedTeacher([EmbeddedView((file,))], head), head
    tower = timm.create_model("test_resnet", num_classes=0).eval()
    with torch.no_grad():
        head = nn.Linear(tower(torch.zeros(1, 3, 32, 32)).shape[1], 2)
    return OnlineTeacher(LoadedTeacher(tower, head, PREPROCESS), head, 1), nn.ModuleList([tower, head])


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


ALLOWED = [
    (name, kind)
    for name in (*LOSSES, PLUGIN)
    for kind in ("stored", "live")
    if name == PLUGIN or not (LOSS_TYPES[name].online_only if kind == "stored" else LOSS_TYPES[name].cached_only)
]


@every_loss
def test_macs_are_those_of_its_products(name: str) -> None:
    def pairs(first: Any, second: Any, *_: Any, **__: Any) -> int:  # one product and sum per pair of images and number
        return 2 * first[0] * second[0] * first[1]

    aten, loss, step = torch.ops.aten, loss_of(name), full_step()
    distances = {
        aten._cdist_forward: pairs,
        aten._cdist_backward: lambda _, first, second, *rest, **more: pairs(first, second),
    }
    with FlopCounterMode(display=False, custom_mapping=distances) as counter:
        loss.compute(step).backward()
    assert step.projected is not None
    width, features = step.projected.shape[1], step.features.shape[1]
    assert loss.macs(len(step.logits), features, width) == counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("name", "count", "batch", "reason"),
    [
        ("crd", 16, 16, "all 16 train images are in each step, which leaves no negatives; lower `batch`"),
        ("rkd_distance", 3, 1, "it compares 2 images of a step, and a device has 1; raise `batch` to 2 per device"),
        ("rkd_angle", 4, 2, "it compares 3 images of a step, and a device has 2; raise `batch` to 3 per device"),
    ],
)
def test_a_loss_that_would_be_0_throughout_is_refused(
    name: str, count: int, batch: int, reason: str, tmp_path: Path
) -> None:
    settings = recipe(name, views=1, epochs=1, batch=batch, lr=0.01, classifier="own")
    teacher, _ = teachers("stored", tmp_path)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    module = FitModule(
        network, PREPROCESS, [images(count)], images(8), Views(), settings, teacher, seed=0, image_macs=1
    )
    with pytest.raises(UsageError, match=f"^losses: `{name}` would train nothing: {reason}$"):
        fit(module, Trainer(accelerator="cpu"), tmp_path / "fit", "tiny")


def test_negatives_are_all_images_outside_of_the_batch(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.arange(12, dtype=np.float16)[:, None])
    teacher = CachedTeacher([EmbeddedView((tmp_path / "rows.npy",))], nn.Identity())
    batch = torch.tensor([11, 0, 5, 6, 5])
    drawn = teacher.sample_negatives(batch, 500, 0, np.random.default_rng(0))
    assert drawn.shape == (500, 1) and set(drawn.flatten().tolist()) == {1, 2, 3, 4, 7, 8, 9, 10}


@pytest.mark.parametrize(("name", "kind"), ALLOWED)
def test_a_fit_trains_the_student_and_never_the_teacher(name: str, kind: str, tmp_path: Path) -> None:
    settings = recipe(name, teacher=kind, views=1, epochs=1, batch=16, lr=0.01, warmup=0)
    teacher, all_weights = teachers(kind, tmp_path)
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=2)
    student_before, teacher_before = weights(network), weights(all_weights)
    module = FitModule(network, PREPROCESS, [images(32)], images(8), Views(), settings, teacher, seed=0, image_macs=1)
    fit(module, Trainer(accelerator="cpu"), tmp_path / "fit", "tiny")
    loss = settings.losses.named()[name]
    classifier = {"fc.weight", "fc.bias"}
    moved = changed(student_before, weights(network))
    assert "layer1.0.conv1.weight" in moved and (classifier <= moved) == loss.trains_classifier
    assert not changed(teacher_before, weights(all_weights))
    assert not any(parameter.grad is not None for parameter in all_weights.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in [*network.modules(), *all_weights.modules()])


def test_recipes_are_read_without_torch() -> None:
    code = "import sys, compress.recipe.losses; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())


PLUGIN_FILE = '''
from compress.plugins import loss

@loss("toy")
def toy(student, teacher, labels, scale=1.0):
    """Squared difference of logits."""
    return ((student - teacher) / scale).square().mean()
'''
REGISTERED = """
from compress import registry
registry.LOSSES["toy"] = "toy_loss:Toy"
from compress.__main__ import main
main()
"""


TOY_RECIPE = """\
name: tiny
data: {{source: image-folder, path: {root}/images, resolution: 32}}
stages:
  - id: teacher
    kind: teacher
    teacher: {{source: timm, model: test_resnet, checkpoint: {root}/teacher.safetensors}}
  - {{id: distilled, kind: distill, from: teacher, student: test_resnet, epochs: 2, batch: 16, lr: 0.05, views: 2,
     losses: {losses}}}
measure: {{batches: [1], rounds: 5, processes: 1, energy: off}}
worth: {{references: [teacher]}}
"""


@pytest.mark.slow
def test_a_toy_loss_by_a_registry_line_and_by_a_plugin_trains_the_same_student(make_job: Callable[[], Job]) -> None:
    job = make_job()
    job.recipe.write_text(TOY_RECIPE.format(root=job.root, losses="{ce: 1, toy: {weight: 0.5, scale: 2.0}}"))
    command = [sys.executable, "-c", REGISTERED, *job.command("--no-dry-run")[3:]]
    path = f"{Path(__file__).parent}:{environment().get('PYTHONPATH', '')}"
    done = subprocess.run(command, capture_output=True, text=True, env=environment() | {"PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    by_line = job.results()["variants"][-1]

    plugin = job.root / "toy_plugin.py"
    plugin.write_text(PLUGIN_FILE)
    losses = "{ce: 1, own: {toy: {weight: 0.5, options: {scale: 2.0}}}}"
    job.recipe.write_text(TOY_RECIPE.format(root=job.root, losses=losses))
    refused = job.run_here()
    assert refused.returncode == 2 and "unknown plugin loss 'toy'" in refused.stderr
    done = job.run_here("--plugin", str(plugin))
    assert done.returncode == 0, done.stderr
    by_plugin = job.results()["variants"][-1]
    assert by_line["stage_key"] != by_plugin["stage_key"]
    assert by_line["training"]["curve"] == by_plugin["training"]["curve"]
    assert by_line["accuracy"]["top1"] == by_plugin["accuracy"]["top1"]
