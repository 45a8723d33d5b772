from __future__ import annotations

import errno
import signal
from pathlib import Path

import pytest
from scaffold.folders import folder
from support import typed

from compress.cli.errors import report_error
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


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (("run", "quickstart"), "interrupted; rerun the same command to resume\n"),
        (("--debug", "work", "quickstart"), "interrupted; rerun the same command to resume\n"),
        (("validate", "quickstart"), "interrupted\n"),
    ],
)
def test_it_ends_the_command_line_like_one(monkeypatch: pytest.MonkeyPatch, call: tuple[str, ...], says: str) -> None:
    """Only verbs that go on with what they had made promise to."""
    monkeypatch.setattr("compress.recipe.load.load_recipe", lambda *_: left_early())
    done = typed(*call)
    assert (done.returncode, done.stderr) == (130, says)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("ignored", [False, True])
def test_a_signal_ends_the_command_line_unless_it_is_ignored(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals, status: int, ignored: bool
) -> None:
    def load(*_: object) -> None:
        signal.raise_signal(number)
        raise CompressError("goes on")

    monkeypatch.setattr("compress.recipe.load.load_recipe", load)
    before = signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        done = typed("run", "quickstart")
    finally:
        signal.signal(number, before)
    said = "error: goes on\n" if ignored else "interrupted; rerun the same command to resume\n"
    assert (done.returncode, done.stderr) == (1 if ignored else status, said)


@pytest.mark.parametrize(("verb", "ending"), [("sweep", "rerun the same command to resume"), ("bench", "same command")])
def test_full_disk_promises_to_resume_only_where_that_is_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str, ending: str
) -> None:
    monkeypatch.setattr("sys.argv", ["compress-model", verb])
    assert report_error(OSError(errno.ENOSPC, "No space left on device")) == 1
    assert capsys.readouterr().err.endswith(f"{ending}\n")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), CompressError("no data")])
def test_init_says_that_the_recipe_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("compress.pipeline.cost_model.estimate", fail)
    done = typed("init", folder(tmp_path / "p", cat=3, dog=3), cwd=tmp_path, HF_HUB_OFFLINE="1")
    said, last = done.stderr.splitlines()[-2:]
    assert said == "recipe.yaml is written, and not estimated: compress-model plan recipe.yaml"
    assert last == ("error: no data" if isinstance(error, CompressError) else "interrupted")
    assert (tmp_path / "recipe.yaml").is_file()
