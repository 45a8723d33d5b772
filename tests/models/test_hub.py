"""Published weights where the model hub does not answer."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from huggingface_hub import constants, hf_hub_download

from compress.models import hub
from compress.models.factory import create_model
from compress.models.hub import fail_fast
from compress.utils.errors import CompressError
from compress.utils.system import hub_is_reachable

PROXIES = [f"{kind}_proxy" for kind in ("http", "https", "all", "no")]
PROXIES += [name.upper() for name in PROXIES]


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "hub_is_reachable", lambda timeout_s: False)
    for name in ("HF_ENDPOINT", *PROXIES):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def refusing_proxy() -> Iterator[int]:
    """Port of a proxy that asks for a password."""

    class Refuses(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            self.send_error(407)

        def log_message(self, format: str, *arguments: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Refuses) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_missing_weights_are_one_line_at_once(unreachable: None, capfd: pytest.CaptureFixture[str]) -> None:
    words = r"timm's weights of resnet10t.c3_in1k cannot be downloaded here \(https://huggingface.co cannot be reached,"
    with pytest.raises(CompressError, match=words):
        create_model("timm", "resnet10t.c3_in1k", 1000, 64, pretrained=True)
    output = capfd.readouterr()
    assert "Retrying" not in output.out + output.err and not constants.HF_HUB_OFFLINE


def test_a_proxy_that_refuses_is_named_without_its_password(
    unreachable: None, refusing_proxy: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "hub_is_reachable", hub_is_reachable)
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:secret@127.0.0.1:{refusing_proxy}")
    with pytest.raises(CompressError, match=f"cannot be reached through the proxy 127.0.0.1:{refusing_proxy}, ") as one:
        create_model("timm", "resnet10t.c3_in1k", 1000, 64, pretrained=True)
    assert "secret" not in str(one.value) and "user" not in str(one.value)
    monkeypatch.setenv("NO_PROXY", "huggingface.co")
    monkeypatch.setattr(hub, "hub_is_reachable", lambda timeout_s: False)
    with pytest.raises(CompressError, match="cannot be reached, and"):
        create_model("timm", "resnet10t.c3_in1k", 1000, 64, pretrained=True)


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
