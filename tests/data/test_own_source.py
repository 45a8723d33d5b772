"""A data source that a plugin brings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from compress import plugins, registry
from compress.data.prepared import prepare
from compress.recipe import parse_recipe
from compress.recipe.schema import Recipe
from compress.store.store import Store
from compress.utils.errors import UsageError

RECIPE = "data: {{source: {name}{more}}}\nstages: [{{id: s, kind: train, student: resnet18}}]\n"


@pytest.fixture
def own_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A plugin with a source; nothing of it outlives the test."""
    monkeypatch.setenv(plugins.VARIABLE, "")
    monkeypatch.setattr(plugins, "_DIGESTS", {})
    file = tmp_path / "noise_source.py"
    file.write_text(OWN)
    before = dict(registry.SOURCES)
    annotation = Recipe.model_fields["data"].annotation
    yield file
    registry.SOURCES.clear()
    registry.SOURCES.update(before)
    Recipe.model_fields["data"].annotation = annotation
    Recipe.model_rebuild(force=True)


OWN = """
from typing import Literal
import numpy as np
from compress.data.source import Contents, Part, Raw, Source
from compress.plugins import source
from compress.recipe.data import DataSection

class Noise(DataSection):
    source: Literal["noise"]
    images: int = 8

def contents(settings, cache):
    return Contents(f"noise {settings.images}", ("a", "b"), False, (settings.images // 2,) * 2)

def part(settings, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (settings.images, 3, 8, 8), np.uint8)
    return Part(pixels, np.arange(settings.images) % 2)

def read(settings, scratch):
    return Raw(("a", "b"), part(settings, 0), part(settings, 1))

SOURCE = Source(Noise, "noise", contents, read)
source("noise", f"{__name__}:SOURCE")
"""


def test_a_plugin_brings_a_source(own_source: Path, store: Store) -> None:
    text = RECIPE.format(name="noise", more=", images: 10")
    with pytest.raises(UsageError, match="unknown source 'noise'"):
        parse_recipe(text)
    plugins.load([str(own_source)])
    data = prepare(parse_recipe(text).data, store, 0)
    assert data.classes == ("a", "b") and len(data.test) == 10 and len(data.train) == 8
    assert type(parse_recipe(RECIPE.format(name="cifar10", more="")).data).__name__ == "DownloadedData"
    with pytest.raises(UsageError, match=r"data\.imagse: unknown key; did you mean 'images'\?"):
        parse_recipe(RECIPE.format(name="noise", more=", imagse: 10"))
