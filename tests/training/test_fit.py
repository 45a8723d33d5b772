"""Fits do what a plain training loop does, and resume with the same bits."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from lightning.pytorch.callbacks import Callback

from compress.data.prepared import Split
from compress.data.preprocess import Preprocess
from compress.data.views import render
from compress.models.teachers import LoadedTeacher
from compress.recipe.data import Views
from compress.recipe.fit import Distillation, Fit
from compress.recipe.schema import Trainer
from compress.training.callbacks import STEPS
from compress.training.embedding_shards import EmbeddedView
from compress.training.fit import fit
from compress.training.module import FitModule
from compress.training.teacher_signal import CachedTeacher, OnlineTeacher, TeacherSignal
from compress.utils.errors import CompressError, UsageError
from compress.utils.json_cache import seal

PREPROCESS = Preprocess(resolution=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), interpolation="bicubic")
FEATURES = 96  # of `test_resnet`


def colours(count: int, seed: int) -> Split:
    """Reddish and bluish noise: two classes that any network can learn."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    images = rng.integers(0, 128, (count, 3, 32, 32))
    images[np.arange(count), labels * 2] += 100
    return Split(images.astype(np.uint8), labels)


def fit_module(settings: Fit, teacher: TeacherSignal | None = None) -> FitModule:
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=2).eval()
    splits = [colours(64, 0)]
    return FitModule(network, PREPROCESS, splits, colours(32, 1), Views(), settings, teacher, seed=0, image_macs=1000)


def plain(epochs: int, **settings: Any) -> Fit:
    return Fit(epochs=epochs, batch=16, optimizer="adamw", lr=0.002, **settings)


CPU = Trainer(accelerator="cpu")


def test_batch_norm_tracks_the_statistics_of_the_images(tmp_path: Path) -> None:
    module = fit_module(plain(2))
    fitted = fit(module, CPU, tmp_path, "tiny")
    statistics = [b for name, b in module.network.named_buffers() if name.endswith("num_batches_tracked")]
    assert statistics and all(int(count) == fitted.steps == 8 for count in statistics)
    assert not module.network.training


def test_lost_steps_are_kept_by_a_fit_that_was_killed_after_its_last_epoch(tmp_path: Path) -> None:
    fit(fit_module(plain(1)), CPU, tmp_path, "tiny")
    (tmp_path / STEPS).write_text(seal({"steps": 4, "lost": 3}))
    assert fit(fit_module(plain(1)), CPU, tmp_path, "tiny").lost_images == 3 * 16


