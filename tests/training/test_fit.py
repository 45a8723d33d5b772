"""Fitting does what a plain training loop does."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from compress.data.prepared import Split
from compress.data.preprocess import Preprocess
from compress.data.views import render
from compress.models.teachers import LoadedTeacher
from compress.recipe.data import Views
from compress.recipe.fit import Distillation, Fit
from compress.recipe.schema import Trainer
from compress.training.fit import fit
from compress.training.module import Fitting
from compress.training.teacher_signal import CachedTeacher, OnlineTeacher, TeacherSignal
from compress.utils.errors import CompressError, UsageError

PREPROCESS = Preprocess(resolution=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), interpolation="bicubic")


def colours(count: int, seed: int) -> Split:
    """Reddish and bluish noise: two classes that any network can learn."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    images = rng.integers(0, 128, (count, 3, 32, 32))
    images[np.arange(count), labels * 2] += 100
    return Split(images.astype(np.uint8), labels)


def fitting(settings: Fit, answers: TeacherSignal | None = None) -> Fitting:
    torch.manual_seed(0)
    network = timm.create_model("resnet10t", num_classes=2).eval()
    splits = [colours(64, 0)]
    return Fitting(network, PREPROCESS, splits, colours(32, 1), Views(), settings, answers, seed=0, image_macs=1000)


def plain(epochs: int, **settings: Any) -> Fit:
    return Fit(epochs=epochs, batch=16, optimizer="adamw", lr=0.002, **settings)


CPU = Trainer(accelerator="cpu")


def test_batch_normalisation_learns_the_statistics_of_the_images(tmp_path: Path) -> None:
    module = fitting(plain(2))
    fitted = fit(module, CPU, tmp_path, "tiny")
    statistics = [b for name, b in module.network.named_buffers() if name.endswith("num_batches_tracked")]
    assert statistics and all(int(count) == fitted.steps == 8 for count in statistics)
    assert not module.network.training


