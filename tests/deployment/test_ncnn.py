from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from deployment.tiny_classifier import CONVOLUTIONS, LINEAR, PREPROCESS, images, network
from torch import nn

from compress.deployment import ncnn
from compress.deployment.artifact import load_artifact
from compress.deployment.coverage import Coverage
from compress.deployment.export import artifact_bytes, export
from compress.deployment.runtimes import find_runtime
from compress.measurement.memory import peak_memory
from compress.utils.errors import CompressError, UsageError

pytest.importorskip("ncnn")
pytest.importorskip("pnnx")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(network(), tmp_path_factory.mktemp("ncnn"), ["ncnn"], PREPROCESS)["ncnn"]


@pytest.mark.parametrize("threads", [1, None])
def test_ncnn_answers_as_pytorch_does(artifact: Path, threads: int | None) -> None:
    run = find_runtime("ncnn").load(artifact, threads)
    for count in (1, 3, 16, 1):
        with torch.no_grad():
            expected = network()(images(count)).numpy()
        logits = run(images(count).numpy())
        assert logits.shape == (count, 5) and logits.dtype == np.float32
        assert np.abs(logits - expected).max() < 1e-5


def test_sides_that_fill_no_row_of_registers(tmp_path: Path) -> None:
    path = export(network(), tmp_path, ["ncnn"], {**PREPROCESS, "resolution": 13})["ncnn"]
    batch = images(3)[:, :, :13, :13]
    with torch.no_grad():
        expected = network()(batch).numpy()
    assert np.abs(find_runtime("ncnn").load(path)(batch.numpy()) - expected).max() < 1e-5


def test_a_network_that_takes_no_batch_goes_image_by_image(tmp_path: Path) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.scale = network(), nn.Parameter(torch.randn(1, 3, 1, 1))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.body(images * self.scale)  # type: ignore[no-any-return]

    model = Scaled().eval()
    run = find_runtime("ncnn").load(export(model, tmp_path, ["ncnn"], PREPROCESS)["ncnn"])
    for count in (3, 1, 3):
        with torch.no_grad():
            expected = model(images(count)).numpy()
        assert np.abs(run(images(count).numpy()) - expected).max() < 1e-5


def test_answers_are_not_overwritten_by_the_next_run(artifact: Path) -> None:
    run = find_runtime("ncnn").load(artifact)
    first = run(images(2).numpy())
    kept = first.copy()
    run(images(2, seed=5).numpy())
    assert np.array_equal(first, kept)


def test_an_artifact_is_a_graph_its_weights_and_nothing_of_this_machine(artifact: Path, tmp_path: Path) -> None:
    names = ["model.ncnn.bin", "model.ncnn.param", "preprocess.json"]
    assert sorted(file.name for file in artifact.parent.iterdir()) == names
    assert artifact_bytes(artifact) == artifact.stat().st_size + artifact.with_suffix(".bin").stat().st_size
    assert artifact.with_suffix(".bin").stat().st_size > 4 * (3 * 16 * 9 + 16 * 16 * 9)  # four bytes a weight, not two
    assert b"/" not in artifact.read_bytes()
    again = export(network(), tmp_path, ["ncnn"], PREPROCESS)["ncnn"]
    for name in names:
        assert (again.parent / name).read_bytes() == (artifact.parent / name).read_bytes()


def test_convolutions_are_counted_in_the_graph(artifact: Path) -> None:
    assert find_runtime("ncnn").coverage(artifact) == Coverage(0, 2, 0, CONVOLUTIONS + LINEAR)


@pytest.mark.parametrize("suffix", [".param", ".bin"])
@pytest.mark.parametrize("cut", [1, 200, 10**6])
def test_a_truncated_file_is_one_clear_line(
    artifact: Path, suffix: str, cut: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(artifact.parent, tmp_path / "copy")
    path = tmp_path / "copy" / artifact.name
    broken = path.with_suffix(suffix)
    broken.write_bytes(broken.read_bytes()[:-cut])
    with pytest.raises(CompressError, match="ncnn cannot read") as caught:
        find_runtime("ncnn").load(path)
    assert "\n" not in str(caught.value) and capfd.readouterr() == ("", "")


def test_a_graph_whose_ends_have_other_names_is_one_clear_line(artifact: Path, tmp_path: Path) -> None:
    shutil.copytree(artifact.parent, tmp_path / "copy")
    path = tmp_path / "copy" / artifact.name
    path.write_text(artifact.read_text().replace("out0", "prob"))
    with pytest.raises(
        CompressError, match=r"cannot read .*: its ends are not called in0 and out0, as PNNX calls them"
    ):
        load_artifact(path)


def test_images_that_ncnn_does_not_take_are_named(artifact: Path, tmp_path: Path) -> None:
    run = find_runtime("ncnn").load(artifact)
    with pytest.raises(CompressError, match=r"ncnn\.param takes images of shape \[3, 16, 16\], not \[3, 8, 16\]"):
        run(images(2).numpy()[:, :, :8])
    for name in ("param", "bin"):
        shutil.copy(artifact.with_suffix(f".{name}"), tmp_path)
    graph = tmp_path / artifact.name
    graph.write_text(graph.read_text().replace(" 0=16 1=16 2=3\n", "\n", 1))
    with pytest.raises(CompressError, match=r"ncnn cannot run .*model\.ncnn\.param on images of shape \[2, 3, 0, 16\]"):
        find_runtime("ncnn").load(graph)(images(2).numpy()[:, :, :0])


def test_an_absent_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="ncnn cannot read"):
        find_runtime("ncnn").coverage(tmp_path / "model.ncnn.param")


def test_a_quantized_network_is_refused_and_nothing_is_written(variants: dict[str, nn.Module], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the runtime ncnn takes no quantized networks"):
        export(variants["int8"], tmp_path, ["ncnn"], PREPROCESS)
    assert list(tmp_path.iterdir()) == []


def test_an_operator_that_ncnn_lacks_is_one_clear_line(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(images).mean((2, 3))

    with pytest.raises(CompressError, match=r"Odd cannot be converted to ncnn.*bessel") as caught:
        export(Odd(), tmp_path, ["ncnn"], PREPROCESS)
    assert "\n" not in str(caught.value)


def test_a_network_that_cannot_be_traced_is_one_clear_line(tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise ValueError("not today\nnor tomorrow")

    with pytest.raises(CompressError, match="Broken cannot be traced for ncnn: not today") as caught:
        export(Broken(), tmp_path, ["ncnn"], PREPROCESS)
    assert "\n" not in str(caught.value)


def test_a_trace_that_pnnx_cannot_read_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ncnn, "_trace", lambda source, path: path.write_bytes(b"cut short"))
    with pytest.raises(CompressError, match=r"Sequential cannot be converted to ncnn: read_proto\w* failed"):
        export(network(), tmp_path, ["ncnn"], PREPROCESS)


def test_export_is_quiet_and_leaves_the_mode_of_the_network(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = network().train()
    path = export(model, tmp_path, ["ncnn"], PREPROCESS)["ncnn"]
    find_runtime("ncnn").load(path)(images(1).numpy())
    assert model.training and capfd.readouterr() == ("", "")


def test_peak_memory_is_that_of_a_process_without_torch(artifact: Path) -> None:
    memory = peak_memory(artifact, "ncnn", 1)
    assert memory is not None and 20e6 < memory < 200e6
