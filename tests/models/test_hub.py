"""Published weights where the model hub does not answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants, hf_hub_download

from compress.models import hub
from compress.models.factory import create_model
from compress.models.hub import fail_fast
from compress.utils.errors import CompressError


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "hub_is_reachable", lambda timeout_s: False)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)


def test_missing_weights_are_one_line_at_once(unreachable: None, capfd: pytest.CaptureFixture[str]) -> None:
    words = r"timm's weights of resnet10t.c3_in1k cannot be downloaded here \(https://huggingface.co cannot be reached,"
    with pytest.raises(CompressError, match=words):
        create_model("timm", "resnet10t.c3_in1k", 1000, 64, pretrained=True)
    output = capfd.readouterr()
    assert "Retrying" not in output.out + output.err and not constants.HF_HUB_OFFLINE


def test_other_errors_stay_what_they_are(unreachable: None) -> None:
    with pytest.raises(ValueError, match="damaged"), fail_fast():
        raise ValueError("damaged")


def test_a_file_in_the_cache_needs_no_hub(unreachable: None, tmp_path: Path) -> None:
    folder = tmp_path / "models--a--b"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("c" * 40)
    file = folder / "snapshots" / ("c" * 40) / "x.json"
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    with fail_fast():
        assert Path(hf_hub_download("a/b", "x.json", cache_dir=tmp_path)).read_text() == "{}"


@pytest.mark.parametrize("offline", [True, False])
def test_nothing_is_asked_where_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch, offline: bool) -> None:
    def refuse(timeout_s: float) -> bool:
        raise AssertionError

    monkeypatch.setattr(hub, "hub_is_reachable", refuse)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    with fail_fast(downloads=offline):
        assert offline == constants.HF_HUB_OFFLINE
