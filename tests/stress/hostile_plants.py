"""Faults that `fuzz_campaign.py` can plant, each with the target that must find it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


def _unescaped() -> None:
    from compress.report import page

    original = page._environment
    page._environment = lambda autoescape: original(autoescape=False)


def _yaml_tags() -> None:
    import yaml

    from compress.recipe import load

    original = load.read_yaml

    def read(text: str, *arguments: Any) -> Any:
        with suppress(yaml.YAMLError):
            yaml.unsafe_load(text)
        return original(text, *arguments)

    load.read_yaml = read


def _pickle() -> None:
    import torch

    original = torch.load
    torch.load = lambda *arguments, **options: original(*arguments, **{**options, "weights_only": False})


def _unpacked() -> None:
    from compress.data import webdataset

    original, outermost = webdataset.open_archive, Path(os.environ["TMPDIR"]).resolve().parent

    @contextmanager
    def unpacking(file: Path) -> Iterator[Any]:
        with suppress(Exception), original(file) as archive:
            for member in archive.members():
                target = Path(os.path.normpath(file.parent / member.name))
                if target.resolve().is_relative_to(outermost):  # no further out than the campaign's own folder
                    target.write_bytes(archive.content(member))
        with original(file) as archive:
            yield archive

    webdataset.open_archive = unpacking


PLANTS: dict[str, tuple[str, Callable[[], None]]] = {
    "unescaped-class-name": ("report", _unescaped),
    "yaml-tags": ("recipe", _yaml_tags),
    "pickle": ("checkpoint", _pickle),
    "unpacked-shards": ("source", _unpacked),
}
