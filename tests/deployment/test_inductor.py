"""inductor: packages of parts, and packages that were compiled elsewhere."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from deployment.tiny_classifier import PREPROCESS, images
from torch import nn

from compress.deployment import inductor
from compress.deployment.coverage import Coverage
from compress.deployment.export import export
from compress.deployment.runtimes import find_runtime, missing
from compress.utils.errors import CompressError

load, coverage = find_runtime("inductor").load, find_runtime("inductor").coverage
compiles = pytest.mark.skipif(bool(missing("inductor")), reason="there is no C++ compiler")


@compiles
@pytest.mark.slow
def test_export_is_quiet_and_leaves_the_network_as_it_was(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inductor, "FIXED", (1,))
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    path = export(model, tmp_path / "artifacts", ["inductor"], PREPROCESS)["inductor"]
    with torch.no_grad():
        expected = model(images(3)).numpy()
    assert np.abs(load(path)(images(3).numpy()) - expected).max() < 1e-5
    assert coverage(path) == Coverage(0, 1, 0, 14 * 14 * 5 * 27)
    assert model.training and capfd.readouterr() == ("", "")
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@compiles
@pytest.mark.slow
def test_temporary_folders_with_spaces_and_accents_do_not_reach_the_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inductor, "FIXED", (1,))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "ru ns é"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "ru ns é"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "ru ns é").mkdir()
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    path = export(model, tmp_path / "my files é", ["inductor"], PREPROCESS)["inductor"]
    with torch.no_grad():
        assert np.abs(load(path)(images(3).numpy()) - model(images(3)).numpy()).max() < 1e-5


def test_a_compilers_cache_that_would_have_to_be_quoted_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "my cache"))
    with inductor._plain_folder(Path("/a/b-1.x")) as folder:
        assert folder == Path("/a/b-1.x")
    words = "my cache; set TORCHINDUCTOR_CACHE_DIR to a folder without spaces"
    with pytest.raises(CompressError, match=words), inductor._plain_folder(Path("/a/b c")):
        pass
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    with inductor._plain_folder(Path("/a/bé")) as folder:
        assert folder.parent == tmp_path / "cache"
    assert not folder.exists()


def test_a_file_that_is_no_package_is_one_clear_line(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt2", "w") as package:
        package.writestr("readme.txt", "nothing")
    with pytest.raises(CompressError, match="it holds no compiled network"):
        load(tmp_path / "model.pt2")
    with pytest.raises(CompressError, match="inductor cannot read"):
        load(tmp_path / "absent.pt2")
    for text in ("{}", "{", "[1]"):
        with zipfile.ZipFile(tmp_path / "model.pt2", "w") as package:
            package.writestr("model/data/x.wrapper_metadata.json", text)
        with pytest.raises(CompressError, match=r"it is damaged, or of another PyTorch than \d.* \(") as caught:
            load(tmp_path / "model.pt2")
        assert "\n" not in str(caught.value)


def test_another_processor_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt2", "w") as package:
        package.writestr("model/data/x.wrapper_metadata.json", '{"AOTI_CPU_ISA": "AVX512 AVX512_VNNI"}')
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    with pytest.raises(CompressError, match="compiled for AVX512 AVX512_VNNI, which this processor lacks"):
        load(tmp_path / "model.pt2")


def test_a_linear_layer_multiplies_for_each_token() -> None:
    """PyTorch passes all tokens of all images as one dimension."""
    weights = {"kernel": [64, 3, 4, 4], "weight": [64, 32]}
    outputs = {
        f"buf{i}": inductor._shape(text) for i, text in enumerate(("s77, 64L, 8L, 8L", "197L*s77, 64L", "s77, 64L"))
    }
    assert inductor._call_macs("qconv", "kernel, &buf0_handle", weights, outputs) == 8 * 8 * 64 * 3 * 4 * 4
    assert inductor._call_macs("qlinear", "weight, &buf1_handle", weights, outputs) == 197 * 64 * 32
    assert inductor._call_macs("qlinear", "weight, &buf2_handle", weights, outputs) == 64 * 32
