"""The device of a recipe, what runs on it, and batches that fit into its memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pretended_cuda import CUDA, OnCuda, pretended_cuda
from pydantic import ValidationError
from torch import Tensor, nn
from torch.fx import symbolic_trace

from compress.cli.errors import report_error
from compress.data.prepared import Split
from compress.data.preprocess import Preprocess
from compress.measurement import batch_size, device
from compress.measurement.batch_size import BatchSize
from compress.measurement.device import CPU, choose_device, computes_half, device_of, exact_float32, on_device
from compress.measurement.predict import labelled_batches, predict_split
from compress.measurement.transfer import batches_on
from compress.models.factory import create_model
from compress.recipe.schema import Trainer
from compress.stages.context import BATCH, StageContext
from compress.utils.errors import UsageError
from compress.utils.machine_faults import is_machine_fault

PREPROCESS = Preprocess(8, (0.5, 0.4, 0.3), (0.25, 0.25, 0.2))
SPLIT = Split(np.random.default_rng(0).integers(0, 256, (7, 3, 10, 8), dtype=np.uint8), np.arange(7, dtype=np.int64))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets how many devices of each kind torch finds."""

    def has(**counts: int) -> None:
        monkeypatch.setattr(device, "_count", lambda kind: counts.get(kind, 0))

    return has


def chosen(**trainer: object) -> str:
    return str(choose_device(Trainer.model_validate(trainer)))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2)).eval()


class Small(nn.Module):
    """A network on a device with memory for two images; with more it raises `error`."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.register_buffer("placed", torch.zeros(1))
        self.error, self.batches = error, list[int]()

    def forward(self, pixels: Tensor) -> Tensor:
        self.batches.append(len(pixels))
        if len(pixels) > 2:
            raise self.error
        return pixels.mean((2, 3))


def test_auto_takes_the_first_gpu_and_else_the_cpu(machine: Callable[..., None]) -> None:
    machine()
    assert chosen() == "cpu"
    with pytest.raises(UsageError, match="finds no GPU device here"):
        chosen(accelerator="gpu")
    machine(mps=1, cuda=2)
    assert chosen() == chosen(accelerator="gpu") == chosen(accelerator="cuda") == "cuda:0"
    assert chosen(accelerator="mps") == "mps:0" and chosen(accelerator="cpu", devices=4) == "cpu"
    assert chosen(accelerator="cpu", devices="auto") == "cpu"
    assert chosen(devices=[1]) == "cuda:1" and chosen(devices="auto") == chosen(devices=-1) == "cuda:0"


@pytest.mark.parametrize(
    ("trainer", "words"),
    [
        ({"accelerator": "cuda"}, r"trainer.accelerator: torch .* finds no CUDA device here; set `accelerator: auto`"),
        ({"accelerator": "mps", "devices": "auto"}, "finds no MPS device here"),
        ({"accelerator": "xpu", "devices": 3}, "trainer.devices: 3 are requested, and torch finds 2 XPU devices here"),
        ({"devices": [2]}, r"trainer.devices: \[2\] are requested"),
    ],
)
def test_an_absent_device_is_one_line(machine: Callable[..., None], trainer: dict[str, object], words: str) -> None:
    machine(xpu=2)
    with pytest.raises(UsageError, match=words) as refused:
        chosen(**trainer)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("accelerator", ["auto", "cpu"])
@pytest.mark.parametrize(
    ("trainer", "words"),
    [
        ({"devices": [0]}, r"trainer\.devices: \[0\] are numbers of GPUs, and .*; set `devices: 1`"),
        ({"precision": "16-mixed"}, r"trainer\.precision: 16-mixed needs a GPU, and .*; set `precision: auto`"),
    ],
)
def test_what_only_a_gpu_has_is_refused_without_one(
    machine: Callable[..., None], accelerator: str, trainer: dict[str, object], words: str
) -> None:
    machine(cuda=1 if accelerator == "cpu" else 0)
    with pytest.raises(UsageError, match=words):
        chosen(accelerator=accelerator, **trainer)
    machine(cuda=1)
    assert chosen(**trainer) == "cuda:0"


@pytest.mark.parametrize("devices", [0, -2, [], [-1], "all"])
def test_devices_that_there_cannot_be_are_refused(devices: object) -> None:
    with pytest.raises(ValidationError):
        Trainer.model_validate({"devices": devices})


@pytest.mark.parametrize(
    ("trainer", "several", "least"),
    [
        ({}, False, 1),
        ({"devices": [1]}, False, 1),
        ({"devices": [0, 1]}, True, 2),
        ({"devices": 3, "num_nodes": 2}, True, 6),
        ({"devices": -1}, True, 1),
        ({"devices": "auto", "num_nodes": 2}, True, 2),
    ],
)
def test_one_gpu_that_is_named_is_one_process(trainer: dict[str, object], several: bool, least: int) -> None:
    section = Trainer.model_validate(trainer)
    assert (section.several_processes, section.least_processes) == (several, least)


def test_keys_of_fits_have_new_settings_only_where_they_are_set() -> None:
    """Fits of recipes that do not set them are not made again, on whatever device."""
    known = {"devices": 1, "num_nodes": 1, "precision": "32-true"}
    assert Trainer().key_settings() == Trainer(accelerator="cuda").key_settings() == known
    changed = Trainer(tf32=False, benchmark=True, deterministic=True).key_settings()
    assert changed == {**known, "tf32": False, "benchmark": True, "deterministic": True}


def test_logits_on_a_device_equal_those_of_the_cpu() -> None:
    model = network()
    expected = predict_split(model, PREPROCESS, SPLIT, 7)
    with pretended_cuda() as cuda, on_device(model, cuda):
        assert device_of(model) == CUDA
        np.testing.assert_array_equal(predict_split(model, PREPROCESS, SPLIT, 7), expected)
        np.testing.assert_allclose(predict_split(model, PREPROCESS, SPLIT, 2), expected, rtol=1e-5)
    assert device_of(model).type == "cpu" and not any(isinstance(value, OnCuda) for value in model.parameters())
    np.testing.assert_array_equal(predict_split(model, PREPROCESS, SPLIT, 7), expected)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet"])
def test_families_of_networks_name_no_device_of_their_own(name: str) -> None:
    torch.manual_seed(0)
    model = create_model("timm", name, 5, 160).eval()
    preprocess = Preprocess(160, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    expected = predict_split(model, preprocess, SPLIT, 4)
    with pretended_cuda() as cuda, on_device(model, cuda):
        np.testing.assert_array_equal(predict_split(model, preprocess, SPLIT, 4), expected)


def test_a_network_that_stays_on_the_cpu_is_noticed() -> None:
    """The test of the test: without the move, a CPU weight meets a CUDA image."""
    with pretended_cuda() as cuda:
        pixels, _ = next(labelled_batches(SPLIT, PREPROCESS, 4, device=cuda))
        with pytest.raises(RuntimeError, match="found at least two devices, cuda:0 and cpu"):
            network()(pixels)


def test_a_torch_without_onednn_computes_in_no_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS, where the operators that are asked do not exist."""
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    assert computes_half(torch.device("cpu")) == {"fp16": False, "bf16": False}


