from __future__ import annotations

import pytest
from support import typed

from compress.utils.errors import CompressError, is_interruption


def left_early() -> None:
    """As torch's writer of files does when an interruption leaves it."""
    try:
        raise KeyboardInterrupt
    finally:
        raise RuntimeError("unexpected pos 1748736 vs 1748628")


def test_an_error_that_replaces_an_interruption_is_one() -> None:
    with pytest.raises(RuntimeError) as error:
        left_early()
    assert is_interruption(error.value)
    with pytest.raises(CompressError) as wrapped:
        try:
            left_early()
        except RuntimeError as cause:
            raise CompressError("the fit failed") from cause
    assert is_interruption(wrapped.value) and not is_interruption(ValueError("other"))


def test_it_ends_the_command_line_like_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compress.recipe.load.load_recipe", lambda *_: left_early())
    done = typed("validate", "quickstart")
    assert (done.returncode, done.stderr) == (130, "interrupted; rerun the same command to resume\n")
