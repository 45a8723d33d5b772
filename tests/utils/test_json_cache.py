"""JSON with a digest of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compress.utils import json_cache
from compress.utils.json_cache import load_cache, save_cache, seal, unseal

BODY = {"key": "k", "files": {"é.png": [1, 0.1, None]}}


@pytest.mark.parametrize("indent", [None, 1])
def test_sealed_text_is_unsealed_to_the_same_body(indent: int | None) -> None:
    text = seal(BODY, indent)
    assert unseal(text, indent) == BODY and list(json.loads(text)) == ["key", "files", "sha256"]


def test_every_flipped_bit_is_noticed() -> None:
    text = seal(BODY, 1)
    for place in range(len(text)):
        for bit in range(7):
            flipped = text[:place] + chr(ord(text[place]) ^ 1 << bit) + text[place + 1 :]
            with pytest.raises(ValueError):
                unseal(flipped, 1)


@pytest.mark.parametrize("text", ["", "1", "[1]", "{}", '{"sha256": "0"}', '{"a": 1, "sha256": 5}', "[" * 10**5])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        unseal(text)


def test_a_cache_is_read_back_and_a_damaged_one_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[str] = []
    monkeypatch.setattr(json_cache, "say", printed.append)
    file = tmp_path / "store" / "cache.json"
    assert load_cache(file, "files", "hashing again") == load_cache(None, "files", "hashing again") == {}
    save_cache(None, "files", {})
    save_cache(file, "files", {"a": [1]})
    assert load_cache(file, "other", "hashing again") == {}
    save_cache(file, "other", {"b": 2})
    assert load_cache(file, "files", "hashing again") == {"a": [1]} and printed == [], "each section is kept"
    file.write_text(file.read_text().replace("[1]", "[2]"))
    assert load_cache(file, "files", "hashing again") == {}
    assert printed == [f"store: {file} is damaged; hashing again"]
    save_cache(file, "files", {"c": 3})
    assert load_cache(file, "files", "hashing again") == {"c": 3}
    save_cache(file, "files", {"c": 4, "d": 5})  # by another process, which has not read the first
    save_cache(file, "files", {"e": 6})
    assert load_cache(file, "files", "hashing again") == {"c": 4, "d": 5, "e": 6}
