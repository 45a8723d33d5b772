"""`precision: auto`: formats are chosen by timings, which are kept, and recorded where they were used."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import photographs
from torch import nn
from training.test_fit import die_at, fit_module, plain, same

from compress.data.prepared import Split
from compress.data.preprocess import Preprocess
from compress.models.teachers import LoadedTeacher
from compress.pipeline.cost_model import estimate
from compress.pipeline.runner import run
from compress.recipe.data import Views
from compress.recipe.load import load_recipe, parse_recipe
from compress.recipe.schema import Trainer
from compress.stages.teacher_inputs import embeddings_identity
from compress.store.store import Store
from compress.training import formats
from compress.training.fit import fit
from compress.training.formats import Format, FormatChooser, candidates, choose_for_steps
from compress.training.teacher_cache import Embedder, embed_views
from compress.utils.json_cache import load_cache, save_cache

CPU = torch.device("cpu")
FP32, LAST, BF16 = Format(), Format(channels_last=True), Format("bf16-mixed")
AUTO = Trainer(accelerator="cpu", precision="auto")


def timer(**seconds: float) -> Callable[[Mapping[Format, Any]], dict[Format, float]]:
    """A timer that takes no time: `fp32`, `last`, `bf16` and `rest` are the seconds of its formats."""
    names = {FP32: "fp32", LAST: "last", BF16: "bf16"}
    return lambda passes: {one: seconds.get(names.get(one, "rest"), seconds.get("rest", 1.0)) for one in passes}


def never(passes: Mapping[Format, Any]) -> dict[Format, float]:
    pytest.fail("this was timed before")


@pytest.fixture
def bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that computes bf16."""
    monkeypatch.setattr(formats, "computes_half", lambda device: {"bf16": True})
    monkeypatch.setattr("compress.training.teacher_cache.computes_half", lambda device: {"bf16": True})


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    for module in ("formats", "teacher_cache"):
        monkeypatch.setattr(f"compress.training.{module}.say", lines.append)
    return lines


def chosen(chooser: FormatChooser, network: nn.Module | None = None) -> Format:
    return choose_for_steps(chooser, network or nn.Linear(2, 2), 32, 128, CPU, "student").format


def test_fp32_is_kept_unless_another_format_is_a_quarter_faster(bf16: None, printed: list[str]) -> None:
    assert chosen(FormatChooser(timer=timer(fp32=1.24, bf16=1.0, rest=2.0))) == FP32
    assert chosen(FormatChooser(timer=timer(fp32=1.9, bf16=1.0, rest=2.0))) == BF16
    assert chosen(FormatChooser(timer=timer(fp32=1.3, last=1.0, rest=2.0))) == LAST
    assert printed == [
        "  student at 32 pixels: FP32 with contiguous weights (bf16 with contiguous weights: 1.24x)",
        "  student at 32 pixels: bf16 with contiguous weights, 1.9x FP32",
        "  student at 32 pixels: FP32 with channels_last weights, 1.3x FP32 with contiguous weights",
    ]


@pytest.mark.parametrize(
    ("avx512", "amx", "onednn", "offered"),
    [(True, False, True, True), (False, True, True, True), (False, False, True, False), (True, True, False, False)],
)
def test_bf16_is_only_timed_where_the_processor_computes_it(
    monkeypatch: pytest.MonkeyPatch, avx512: bool, amx: bool, onednn: bool, offered: bool
) -> None:
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr("torch.ops.mkldnn._is_mkldnn_bf16_supported", lambda: onednn)
    assert candidates(CPU, FP32)[:2] == [FP32, LAST] and (BF16 in candidates(CPU, FP32)) == offered
    assert candidates(torch.device("mps"), FP32) == [FP32]
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (8 if offered else 7, 0))
    assert (
        candidates(torch.device("cuda"), LAST)[0] == LAST
        and (BF16 in candidates(torch.device("cuda"), LAST)) == offered
    )