class Caching(torch.nn.Module):
    """Computes with what it cached of its weight in eval mode until it trains, as LeViT and TinyViT do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = torch.nn.Linear(3, 8), torch.nn.Linear(8, 2)
        self.cached: dict[str, torch.Tensor] = {}

    def train(self, mode: bool = True) -> Caching:
        if mode:
            self.cached = {}
        return super().train(mode)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        weight = self.layer.weight * 1.0
        if not self.training:
            weight = self.cached.setdefault("weight", weight)
        return self.head(torch.nn.functional.linear(images.mean((2, 3)), weight))  # type: ignore[no-any-return]


@pytest.mark.parametrize("ema", [None, 0.5])
def test_validation_uses_no_cache_of_earlier_weights(ema: float | None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, seen = Caching(), list[tuple[torch.Tensor, torch.Tensor]]()
    settings = plain(3, ema=ema)
    module = FitModule(
        network, PREPROCESS, [colours(64, 0)], colours(32, 1), Views(), settings, None, seed=0, image_macs=1
    )

    class Watch(Callback):
        def on_validation_end(self, *_: Any) -> None:
            judged: Any = network if module.ema is None else module.ema.module
            seen.append((judged.cached["weight"].clone(), judged.layer.weight.detach().clone()))

    fit(module, CPU, tmp_path, "tiny", Watch())
    assert len(seen) == 3 and all(torch.equal(cached, weight) for cached, weight in seen)
    assert not network.cached and not network.training


@pytest.mark.parametrize(("batch", "images"), [(1, 64), (16, 1)])
def test_batch_norm_with_one_image_is_refused_with_a_fix(batch: int, images: int, tmp_path: Path) -> None:
    module = fit_module(plain(1).model_copy(update={"batch": batch}))
    module = FitModule(
        module.network, PREPROCESS, [colours(images, 0)], colours(32, 1), Views(), module.settings, None, seed=0,
        image_macs=1,
    )  # fmt: skip
    with pytest.raises(UsageError, match=r"batch norm needs two or more images per device, .* set `batch` to 2"):
        fit(module, CPU, tmp_path, "tiny")


def test_a_single_image_trains_a_network_whose_batch_norms_are_frozen(tmp_path: Path) -> None:
    settings = plain(1, freeze=["*bn*", "conv1.*", "*downsample*"]).model_copy(update={"batch": 1})
    assert fit(fit_module(settings), CPU, tmp_path, "tiny").steps == 64


def test_a_seed_in_the_settings_changes_the_order_and_not_the_views(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from compress.training import module as under_test

    seen: list[tuple[list[int], int]] = []

    def watch(images: Any, index: torch.Tensor, view: int, seed: int, views: Views) -> torch.Tensor:
        seen.append((index.tolist(), seed))
        return render(images, index, view, seed, views)

    monkeypatch.setattr(under_test, "render", watch)
    for number, settings in enumerate((plain(1), plain(1, seed=0), plain(1, seed=7))):
        fit(fit_module(settings), CPU, tmp_path / str(number), "tiny")
    recipes, same, own = seen[:4], seen[4:8], seen[8:]
    assert recipes == same and [index for index, _ in own] != [index for index, _ in recipes]
    assert {seed for _, seed in own} == {0}


def test_student_overfits_a_separable_toy_set(tmp_path: Path) -> None:
    fitted = fit(fit_module(plain(6)), CPU, tmp_path, "tiny")
    assert fitted.curve[-1]["top1"] > 0.9


def test_embedding_loss_aligns_features_and_leaves_no_projection_behind(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(2, 6))
    file = tmp_path / "embeddings.npy"
    np.save(file, directions[np.arange(64) % 2].astype(np.float16))
    head = torch.nn.Linear(6, 2)
    settings = Distillation(**plain(6).model_dump(), views=1, losses={"ce": 0.01, "embedding": 1})
    module = fit_module(settings, CachedTeacher([EmbeddedView((file,))], head))
    names = set(module.network.state_dict())
    assert module.step_macs == 16 * (1000 + 3 * FEATURES * 6 + 6 * 2)
    fit(module, CPU, tmp_path / "work", "tiny")
    assert module.last_loss < 0.1  # 1 - cosine, of embeddings that the two colours tell apart
    assert set(module.network.state_dict()) == names
    assert not any(m._forward_pre_hooks for m in module.network.modules())


def weights_after_each_epoch(settings: Fit, work: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[FitModule, list[Any]]:
    """A fit, and the weights that it trained (not their average) at the end of each epoch."""
    module, seen = fit_module(settings), []
    original = FitModule.on_validation_epoch_end

    def watch(self: FitModule) -> None:
        seen.append({name: value.clone() for name, value in self.network.state_dict().items()})
        original(self)

    monkeypatch.setattr(FitModule, "on_validation_epoch_end", watch)
    fit(module, CPU, work, "tiny")
    return module, seen


def same(one: Any, other: Any) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_select_on_validation_keeps_the_best_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tops = iter([0.25, 0.75, 0.75, 0.5])
    monkeypatch.setattr(FitModule, "all_gather", lambda self, _: torch.tensor([1.0, 32 * next(tops)]))
    module, seen = weights_after_each_epoch(plain(4, select_on="validation"), tmp_path, monkeypatch)
    assert [point["top1"] for point in module.state.curve] == [0.25, 0.75, 0.75, 0.5]
    kept = module.network.state_dict()
    assert [same(kept, weights) for weights in seen] == [False, True, False, False]


def test_a_fit_stops_when_patience_runs_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tops = iter([0.25, 0.75, 0.75, 0.5, 0.5, 0.5])
    monkeypatch.setattr(FitModule, "all_gather", lambda self, _: torch.tensor([1.0, 32 * next(tops)]))
    fitted = fit(fit_module(plain(6, patience=2)), CPU, tmp_path, "tiny")
    assert len(fitted.curve) == 4 and fitted.steps == 16 and fitted.images == 256
    resumed = fit_module(plain(6, patience=2))  # killed before the network was stored: nothing is left to do
    assert fit(resumed, CPU, tmp_path, "tiny").curve == fitted.curve


def test_images_lost_to_interruptions_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compress.training.callbacks.NOTE_EVERY_S", -1.0)
    original, taken = FitModule.training_step, 0

    def dies(self: FitModule, *args: Any) -> torch.Tensor:
        nonlocal taken
        taken += 1
        if taken in (7, 11):  # after 4 + 2 steps, and again after 4 of the epoch that is done once more
            raise KeyError("killed")
        return original(self, *args)

    monkeypatch.setattr(FitModule, "training_step", dies)
    for _ in range(2):
        with pytest.raises(KeyError):
            fit(fit_module(plain(3)), CPU, tmp_path, "tiny")
    fitted = fit(fit_module(plain(3)), CPU, tmp_path, "tiny")
    assert fitted.steps == 12 and fitted.images == 12 * 16
    assert fitted.lost_images == (2 + 3) * 16, "two steps of the second epoch, then three of it"
    undisturbed = fit(fit_module(plain(3)), CPU, tmp_path / "other", "tiny")
    assert undisturbed.lost_images == 0 and undisturbed.curve == fitted.curve


def test_ema_weights_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[torch.Tensor] = []
    original = FitModule.on_train_batch_end

    def watch(self: FitModule, *args: Any) -> None:
        steps.append(self.network.state_dict()["fc.weight"].clone())
        original(self, *args)

    monkeypatch.setattr(FitModule, "on_train_batch_end", watch)
    module = fit_module(plain(2, ema=0.5))
    fit(module, CPU, tmp_path, "tiny")
    expected = steps[0]
    for count, current in enumerate(steps[1:], 1):
        decay = min(0.5, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * current
    assert len(steps) == 8
    assert torch.allclose(module.network.state_dict()["fc.weight"], expected, atol=1e-6)
    assert not torch.equal(steps[-1], expected)


def test_gradients_are_clipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []

    def note(self: FitModule, optimizer: torch.optim.Optimizer) -> None:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norms.append(float(torch.nn.utils.get_total_norm(gradients)))

    monkeypatch.setattr(FitModule, "on_before_zero_grad", note)
    fit(fit_module(plain(1, clip=0.01)), CPU, tmp_path, "tiny")
    assert norms[-1] > 0 and all(norm <= 0.0101 for norm in norms)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_student_learns_from_mixed_images(tmp_path: Path, kind: str) -> None:
    fitted = fit(fit_module(plain(6, mix={"kind": kind})), CPU, tmp_path, "tiny")
    assert fitted.curve[-1]["top1"] > 0.9


def teacher_of_colours(tmp_path: Path) -> tuple[LoadedTeacher, Path]:
    """A teacher whose embedding is the mean of each channel, and its embeddings of the first view of `colours`."""
    tower = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    tower.append(torch.nn.Linear(3, 3, bias=False))
    torch.nn.init.eye_(tower[2].weight)
    head = torch.nn.Linear(3, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[9.0, 0, -9], [-9, 0, 9]]))
    teacher = LoadedTeacher(tower.eval(), head, PREPROCESS)
    images = render(torch.from_numpy(colours(64, 0).images), torch.arange(64), 0, 0, Views())
    file = tmp_path / "view0.npy"
    with torch.no_grad():
        np.save(file, tower(PREPROCESS(images)).half().numpy())
    return teacher, file


def test_online_and_cached_teacher_train_the_same_student(tmp_path: Path) -> None:
    teacher, file = teacher_of_colours(tmp_path)
    settings = Distillation(**plain(2).model_dump(), views=1, losses={"ce": 1, "kd": 1, "embedding": 1})
    stored = fit_module(settings, CachedTeacher([EmbeddedView((file,))], teacher.head))
    live = fit_module(settings.model_copy(update={"teacher": "live"}), OnlineTeacher(teacher, teacher.head, 1))
    for module, work in ((stored, "stored"), (live, "live")):
        fit(module, CPU, tmp_path / work, "tiny")
    one, other = stored.network.state_dict(), live.network.state_dict()
    assert all(torch.allclose(one[name].float(), other[name].float(), atol=2e-3) for name in one)
    assert stored.state.curve == live.state.curve


def test_map_losses_train_the_student_and_not_the_teacher(tmp_path: Path) -> None:
    torch.manual_seed(5)
    tower = timm.create_model("test_resnet", num_classes=0).eval()
    head = torch.nn.Linear(FEATURES, 2)
    maps = {"student_layer": "layer2", "teacher_layer": "layer3"}
    settings = Distillation(
        **plain(2).model_dump(), views=1, teacher="live", losses={"ce": 1, "attention": maps, "hint": maps}
    )
    module = fit_module(settings, OnlineTeacher(LoadedTeacher(tower, head, PREPROCESS), head, 1))
    assert module.objective and module.objective.adapters["hint"].weight.shape == (192, 48, 1, 1)
    before = tower.state_dict()["layer1.0.conv1.weight"].clone()
    fit(module, CPU, tmp_path, "tiny")
    assert torch.equal(tower.state_dict()["layer1.0.conv1.weight"], before)
    assert not any(m._forward_hooks for m in [*tower.modules(), *module.network.modules()])
    wrong = Distillation(**{**settings.model_dump(), "losses": {"ce": 1, "hint": {**maps, "student_layer": "layer9"}}})
    with pytest.raises(UsageError, match=r"no layer 'layer9'; it has, among others, .*layer1"):
        fit_module(wrong, OnlineTeacher(LoadedTeacher(tower, head, PREPROCESS), head, 1))


def test_student_with_the_teachers_head_learns_without_labels(tmp_path: Path) -> None:
    teacher, file = teacher_of_colours(tmp_path)
    settings = Distillation(
        **plain(8).model_dump(), views=1, losses={"embedding": {"distance": "mse"}}, classifier="teacher"
    )
    module = fit_module(settings, CachedTeacher([EmbeddedView((file,))], teacher.head))
    fitted = fit(module, CPU, tmp_path / "work", "tiny")
    assert fitted.curve[-1]["top1"] > 0.9  # no loss reads labels
    assert module.network.get_submodule("fc").weight.shape == (2, FEATURES)


def test_a_student_whose_classifier_has_no_bias_cannot_get_that_of_the_teacher(tmp_path: Path) -> None:
    teacher, file = teacher_of_colours(tmp_path)
    settings = Distillation(**plain(1).model_dump(), views=1, losses={"embedding": 1}, classifier="teacher")
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2, bias=False))
    signal = CachedTeacher([EmbeddedView((file,))], teacher.head)
    data = colours(64, 0)
    with pytest.raises(UsageError, match=r"needs a bias in the student's classifier, and 2 has none; set `classifier:"):
        FitModule(network, PREPROCESS, [data], data, Views(), settings, signal, seed=0, image_macs=1)


@pytest.mark.slow
def test_a_compiled_network_gets_the_same_weights(tmp_path: Path) -> None:
    """Needs a C++ compiler."""
    settings = plain(1, ema=0.9)
    one = fit_module(settings)
    other = fit_module(settings.model_copy(update={"compile": True}))
    fit(one, CPU, tmp_path / "eager", "tiny")
    fit(other, CPU, tmp_path / "compiled", "tiny")
    pairs = zip(one.network.state_dict().items(), other.network.state_dict().items(), strict=True)
    assert all(a == b and torch.allclose(x.float(), y.float(), atol=1e-3) for (a, x), (b, y) in pairs)


def break_loss(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """Make the loss NaN in some steps, counted over all attempts."""
    original, taken = FitModule._loss, 0

    def loss(self: FitModule, *args: Any) -> torch.Tensor:
        nonlocal taken
        taken += 1
        found = original(self, *args)
        return found * math.nan if taken in steps else found

    monkeypatch.setattr(FitModule, "_loss", loss)


def test_a_nan_loss_stops_the_fit_and_names_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_loss(monkeypatch, 10)  # the second of the third epoch
    with pytest.raises(CompressError, match=r"the loss is nan in epoch 3 of 4 \(.*\): lower `lr` \(0.002\)") as stopped:
        fit(fit_module(plain(4)), CPU, tmp_path, "tiny")
    assert f"the checkpoint after epoch 2 is {tmp_path / 'last.ckpt'}" in str(stopped.value)
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert kept["epoch"] == 1 and all(torch.isfinite(value).all() for value in kept["state_dict"].values())


def test_weights_broken_by_the_last_step_of_an_epoch_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = FitModule.on_train_batch_end

    def spoil(self: FitModule, *args: Any) -> None:
        original(self, *args)
        if self.global_step == 8:
            with torch.no_grad():
                self.network.get_submodule("fc").weight.fill_(math.inf)

    monkeypatch.setattr(FitModule, "on_train_batch_end", spoil)
    with pytest.raises(CompressError, match=r"nan in epoch 2 of 4 \(the checkpoint after epoch 1 is "):
        fit(fit_module(plain(4)), CPU, tmp_path, "tiny")


def test_an_exploding_loss_stops_the_fit(tmp_path: Path) -> None:
    settings = Fit(epochs=3, batch=16, lr=1e4, warmup=0)
    with pytest.raises(CompressError, match=r"in epoch 1 of 3 \(no good checkpoint is left\): .*or set `clip: 1` or "):
        fit(fit_module(settings), CPU, tmp_path, "tiny")


@pytest.mark.parametrize(("step", "epoch"), [(6, 2), (2, 1)])
def test_on_divergence_lower_resumes_at_half_the_learning_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, epoch: int
) -> None:
    break_loss(monkeypatch, step)
    rates: list[float] = []
    watch_rates(monkeypatch, rates)
    module = fit_module(plain(2, schedule="constant", warmup=0, on_divergence="lower"))
    start = {name: value.clone() for name, value in module.network.state_dict().items()}
    fitted = fit(module, CPU, tmp_path, "tiny")
    assert fitted.diverged == ({"epoch": epoch, "loss": "nan"},)
    assert fitted.lost_images == 4 * 16, "the epoch was ended before its loss was read"
    assert fitted.steps == 8 and len(fitted.curve) == 2 and rates == [0.002] * 4 * epoch + [0.001] * 4 * (3 - epoch)
    assert not any(network._forward_hooks for network in module.network.modules())
    ended = module.network.state_dict()
    assert all(torch.isfinite(value).all() for value in ended.values()) and not same(ended, start)
    assert int(ended["bn1.num_batches_tracked"]) == 8, "the diverged epoch has left no trace"


def watch_rates(monkeypatch: pytest.MonkeyPatch, rates: list[float]) -> None:
    def watch(self: FitModule, *_: Any) -> None:
        rates.append(round(self.trainer.optimizers[0].param_groups[0]["lr"], 9))

    monkeypatch.setattr(FitModule, "on_train_batch_start", watch)


def test_a_killed_fit_remembers_that_it_diverged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = plain(3, on_divergence="lower")
    ends = []
    for name, killed_at in (("whole", None), ("killed", 14)):
        with monkeypatch.context() as patch:
            break_loss(patch, 6)  # back after 8 steps to the state after 4
            if killed_at:
                die_at(patch, killed_at)
                with pytest.raises(KeyError):
                    fit(fit_module(settings), CPU, tmp_path / name, "tiny")
        with monkeypatch.context() as patch:
            if not killed_at:
                break_loss(patch, 6)
            module = fit_module(settings)
            ends.append((fit(module, CPU, tmp_path / name, "tiny").diverged, module.network.state_dict()))
    assert ends[0][0] == ends[1][0] == ({"epoch": 2, "loss": "nan"},) and same(ends[0][1], ends[1][1])


def die_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    original, taken = FitModule.training_step, 0

    def dies(self: FitModule, *args: Any) -> torch.Tensor:
        nonlocal taken
        taken += 1
        if taken == step:
            raise KeyError("killed")
        return original(self, *args)

    monkeypatch.setattr(FitModule, "training_step", dies)


def test_a_fit_that_keeps_diverging_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_loss(monkeypatch, *range(100))
    with pytest.raises(
        CompressError, match=r"nan in epoch 1 of 2, after the learning rate was lowered 5 times \(.*\): lower `lr`"
    ):
        fit(fit_module(plain(2, on_divergence="lower")), CPU, tmp_path, "tiny")


def test_a_broken_checkpoint_is_not_resumed_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_loss(monkeypatch, 5)  # the first of the second epoch, whose weights are those after the first
    module = fit_module(plain(2, on_divergence="lower"))
    fitted = fit(module, CPU, tmp_path, "tiny")
    assert fitted.diverged == ({"epoch": 2, "loss": "nan"},) and fitted.steps == 8
    assert fitted.lost_images == 4 * 16, "the first epoch was taken again"
    assert int(module.network.state_dict()["bn1.num_batches_tracked"]) == 8
