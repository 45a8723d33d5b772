"""Shared parts of the verbs: the recorded command line, and printed JSON."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import typer
from results_factory import example_record
from support import typed

from compress.cli import app, main
from compress.cli.options import TEXT_WIDTH, command_line, print_json, print_text, refuse_empty


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["run", "quickstart"], "compress-model run quickstart"),
        (["run", "my photos/a.yaml"], "compress-model run 'my photos/a.yaml'"),
        (["run", "Äpfel/鳥.yaml"], "compress-model run Äpfel/鳥.yaml"),
        (["run", "--set", "a.b=[1, 2]"], "compress-model run --set 'a.b=[1, 2]'"),
        (["run", "it's"], """compress-model run 'it'"'"'s'"""),
        (["run", "", "$HOME", "~"], "compress-model run '' '$HOME' '~'"),
        (["run", "a\nb'c"], r"compress-model run $'a\x0ab\x27c'"),
        (["run", os.fsdecode(b"caf\xe9")], r"compress-model run $'caf\xe9'"),
    ],
)
def test_command_line_is_quoted_for_a_shell(words: list[str], line: str) -> None:
    assert command_line(["/usr/bin/compress-model", *words]) == line
    assert "\n" not in line and line.isprintable()


@pytest.mark.skipif(not Path("/bin/bash").exists(), reason="needs bash")
@pytest.mark.parametrize(
    "word", ["a b", "Äpfel 鳥", 'it\'s "x"', "a\n\\b'", os.fsdecode(b"\xff\xfe"), "\u202e", "!a", "#"]
)
def test_bash_reads_the_same_words(word: str) -> None:
    script = command_line(["", word]).replace("compress-model", "printf %s", 1)
    done = subprocess.run(["/bin/bash", "-c", script], capture_output=True, check=True)
    assert os.fsdecode(done.stdout) == word
    if word.isprintable():
        assert shlex.split(command_line(["", word])) == ["compress-model", word]


def test_records_are_printed_as_json_and_nan_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    @dataclass(frozen=True)
    class Row:
        name: str
        path: Path

    print_json([Row("a", Path("b"))])
    assert json.loads(capsys.readouterr().out) == [{"name": "a", "path": "b"}]
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_json({"a": float("nan")})


@pytest.mark.parametrize(("columns", "width"), [(None, TEXT_WIDTH), ("60", 60)])
def test_prose_is_broken_between_words(
    columns: str | None, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    words, path = "one-sided 95% interval " * 20, "/a/" + "b" * 150
    print_text(words, "", path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == path and " ".join(lines[:-1]) == words.strip()
    assert max(map(len, lines[:-1])) <= width and not any(line.endswith("-") for line in lines)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("store", "clean", "--older-than", "", "--max-size", "1KB"), "--older-than is empty"),
        (("store", "clean", "--max-size=", "--keep-runs", "1"), "--max-size is empty"),
        (("store", "list", "--runs", ""), "--runs is empty"),
        (("evaluate", "artifact", "--data", ""), "--data is empty"),
        (("evaluate", "artifact", ""), "the argument after artifact is empty"),
        (("init", "photos", "-o", ""), "-o is empty"),
    ],
)
def test_empty_values_are_refused(words: tuple[str, ...], says: str, tmp_path: Path) -> None:
    entry = tmp_path / "runs" / "store" / ("a" * 16)
    entry.mkdir(parents=True)
    done = typed(*words, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, f"error: {says}; give it a value, or leave it out\n")
    assert entry.is_dir()


def test_an_override_may_be_empty() -> None:
    refuse_empty(["compress-model", "run", "quickstart", "--set", "a.b=", "--set=a.b="])


def floats(group: typer.Typer, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Verb and name of each option that is a float."""
    for verb in group.registered_commands:
        assert verb.callback
        name = verb.name or verb.callback.__name__.replace("_", "-")
        for hint in get_type_hints(verb.callback, include_extras=True).values():
            kind, *about = get_args(hint) or (hint,)
            if about and (kind is float or float in get_args(kind)):
                yield (*path, name, about[0].default)  # of an annotation, which has the name first
    for below in group.registered_groups:
        yield from floats(below.typer_instance or typer.Typer(), (*path, below.name or ""))


FLOATS = list(floats(app))


@pytest.mark.parametrize("words", FLOATS, ids=" ".join)
@pytest.mark.parametrize("value", ["inf", "nan"])
def test_numbers_that_are_not_finite_are_refused(words: tuple[str, ...], value: str) -> None:
    assert len(FLOATS) >= 8
    done = typed(*words, value)
    said = " ".join(done.stderr.split())
    assert done.returncode == 2 and words[-1] in said
    assert f"{value} is not a finite number" in said or "Input should be" in said, "by the callback or by a bound"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_no_command_fails_on_letters_that_the_output_does_not_have(
    encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(example_record().to_json())
    printed = b""
    for words in (["gap"], ["list", "losses"], ["compare", "a", "b"], ["gate", "a", "--against", "b"]):
        out = io.TextIOWrapper(io.BytesIO(), encoding)
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "argv", ["compress-model", *words])
            with pytest.raises(SystemExit) as ended:
                main()
        assert ended.value.code in (0, None) or words[0] == "gate"
        out.flush()
        printed += out.buffer.getvalue()  # type: ignore[attr-defined]
    assert (b"\\u2212" in printed) is (encoding != "utf-8") and len(printed) > 1000