def test_a_decision_is_kept_for_the_machine_and_the_network(tmp_path: Path, printed: list[str]) -> None:
    file = tmp_path / "speeds.json"
    save_cache(file, "networks", {"a": [1, 2, 0.5]})
    assert chosen(FormatChooser(file, timer(fp32=2.0, last=1.0))) == LAST
    assert chosen(FormatChooser(file, never)) == LAST and len(printed) == 1
    assert chosen(FormatChooser(file, timer(fp32=1.0, last=1.0)), nn.Linear(2, 3)) == FP32
    assert load_cache(file, "networks", "") == {"a": [1, 2, 0.5]}, "other timings stay"


def test_timing_on_a_cpu_leaves_gpus_alone(printed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.random._fork_rng_warned_already", False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chosen(FormatChooser(timer=timer(fp32=2.0, last=1.0)))


def test_a_format_that_fails_leaves_fp32(printed: list[str]) -> None:
    class Refuses(nn.Linear):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no such operator")

    assert chosen(FormatChooser(), Refuses(2, 2)) == FP32
    assert printed == ["  student at 32 pixels: FP32, as timing of formats failed: no such operator"]


def test_timing_changes_no_bit_of_a_fit(tmp_path: Path) -> None:
    """Passes that are timed have dropout, batch norm and gradients of their own."""
    plain_fit, auto = fit_module(plain(1)), fit_module(plain(1))
    fit(plain_fit, Trainer(accelerator="cpu"), tmp_path / "plain", "tiny")

    def fastest_first(passes: Mapping[Format, Any]) -> dict[Format, float]:
        formats.time_passes(passes)
        return timer(fp32=1.0)(passes)

    fitted = fit(auto, AUTO, tmp_path / "auto", "tiny", chooser=FormatChooser(timer=fastest_first))
    assert fitted.precision == "32-true, contiguous"
    assert same(plain_fit.network.state_dict(), auto.network.state_dict())


def test_a_killed_fit_resumes_in_the_format_that_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends, settings = [], plain(3, ema=0.9)
    for name, killed_at in (("whole", None), ("killed", 7)):
        chooser = FormatChooser(timer=timer(fp32=2.0, last=1.0))
        if killed_at:
            with monkeypatch.context() as patch:
                die_at(patch, killed_at)
                with pytest.raises(KeyError):
                    fit(fit_module(settings), AUTO, tmp_path / name, "tiny", chooser=chooser)
            chooser = FormatChooser(timer=never)
        module = fit_module(settings)
        assert fit(module, AUTO, tmp_path / name, "tiny", chooser=chooser).precision == "32-true, channels_last"
        assert module.network.get_submodule("conv1.0").weight.is_contiguous(memory_format=torch.channels_last)
        ends.append(module.network.state_dict())
    assert same(*ends)


def test_several_processes_train_in_fp32(tmp_path: Path) -> None:
    from compress.training.fit import _format

    trainer = Trainer(accelerator="cpu", devices=2, precision="auto")
    assert _format(fit_module(plain(1)), trainer, CPU, "tiny", None, FormatChooser(timer=never)) == FP32


class Rounding(nn.Sequential):
    """A tower whose embeddings in bf16 are off by `error`."""

    error = 0.0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        embeddings: torch.Tensor = super().forward(images).float()
        noise = torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(0))
        return embeddings + self.error * noise if torch.is_autocast_enabled("cpu") else embeddings


def embedder(root: Path, error: float, chooser: FormatChooser | None) -> Embedder:
    root.mkdir(exist_ok=True)
    torch.manual_seed(0)
    tower = Rounding(nn.Conv2d(3, 8, 4, stride=4), nn.Flatten(), nn.Linear(128, 6)).eval()
    tower.error = error
    teacher = LoadedTeacher(tower, nn.Identity(), Preprocess(resolution=16, mean=(0.5,) * 3, std=(0.25,) * 3))
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 16, 16)).astype(np.uint8)
    return Embedder(Store(root), lambda: teacher, [Split(images, None)], Views(), 0, 8, {"for": "test"}, chooser)


