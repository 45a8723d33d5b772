"""Every runtime offers what the others rely on."""

from __future__ import annotations

from pathlib import Path
from typing import get_type_hints

import pytest
from pydantic import TypeAdapter

from compress.deployment.artifact import find_artifact
from compress.deployment.runtimes import Runtime, find_runtime
from compress.recipe import schema
from compress.registry import RUNTIMES
from compress.utils.errors import UsageError


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_runtime_has_every_name_of_the_interface(name: str) -> None:
    module = find_runtime(name)
    for attribute, kind in get_type_hints(Runtime).items():
        value = getattr(module, attribute)
        assert isinstance(value, getattr(kind, "__origin__", kind)), f"{name}.{attribute}"
    assert name == module.NAME and module.READS and module.ADD
    assert callable(module.build) and callable(module.load) and callable(module.coverage)


def test_recipes_can_name_every_runtime() -> None:
    assert TypeAdapter(schema.Runtime).json_schema()["enum"] == list(RUNTIMES)


@pytest.mark.parametrize("name", RUNTIMES)
def test_an_artifact_is_found_by_its_folder_and_by_its_file(name: str, tmp_path: Path) -> None:
    file = tmp_path / f"model{find_runtime(name).READS[0]}"
    file.touch()
    # Of a device the processor's comes first, and a file that runs elsewhere has a reader here.
    own = "onnxruntime" if name == "tensorrt" else name.partition("-")[0]
    assert find_artifact(tmp_path) == find_artifact(file) == (file, own)
    if name != "tensorrt":
        assert find_artifact(tmp_path, name) == (file, name)
    other = next(runtime for runtime in RUNTIMES if not set(find_runtime(runtime).READS) & {file.name[5:]})
    with pytest.raises(UsageError, match=rf"the runtime {other} does not read"):
        find_artifact(file, other)
