"""ncnn: its precision, its batches, and files that it would misread."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from deployment.conftest import Built
from deployment.tiny_classifier import PREPROCESS, images, network
from support import environment
from torch import nn

from compress.deployment import ncnn
from compress.deployment.artifact import load_artifact
from compress.deployment.export import export
from compress.deployment.runtimes import find_runtime
from compress.utils.errors import CompressError

pytest.importorskip("ncnn")
pytest.importorskip("pnnx")


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((1, 3, 1, 1), 0.5))

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return given * self.scale


@pytest.fixture(scope="module")
def artifact(built: Built) -> Path:
    return built("ncnn")


def test_weights_are_stored_in_full_precision(artifact: Path) -> None:
    assert artifact.with_suffix(".bin").stat().st_size > 4 * (3 * 16 * 9 + 16 * 16 * 9)  # four bytes a weight, not two
    assert b"/" not in artifact.read_bytes(), "no path of this machine"


def test_a_side_that_is_no_multiple_of_the_register_width(tmp_path: Path) -> None:
    path = export(network(), tmp_path, ["ncnn"], {**PREPROCESS, "resolution": 13})["ncnn"]
    batch = images(3)[:, :, :13, :13]
    with torch.no_grad():
        expected = network()(batch).numpy()
    assert np.abs(find_runtime("ncnn").load(path)(batch.numpy()) - expected).max() < 1e-5


def test_a_network_that_takes_no_batch_runs_image_by_image(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("cut", [1, 200, 10**6])
def test_truncated_weights_are_one_clear_line(
    artifact: Path, cut: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(artifact.parent, tmp_path / "copy")
    path = tmp_path / "copy" / artifact.name
    broken = path.with_suffix(".bin")
    broken.write_bytes(broken.read_bytes()[:-cut])
    with pytest.raises(CompressError, match="ncnn cannot read") as caught:
        find_runtime("ncnn").load(path)
    assert "\n" not in str(caught.value) and capfd.readouterr() == ("", "")


def test_a_graph_whose_ends_have_other_names_is_one_clear_line(artifact: Path, tmp_path: Path) -> None:
    shutil.copytree(artifact.parent, tmp_path / "copy")
    path = tmp_path / "copy" / artifact.name
    path.write_text(artifact.read_text().replace("out0", "prob"))
    with pytest.raises(CompressError, match=r"cannot read .*: its ends are not named in0 and out0, as PNNX names them"):
        load_artifact(path)


def test_images_of_another_shape_are_refused(artifact: Path, tmp_path: Path) -> None:
    run = find_runtime("ncnn").load(artifact)
    with pytest.raises(CompressError, match=r"ncnn\.param takes images float32 \[batch, 3, 16, 16\], not .*\[2, 3, 8"):
        run(images(2).numpy()[:, :, :8])
    for name in ("param", "bin"):
        shutil.copy(artifact.with_suffix(f".{name}"), tmp_path)
    graph = tmp_path / artifact.name
    graph.write_text(graph.read_text().replace(" 0=16 1=16 2=3\n", "\n", 1))
    with pytest.raises(CompressError, match=r"ncnn cannot run .*model\.ncnn\.param on images of shape \[2, 3, 0, 16\]"):
        find_runtime("ncnn").load(graph)(images(2).numpy()[:, :, :0])


def test_a_trace_that_pnnx_cannot_read_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ncnn, "_trace", lambda source, path: path.write_bytes(b"cut short"))
    with pytest.raises(CompressError, match=r"Sequential cannot be converted to ncnn: read_proto\w* failed"):
        export(network(), tmp_path, ["ncnn"], PREPROCESS)


@pytest.mark.parametrize(
    "first",
    [nn.BatchNorm2d(3), nn.LayerNorm(16), nn.GroupNorm(1, 3), nn.InstanceNorm2d(3, affine=True), nn.PReLU(3), Scale()],
    ids=lambda module: type(module).__name__,
)
def test_the_precision_is_that_of_the_first_weights_that_state_it(first: nn.Module, tmp_path: Path) -> None:
    """Normalisations and constants before them are stored in FP32 whatever the precision."""
    for precision, half in (("fp32", False), ("fp16", True)):
        model = nn.Sequential(first, network()).eval()
        path = export(model, tmp_path / precision, ["ncnn"], PREPROCESS, precision)["ncnn"]
        assert ncnn._is_half(path) is half
        assert ncnn._net(path, 1).opt.use_fp16_arithmetic is half


def test_a_setting_that_is_no_number_is_one_clear_line(artifact: Path, tmp_path: Path) -> None:
    shutil.copytree(artifact.parent, tmp_path / "copy")
    path = tmp_path / "copy" / artifact.name
    path.write_text(artifact.read_text().replace(" 6=432", " 6=many"))
    with pytest.raises(CompressError, match=r"ncnn cannot read .* and its weights"):
        find_runtime("ncnn").load(path)


@pytest.mark.parametrize("check", ["require_engine", "require_whole"])
def test_it_is_imported_with_threads_that_sleep_even_to_see_whether_it_works(check: str, tmp_path: Path) -> None:
    """Its OpenMP reads the environment once, when it is loaded."""
    (tmp_path / "ncnn.py").write_text("import os\npolicy = os.environ.get('OMP_WAIT_POLICY')\n")
    (tmp_path / "pnnx.py").touch()
    code = f"import os, sys\nfrom compress.deployment.runtimes import {check}\n{check}('ncnn')\n"
    code += "print(sys.modules['ncnn'].policy, os.environ.get('OMP_WAIT_POLICY'))"
    variables = {key: value for key, value in environment().items() if key != "OMP_WAIT_POLICY"}
    variables["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{variables.get('PYTHONPATH', '')}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=variables)
    assert done.stdout == "PASSIVE None\n", done.stderr
