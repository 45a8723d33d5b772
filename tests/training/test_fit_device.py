"""Fits on a GPU, as far as a machine without one can tell: a pretended device, its errors, and what is set for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pretended_cuda import OnCuda, pretended_cuda
from torch import Tensor, nn
from torch._inductor.exc import InductorError, InvalidCxxCompiler
from training.test_fit import CPU, PREPROCESS, colours, plain

from compress.measurement.device import CPU as ON_CPU
from compress.recipe.data import Views
from compress.recipe.schema import Trainer
from compress.training.accelerator import lightning_device
from compress.training.fit import fit
from compress.training.module import FitModule
from compress.utils.errors import CompressError, UsageError

CUDA = Trainer(accelerator="cuda")


class Means(nn.Module):
    """A classifier of mean colours, which notes what it computed with."""

    def __init__(self, failure: Exception | None = None) -> None:
        super().__init__()
        self.layer, self.failure = nn.Linear(3, 2), failure
        self.seen: set[tuple[bool, bool, str, bool]] = set()

    def forward(self, images: Tensor) -> Tensor:
        if self.failure and self.training:
            raise self.failure
        cudnn, exact = torch.backends.cudnn, torch.are_deterministic_algorithms_enabled()
        self.seen.add((exact, cudnn.benchmark, torch.get_float32_matmul_precision(), cudnn.allow_tf32))
        return self.layer(images.mean((2, 3)))  # type: ignore[no-any-return]


def fitted(trainer: Trainer, folder: Path, failure: Exception | None = None) -> Means:
    torch.manual_seed(0)
    network = Means(failure)
    splits = [colours(64, 0)], colours(32, 1)
    module = FitModule(network, PREPROCESS, *splits, Views(), plain(2, ema=0.5), None, seed=0, image_macs=1)
    fit(module, trainer, folder, "tiny")
    return network


def test_a_fit_on_a_device_gives_the_weights_of_the_cpu_and_ends_there(tmp_path: Path) -> None:
    expected = fitted(CPU, tmp_path / "cpu").layer.weight
    with pretended_cuda():
        made = fitted(CUDA, tmp_path / "cuda").layer.weight
    assert not isinstance(made, OnCuda) and made.device == ON_CPU
    torch.testing.assert_close(made, expected)


def test_a_step_that_does_not_fit_into_memory_says_what_to_lower(tmp_path: Path) -> None:
    message = "CUDA out of memory. Tried to allocate 20.00 GiB"
    with (
        pretended_cuda(),
        pytest.raises(
            CompressError, match=r"a step of 16 images does not fit .* cuda:0, pretended; lower `batch` \(16"
        ),
    ):
        fitted(CUDA, tmp_path / "cuda", torch.OutOfMemoryError(message))
    with pytest.raises(torch.OutOfMemoryError):  # of the machine's own memory; the command line has a line for it
        fitted(CPU, tmp_path / "cpu", torch.OutOfMemoryError(message))


def test_an_operator_that_is_not_deterministic_is_named(tmp_path: Path) -> None:
    failure = RuntimeError("put_ does not have a deterministic implementation, but you set a flag")
    with pytest.raises(CompressError, match=r"trainer.deterministic: put_ does not have .*; set it to false"):
        fitted(CPU.model_copy(update={"deterministic": True}), tmp_path, failure)
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_compiler_that_fails_is_one_line_that_names_compile(tmp_path: Path) -> None:
    def compiled(cause: Exception) -> None:
        module = FitModule(
            Means(InductorError(cause, None)),
            PREPROCESS,
            [colours(64, 0)],
            colours(32, 1),
            Views(),
            plain(1),
            None,
            seed=0,
            image_macs=1,
        )
        module.settings = module.settings.model_copy(update={"compile": True})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(nn.Module, "compile", lambda network: None)
            fit(module, CPU, tmp_path, "tiny")

    with pytest.raises(
        CompressError, match=r"^torch.compile fails here \(InvalidCxxCompiler: No .*; remove `compile: tr"
    ):
        compiled(InvalidCxxCompiler())
    with pytest.raises(InductorError):  # a full disk is told by the command line
        compiled(OSError(28, "No space left on device"))


@pytest.mark.parametrize(
    ("settings", "seen"),
    [
        ({}, (False, False, "high", True)),
        ({"tf32": False}, (False, False, "highest", False)),
        ({"deterministic": True, "benchmark": True}, (True, True, "high", True)),
    ],
)
def test_numerics_of_a_fit_are_those_of_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, bool], seen: tuple[object, ...]
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    assert fitted(CPU.model_copy(update=settings), tmp_path).seen == {seen}
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark) == before


def test_an_absent_device_is_refused_before_the_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compress.measurement.device._count", lambda kind: 0)
    with pytest.raises(UsageError, match="finds no CUDA device here"):
        fitted(CUDA, tmp_path)
    assert not list(tmp_path.iterdir())


def test_lightning_is_told_the_kind_of_device() -> None:
    assert lightning_device(torch.device("cuda", 1)) == {"accelerator": "cuda"}
    told = lightning_device(torch.device("xpu", 0))
    assert told["strategy"].root_device == torch.device("xpu", 0) and told["devices"] == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_deterministic_fits_on_a_gpu_give_the_same_bits(tmp_path: Path) -> None:
    trainer = CUDA.model_copy(update={"deterministic": True})
    first, again = (fitted(trainer, tmp_path / name).layer.weight for name in ("first", "again"))
    assert torch.equal(first, again)
    torch.testing.assert_close(first, fitted(CPU, tmp_path / "cpu").layer.weight, rtol=1e-3, atol=1e-4)
