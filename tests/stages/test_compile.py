"""Stages with `compile: true`: torch.compile needs a C++ compiler for a CPU."""

from __future__ import annotations

import shutil

import pytest
from recipe.recipe_texts import GOOD

from compress.pipeline.preflight import check_compilers
from compress.recipe.load import parse_recipe
from compress.stages.kind import kind_of
from compress.utils.errors import CompressError

FITS = {
    "distilled": ("epochs: 3", "epochs: 3\n    compile: true"),
    "pruned": ("{epochs: 2}", "{epochs: 2, compile: true}"),
}


def check(*changes: tuple[str, str]) -> None:
    text = GOOD
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    recipe = parse_recipe(text)
    check_compilers(recipe, [kind_of(stage) for stage in recipe.stages if stage.id in FITS])


@pytest.mark.parametrize("stage", FITS)
def test_a_missing_compiler_is_told_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    check(FITS[stage])
    monkeypatch.setattr(shutil, "which", lambda program: None)
    check()
    check(FITS[stage], ("epochs: 3", "epochs: 0"), ("epochs: 2", "epochs: 0"))
    wanted = rf"^stage {stage}: `compile: true` needs \S+: a C\+\+ compiler, e.g. .*; or remove `compile: true`$"
    with pytest.raises(CompressError, match=wanted):
        check(FITS[stage])