def test_batches_arrive_in_order_and_a_reader_that_fails_is_heard() -> None:
    arrays = [np.full((2, 3), number) for number in range(5)]

    def broken() -> Iterator[np.ndarray]:
        yield arrays[0]
        raise OSError("the disk is gone")

    with pretended_cuda() as cuda:
        arrived = list(batches_on(cuda, iter(arrays)))
        assert all(isinstance(batch, OnCuda) for batch in arrived)
        assert [int(batch.flatten()[0]) for batch in arrived] == [0, 1, 2, 3, 4]
        assert list(batches_on(cuda, iter([]))) == []
        with pytest.raises(OSError, match="the disk is gone"):
            list(batches_on(cuda, broken()))


def test_devices_that_a_graph_names_move_with_it() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

        def forward(self, pixels: Tensor) -> Tensor:
            return pixels.mean((2, 3)) * self.scale + torch.arange(3, device=torch.device("cpu"))

    graph, pixels = symbolic_trace(Positions()), torch.rand(2, 3, 4, 4)
    expected = graph(pixels)
    with pretended_cuda() as cuda:
        with on_device(graph, cuda):
            assert torch.equal(graph(pixels.to(cuda)).cpu(), expected)
        assert torch.equal(graph(pixels), expected)


def test_batches_are_halved_until_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(batch_size, "say", lines.append)

    model = Small(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"))
    with pretended_cuda() as cuda, on_device(model, cuda):
        size = BatchSize(8, "evaluation", cuda)
        logits = predict_split(model, PREPROCESS, SPLIT, size)
        assert predict_split(model, PREPROCESS, SPLIT, size).shape == (7, 3)
    np.testing.assert_allclose(logits, PREPROCESS(torch.from_numpy(SPLIT.images)).mean((2, 3)).numpy(), rtol=1e-5)
    assert lines == [f"  evaluation: out of memory; batches of {n} images from here on" for n in (4, 2)]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "not enough memory"),
        (RuntimeError("could not create a primitive"), "not enough memory"),
        (RuntimeError("can't start new thread"), "starts no further thread"),
    ],
)
def test_batches_on_a_cpu_are_never_halved(error: Exception, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Logits of another batch size would have other bits under the same key."""
    model = Small(error)
    with pytest.raises(type(error)) as raised:
        predict_split(model, PREPROCESS, SPLIT, 8)
    assert raised.value is error and model.batches == [7]
    assert report_error(error) == 1
    printed = capsys.readouterr().err
    assert line in printed and printed.count("\n") == 1 and is_machine_fault(error)


def test_a_thread_that_does_not_start_halves_no_batch() -> None:
    def work(images: int) -> None:
        raise RuntimeError("can't start new thread")

    size = BatchSize(8, "it", CUDA)
    with pytest.raises(RuntimeError, match="new thread"):
        size.fit(work)
    assert size.images == 8


def test_a_run_on_a_gpu_has_one_batch_size() -> None:
    """A sensitivity analysis, with an evaluation per layer, does not run out of memory for each of them."""
    data = SimpleNamespace(validation=SPLIT)
    plan: Any = SimpleNamespace(recipe=SimpleNamespace(trainer=Trainer(accelerator="cuda")))
    model = Small(torch.OutOfMemoryError("CUDA out of memory"))
    with pretended_cuda(), pytest.MonkeyPatch.context() as patch:
        context = StageContext(plan, None, data)  # type: ignore[arg-type]
        patch.setattr("compress.stages.context.rendered", lambda *_: (SPLIT, PREPROCESS))
        patch.setattr("compress.stages.context.GPU_BATCH", 8)
        for _ in range(3):
            assert context.logits(model, "validation", PREPROCESS).shape == (7, 3)
        assert context.batch_size(context.device).images == 2 and context.batch_size(CPU).images == BATCH
    assert model.batches == [7, 4] + [2, 2, 2, 1] * 3


def test_random_generators_of_other_gpus_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch warns where all of several GPUs are forked."""
    forked: list[list[torch.device]] = []
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: nullcontext(forked.append(devices)))
    for one in (torch.device("cuda", 1), torch.device("mps"), CPU):
        with device.forked_rng(one):
            pass
    assert forked == [[torch.device("cuda", 1)], [], []]