def test_a_seed_of_its_own_changes_the_order_and_not_the_views(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from compress.training import module as under_test

    seen: list[tuple[list[int], int]] = []

    def watch(images: Any, index: torch.Tensor, view: int, seed: int, views: Views) -> torch.Tensor:
        seen.append((index.tolist(), seed))
        return render(images, index, view, seed, views)

    monkeypatch.setattr(under_test, "render", watch)
    for number, settings in enumerate((plain(1), plain(1, seed=0), plain(1, seed=7))):
        fit(fitting(settings), CPU, tmp_path / str(number), "tiny")
    recipes, same, own = seen[:4], seen[4:8], seen[8:]
    assert recipes == same and [index for index, _ in own] != [index for index, _ in recipes]
    assert {seed for _, seed in own} == {0}


def test_what_can_be_learnt_is_learnt(tmp_path: Path) -> None:
    fitted = fit(fitting(plain(6)), CPU, tmp_path, "tiny")
    assert fitted.curve[-1]["top1"] > 0.9


def test_features_turn_towards_the_embeddings_and_the_projection_stays_behind(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(2, 6))
    file = tmp_path / "embeddings.npy"
    np.save(file, directions[np.arange(64) % 2].astype(np.float16))
    head = torch.nn.Linear(6, 2)
    settings = Distillation(**plain(6).model_dump(), views=1, losses={"ce": 0.01, "embedding": 1})
    module = fitting(settings, CachedTeacher([file], head))
    names = set(module.network.state_dict())
    assert module.step_macs == 16 * (1000 + 3 * 512 * 6)
    fit(module, CPU, tmp_path / "work", "tiny")
    assert module.last_loss < 0.1  # 1 - cosine, of embeddings that the two colours tell apart
    assert set(module.network.state_dict()) == names
    assert not any(m._forward_pre_hooks for m in module.network.modules())


def weights_after_each_epoch(settings: Fit, work: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Fitting, list[Any]]:
    """A fit, and the weights that it trained (not their average) at the end of each epoch."""
    module, seen = fitting(settings), []
    original = Fitting.on_validation_epoch_end

    def watch(self: Fitting) -> None:
        seen.append({name: value.clone() for name, value in self.network.state_dict().items()})
        original(self)

    monkeypatch.setattr(Fitting, "on_validation_epoch_end", watch)
    fit(module, CPU, work, "tiny")
    return module, seen


def same(one: Any, other: Any) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_the_best_epoch_on_validation_is_kept_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tops = iter([0.25, 0.75, 0.75, 0.5])
    monkeypatch.setattr(Fitting, "all_gather", lambda self, _: torch.tensor([1.0, next(tops)]))
    module, seen = weights_after_each_epoch(plain(4, select_on="validation"), tmp_path, monkeypatch)
    assert [point["top1"] for point in module.curve] == [0.25, 0.75, 0.75, 0.5]
    kept = module.network.state_dict()
    assert [same(kept, weights) for weights in seen] == [False, True, False, False]


def test_without_patience_left_the_fit_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tops = iter([0.25, 0.75, 0.75, 0.5, 0.5, 0.5])
    monkeypatch.setattr(Fitting, "all_gather", lambda self, _: torch.tensor([1.0, next(tops)]))
    fitted = fit(fitting(plain(6, patience=2)), CPU, tmp_path, "tiny")
    assert len(fitted.curve) == 4 and fitted.steps == 16 and fitted.images == 256
    resumed = fitting(plain(6, patience=2))  # killed before the network was stored: nothing is left to do
    assert fit(resumed, CPU, tmp_path, "tiny").curve == fitted.curve


def test_what_an_interruption_has_cost_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compress.training.fit.NOTE_EVERY_S", -1.0)
    original, taken = Fitting.training_step, 0

    def dies(self: Fitting, *args: Any) -> torch.Tensor:
        nonlocal taken
        taken += 1
        if taken in (7, 11):  # after 4 + 2 steps, and again after 4 of the epoch that is done once more
            raise KeyError("killed")
        return original(self, *args)

    monkeypatch.setattr(Fitting, "training_step", dies)
    for _ in range(2):
        with pytest.raises(KeyError):
            fit(fitting(plain(3)), CPU, tmp_path, "tiny")
    fitted = fit(fitting(plain(3)), CPU, tmp_path, "tiny")
    assert fitted.steps == 12 and fitted.images == 12 * 16
    assert fitted.lost == (2 + 3) * 16, "two steps of the second epoch, then three of it"
    undisturbed = fit(fitting(plain(3)), CPU, tmp_path / "other", "tiny")
    assert undisturbed.lost == 0 and undisturbed.curve == fitted.curve


def test_the_moving_average_of_the_weights_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[torch.Tensor] = []
    original = Fitting.on_train_batch_end

    def watch(self: Fitting, *args: Any) -> None:
        steps.append(self.network.state_dict()["fc.weight"].clone())
        original(self, *args)

    monkeypatch.setattr(Fitting, "on_train_batch_end", watch)
    module = fitting(plain(2, ema=0.5))
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

    def note(self: Fitting, optimizer: torch.optim.Optimizer) -> None:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norms.append(float(torch.nn.utils.get_total_norm(gradients)))

    monkeypatch.setattr(Fitting, "on_before_zero_grad", note)
    fit(fitting(plain(1, clip=0.01)), CPU, tmp_path, "tiny")
    assert norms[-1] > 0 and all(norm <= 0.0101 for norm in norms)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixed_images_are_learnt_from(tmp_path: Path, kind: str) -> None:
    fitted = fit(fitting(plain(6, mix={"kind": kind})), CPU, tmp_path, "tiny")
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


def test_a_live_teacher_says_what_is_stored(tmp_path: Path) -> None:
    teacher, file = teacher_of_colours(tmp_path)
    settings = Distillation(**plain(2).model_dump(), views=1, losses={"ce": 1, "kd": 1, "embedding": 1})
    stored = fitting(settings, CachedTeacher([file], teacher.head))
    live = fitting(settings.model_copy(update={"teacher": "live"}), OnlineTeacher(teacher, teacher.head, 1))
    for module, work in ((stored, "stored"), (live, "live")):
        fit(module, CPU, tmp_path / work, "tiny")
    one, other = stored.network.state_dict(), live.network.state_dict()
    assert all(torch.allclose(one[name].float(), other[name].float(), atol=2e-3) for name in one)
    assert stored.curve == live.curve


def test_feature_maps_of_a_live_teacher_are_compared(tmp_path: Path) -> None:
    torch.manual_seed(5)
    tower = timm.create_model("resnet10t", num_classes=0).eval()
    head = torch.nn.Linear(512, 2)
    maps = {"student_layer": "layer2", "teacher_layer": "layer3"}
    settings = Distillation(
        **plain(2).model_dump(), views=1, teacher="live", losses={"ce": 1, "attention": maps, "hint": maps}
    )
    module = fitting(settings, OnlineTeacher(LoadedTeacher(tower, head, PREPROCESS), head, 1))
    assert module.objective and module.objective.adapter and module.objective.adapter.weight.shape == (256, 128, 1, 1)
    before = tower.state_dict()["layer1.0.conv1.weight"].clone()
    fit(module, CPU, tmp_path, "tiny")
    assert torch.equal(tower.state_dict()["layer1.0.conv1.weight"], before)
    assert not any(m._forward_hooks for m in [*tower.modules(), *module.network.modules()])
    wrong = Distillation(**{**settings.model_dump(), "losses": {"ce": 1, "hint": {**maps, "student_layer": "layer9"}}})
    with pytest.raises(UsageError, match=r"no layer 'layer9'; it has, among others, .*layer1"):
        fitting(wrong, OnlineTeacher(LoadedTeacher(tower, head, PREPROCESS), head, 1))


def test_a_student_that_is_read_by_the_teachers_head(tmp_path: Path) -> None:
    teacher, file = teacher_of_colours(tmp_path)
    settings = Distillation(
        **plain(8).model_dump(), views=1, losses={"embedding": {"distance": "mse"}}, classifier="teacher"
    )
    module = fitting(settings, CachedTeacher([file], teacher.head))
    fitted = fit(module, CPU, tmp_path / "work", "tiny")
    assert fitted.curve[-1]["top1"] > 0.9  # labels were not looked at
    assert module.network.get_submodule("fc").weight.shape == (2, 512)


@pytest.mark.slow
def test_a_compiled_network_is_fitted_alike(tmp_path: Path) -> None:
    """Needs a C++ compiler."""
    settings = plain(1, ema=0.9)
    one = fitting(settings)
    other = fitting(settings.model_copy(update={"compile": True}))
    fit(one, CPU, tmp_path / "eager", "tiny")
    fit(other, CPU, tmp_path / "compiled", "tiny")
    pairs = zip(one.network.state_dict().items(), other.network.state_dict().items(), strict=True)
    assert all(a == b and torch.allclose(x.float(), y.float(), atol=1e-3) for (a, x), (b, y) in pairs)


def spoilt(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """Makes the loss of some steps, as they are counted over all attempts, no number."""
    original, taken = Fitting._loss, 0

    def loss(self: Fitting, *args: Any) -> torch.Tensor:
        nonlocal taken
        taken += 1
        found = original(self, *args)
        return found * math.nan if taken in steps else found

    monkeypatch.setattr(Fitting, "_loss", loss)


def test_a_loss_that_is_no_number_stops_the_fit_and_names_the_last_good_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt(monkeypatch, 10)  # the second of the third epoch
    with pytest.raises(CompressError, match=r"the loss is nan in epoch 3 of 4: lower `lr` \(0.002\)") as stopped:
        fit(fitting(plain(4)), CPU, tmp_path, "tiny")
    assert f"the state after epoch 2 is kept in {tmp_path / 'last.ckpt'}" in str(stopped.value)
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert kept["epoch"] == 1 and all(torch.isfinite(value).all() for value in kept["state_dict"].values())


def test_weights_that_the_last_step_of_an_epoch_spoils_are_no_good_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Fitting.on_train_batch_end

    def spoil(self: Fitting, *args: Any) -> None:
        original(self, *args)
        if self.global_step == 8:
            with torch.no_grad():
                self.network.get_submodule("fc").weight.fill_(math.inf)

    monkeypatch.setattr(Fitting, "on_train_batch_end", spoil)
    with pytest.raises(CompressError, match=r"nan in epoch 2 of 4: .*after epoch 1 is kept"):
        fit(fitting(plain(4)), CPU, tmp_path, "tiny")


def test_a_loss_that_explodes_stops_the_fit(tmp_path: Path) -> None:
    settings = Fit(epochs=3, batch=16, lr=1e4, warmup=0)
    with pytest.raises(CompressError, match=r"in epoch 1 of 3: .*or set `clip: 1` or .*; no good state is left"):
        fit(fitting(settings), CPU, tmp_path, "tiny")


@pytest.mark.parametrize(("step", "epoch"), [(6, 2), (2, 1)])
def test_a_fit_that_diverges_goes_back_and_on_at_half_the_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, epoch: int
) -> None:
    spoilt(monkeypatch, step)
    rates: list[float] = []
    watch_rates(monkeypatch, rates)
    module = fitting(plain(2, schedule="constant", warmup=0, on_divergence="lower"))
    start = {name: value.clone() for name, value in module.network.state_dict().items()}
    fitted = fit(module, CPU, tmp_path, "tiny")
    assert fitted.diverged == ({"epoch": epoch, "loss": "nan"},)
    assert fitted.lost == 4 * 16, "the epoch was ended before its loss was read"
    assert fitted.steps == 8 and len(fitted.curve) == 2 and rates == [0.002] * 4 * epoch + [0.001] * 4 * (3 - epoch)
    assert not any(network._forward_hooks for network in module.network.modules())
    ended = module.network.state_dict()
    assert all(torch.isfinite(value).all() for value in ended.values()) and not same(ended, start)
    assert int(ended["bn1.num_batches_tracked"]) == 8, "what was gone back from has left no trace"


def watch_rates(monkeypatch: pytest.MonkeyPatch, rates: list[float]) -> None:
    def watch(self: Fitting, *_: Any) -> None:
        rates.append(round(self.trainer.optimizers[0].param_groups[0]["lr"], 9))

    monkeypatch.setattr(Fitting, "on_train_batch_start", watch)


def test_a_killed_fit_remembers_that_it_went_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = plain(3, on_divergence="lower")
    ends = []
    for name, killed_at in (("whole", None), ("killed", 14)):
        with monkeypatch.context() as patch:
            spoilt(patch, 6)  # back after 8 steps to the state after 4
            if killed_at:
                die_at(patch, killed_at)
                with pytest.raises(KeyError):
                    fit(fitting(settings), CPU, tmp_path / name, "tiny")
        with monkeypatch.context() as patch:
            if not killed_at:
                spoilt(patch, 6)
            module = fitting(settings)
            ends.append((fit(module, CPU, tmp_path / name, "tiny").diverged, module.network.state_dict()))
    assert ends[0][0] == ends[1][0] == ({"epoch": 2, "loss": "nan"},) and same(ends[0][1], ends[1][1])


def die_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    original, taken = Fitting.training_step, 0

    def dies(self: Fitting, *args: Any) -> torch.Tensor:
        nonlocal taken
        taken += 1
        if taken == step:
            raise KeyError("killed")
        return original(self, *args)

    monkeypatch.setattr(Fitting, "training_step", dies)


def test_going_back_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoilt(monkeypatch, *range(100))
    with pytest.raises(CompressError, match=r"nan in epoch 1 of 2, and at a rate lowered 5 times still: lower `lr`"):
        fit(fitting(plain(2, on_divergence="lower")), CPU, tmp_path, "tiny")


def test_a_state_that_is_spoilt_itself_is_not_gone_back_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoilt(monkeypatch, 5)  # the first of the second epoch, whose weights are those after the first
    module = fitting(plain(2, on_divergence="lower"))
    fitted = fit(module, CPU, tmp_path, "tiny")
    assert fitted.diverged == ({"epoch": 2, "loss": "nan"},) and fitted.steps == 8
    assert fitted.lost == 4 * 16, "the first epoch was taken again"
    assert int(module.network.state_dict()["bn1.num_batches_tracked"]) == 8