@pytest.mark.parametrize(("error", "expected"), [(0.0, "bf16-mixed, contiguous"), (0.5, "32-true, channels_last")])
def test_embeddings_are_in_bf16_only_if_they_agree(
    tmp_path: Path, bf16: None, printed: list[str], error: float, expected: str
) -> None:
    auto = embedder(tmp_path / "auto", error, FormatChooser(timer=timer(bf16=1.0, rest=2.0)))
    (file,), (exact,) = embed_views([auto], 1), embed_views([embedder(tmp_path / "fp32", error, None)], 1)
    assert str(auto.tower.format) == expected
    assert np.array_equal(file.all(), exact.all()) == (error > 0)
    assert np.allclose(file.all(), exact.all(), atol=0.05)
    refused = [line for line in printed if "stay in FP32" in line]
    assert bool(refused) == (error > 0)


def test_a_view_that_was_begun_in_another_format_starts_again(
    tmp_path: Path, bf16: None, printed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from compress.training import teacher_cache

    monkeypatch.setattr(teacher_cache, "BLOCK", 8)
    original, taken = teacher_cache.embed_rows, 0

    def dies(*args: Any) -> np.ndarray:
        nonlocal taken
        taken += 1
        if taken == 3:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(teacher_cache, "embed_rows", dies)
    with pytest.raises(KeyboardInterrupt):
        embed_views([embedder(tmp_path / "killed", 0.0, FormatChooser(timer=timer(bf16=1.0, rest=2.0)))], 1)
    (file,) = embed_views([embedder(tmp_path / "killed", 0.0, None)], 1)
    (exact,) = embed_views([embedder(tmp_path / "whole", 0.0, None)], 1)
    assert np.array_equal(file.all(), exact.all())


RECIPE = """\
name: tiny
data: {{source: image-folder, path: {root}/images, resolution: 32}}
trainer: {{accelerator: cpu, precision: {precision}}}
stages:
  - {{id: scratch, kind: train, student: test_resnet, epochs: 1, batch: 32}}
measure: {{batches: [1], rounds: 5, processes: 1, energy: off}}
worth: {{references: [scratch]}}
"""


def test_plan_and_run_time_a_network_once_and_results_have_its_format(
    tmp_path: Path, printed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for split, count in (("train", 16), ("test", 6)):
        photographs(tmp_path / "images" / split, count, seed=count)
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE.format(root=tmp_path, precision="auto"))
    monkeypatch.setattr(formats, "time_passes", timer(fp32=2.0, last=1.0))
    row, _ = estimate(load_recipe(recipe), tmp_path / "runs")
    assert row.seconds > 0
    done = run(load_recipe(recipe), tmp_path / "runs")
    assert done and done.record.variants[0].training.precision == "32-true, channels_last"
    assert [line.split(":")[0].strip() for line in printed] == [
        "student test_resnet at 32 pixels",
        "evaluation of scratch at 32 pixels",
    ]


def test_keys_have_the_setting_and_those_of_fp32_stay(tmp_path: Path) -> None:
    recipe = parse_recipe(RECIPE.format(root=tmp_path, precision="32-true"))
    auto = parse_recipe(RECIPE.format(root=tmp_path, precision="auto"))
    (stage,) = recipe.stages
    before = stage.key_settings(recipe)
    assert before["fit"] == {"devices": 1, "num_nodes": 1, "precision": "32-true"}
    assert stage.key_settings(auto) == {**before, "fit": {**before["fit"], "precision": "auto"}}
    images = Split(np.zeros((1, 3, 8, 8), np.uint8), None)
    data: Any = type("Data", (), {"key": "k", "train": images, **dict.fromkeys(("validation", "test", "unlabeled"))})
    fp32 = embeddings_identity(data, [images], {"weights": "w"})
    assert fp32 == embeddings_identity(data, [images], {"weights": "w"}, "bf16-mixed") and "computed" not in fp32
    assert embeddings_identity(data, [images], {"weights": "w"}, "auto") == {**fp32, "computed": "auto"}


def test_format_is_read_back_from_its_text() -> None:
    for one in (FP32, LAST, BF16, replace(BF16, channels_last=True), Format("16-mixed")):
        assert Format.parse(str(one)) == one
    with pytest.raises(KeyError):
        Format.parse("64-true, contiguous")
