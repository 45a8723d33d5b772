from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from deployment.tiny_classifier import CONVOLUTIONS, LINEAR, PREPROCESS, images
from torch import nn

from compress.deployment import inductor
from compress.deployment.coverage import Coverage
from compress.deployment.export import export
from compress.deployment.runtimes import find_runtime, missing, require
from compress.utils.errors import CompressError

compiles = pytest.mark.skipif(bool(missing("inductor")), reason="there is no C++ compiler")


@pytest.fixture(scope="module")
def packages(variants: dict[str, nn.Module], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Packages by variant: three compilations of some eight seconds each."""
    root = tmp_path_factory.mktemp("inductor")
    return {name: export(model, root / name, ["inductor"], PREPROCESS)["inductor"] for name, model in variants.items()}


@pytest.mark.slow
@compiles
@pytest.mark.parametrize("variant", ["float", "int8"])
def test_inductor_answers_as_pytorch_does(
    variants: dict[str, nn.Module], packages: dict[str, Path], variant: str
) -> None:
    threads = torch.get_num_threads()
    run = find_runtime("inductor").load(packages[variant], threads + 1)
    for count in (1, 3, 16, 35, 1):
        with torch.no_grad():
            expected = variants[variant](images(count)).numpy()
        logits = run(images(count).numpy())
        assert logits.shape == (count, 5) and logits.dtype == np.float32
        assert np.abs(logits - expected).max() < (1e-5 if variant == "float" else 0.02)
    assert torch.get_num_threads() == threads


@pytest.mark.slow
@compiles
def test_answers_are_not_overwritten_by_the_next_run(packages: dict[str, Path]) -> None:
    run = find_runtime("inductor").load(packages["float"])
    first = run(images(2).numpy())
    kept = first.copy()
    run(images(2, seed=5).numpy())
    assert np.array_equal(first, kept)


@pytest.mark.slow
@compiles
def test_convolutions_are_counted_in_what_was_compiled(packages: dict[str, Path]) -> None:
    assert inductor.coverage(packages["float"]) == Coverage(0, 2, 0, CONVOLUTIONS + LINEAR)
    assert inductor.coverage(packages["int8"]) == Coverage(2, 2, CONVOLUTIONS + LINEAR, CONVOLUTIONS + LINEAR)


@pytest.mark.slow
@compiles
def test_a_package_is_one_file(packages: dict[str, Path]) -> None:
    for path in packages.values():
        assert sorted(file.name for file in path.parent.iterdir()) == ["model.pt2", "preprocess.json"]


@pytest.mark.slow
@compiles
@pytest.mark.parametrize("cut", [1, 200, 10**5, 10**8])
def test_a_truncated_file_is_one_clear_line(
    packages: dict[str, Path], cut: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(packages["float"].read_bytes()[:-cut])
    for read in (inductor.load, inductor.coverage):
        with pytest.raises(CompressError, match="inductor cannot read") as caught:
            read(path)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@compiles
def test_export_is_quiet_and_leaves_the_network_as_it_was(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inductor, "FIXED", (1,))
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    path = export(model, tmp_path / "artifacts", ["inductor"], PREPROCESS)["inductor"]
    with torch.no_grad():
        expected = model(images(3)).numpy()
    assert np.abs(inductor.load(path)(images(3).numpy()) - expected).max() < 1e-5
    assert inductor.coverage(path) == Coverage(0, 1, 0, 14 * 14 * 5 * 27)
    assert model.training and capfd.readouterr() == ("", "")
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_file_that_is_no_package_is_one_clear_line(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt2", "w") as package:
        package.writestr("readme.txt", "nothing")
    with pytest.raises(CompressError, match="it holds no compiled network"):
        inductor.load(tmp_path / "model.pt2")
    with pytest.raises(CompressError, match="inductor cannot read"):
        inductor.load(tmp_path / "absent.pt2")
    for text in ("{}", "{", "[1]"):
        with zipfile.ZipFile(tmp_path / "model.pt2", "w") as package:
            package.writestr("model/data/x.wrapper_metadata.json", text)
        with pytest.raises(CompressError, match=r"it is damaged, or of another PyTorch than \d.* \(") as caught:
            inductor.load(tmp_path / "model.pt2")
        assert "\n" not in str(caught.value)


def test_another_processor_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt2", "w") as package:
        package.writestr("model/data/x.wrapper_metadata.json", '{"AOTI_CPU_ISA": "AVX512 AVX512_VNNI"}')
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    with pytest.raises(CompressError, match="compiled for AVX512 AVX512_VNNI, which this processor lacks"):
        inductor.load(tmp_path / "model.pt2")


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inductor, "PROGRAMS", ("no-such-compiler",))
    with pytest.raises(CompressError, match="the runtime inductor needs no-such-compiler: a C\\+\\+ compiler"):
        require("inductor")


def test_what_cannot_be_exported_is_one_clear_line(tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise ValueError("not today\nnor tomorrow")

    if not missing("inductor"):
        with pytest.raises(CompressError, match="Broken cannot be compiled by inductor") as caught:
            export(Broken(), tmp_path, ["inductor"], PREPROCESS)
        assert "\n" not in str(caught.value)