def test_a_single_image_that_does_not_fit_and_other_errors_are_raised() -> None:
    def fails(message: str) -> Callable[[int], None]:
        def work(_: int) -> None:
            raise RuntimeError(message)

        return work

    with pytest.raises(RuntimeError, match="out of memory"):
        BatchSize(1, "it", CUDA).fit(fails("CUDA out of memory"))
    with pytest.raises(RuntimeError, match="shapes"):
        BatchSize(8, "it", CUDA).fit(fails("shapes cannot be multiplied"))


def test_what_is_measured_on_cuda_is_exact_and_reproducible() -> None:
    def numerics() -> tuple[object, ...]:
        cudnn = torch.backends.cudnn
        return torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic

    before = numerics()
    with exact_float32(CUDA):
        assert numerics() == ("highest", False, False, True)
    assert numerics() == before
    with exact_float32(torch.device("cpu")):
        assert numerics() == before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_logits_of_the_cpu_twice_the_same() -> None:
    model = network()
    expected = predict_split(model, PREPROCESS, SPLIT, 7)
    with on_device(model, choose_device(Trainer(accelerator="cuda"))):
        first, again = (predict_split(model, PREPROCESS, SPLIT, 3) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(first, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_memory_that_runs_out_on_a_gpu_halves_the_batch() -> None:
    torch.cuda.empty_cache()
    size = BatchSize(2**12, "it", torch.device("cuda"))
    torch.cuda.set_per_process_memory_fraction(2**30 / torch.cuda.mem_get_info()[1])
    try:
        size.fit(lambda images: torch.empty(images, 2**20, device="cuda").fill_(1))  # 4 MiB an image, of 1 GiB
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert size.images in (128, 256)
