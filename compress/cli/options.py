"""Arguments, options and output that several verbs share."""

from __future__ import annotations

import io
import json
import math
import os
import re
import shlex
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer

from compress.utils.errors import UsageError
from compress.utils.messages import one_line


def _load_plugins(names: list[str] | None) -> list[str] | None:
    from compress.plugins import load, load_installed

    load_installed()
    load(names or ())
    return names


def _runs_folder(value: str | Path) -> Path:
    if ":" not in str(value):  # no URL, so that nothing is loaded for it
        return Path(value)
    from compress.store.origin import local_runs

    return local_runs(value)


def refuse_empty(argv: Sequence[str]) -> None:
    """Refuse empty words of a call: as a path, one would be the folder here, and as an option often "not given".

    They come from unset variables of scripts, as in `--older-than "$AGE"`.

    Raises:
        UsageError: names the option, or the word before.
    """
    for before, word in pairwise(argv):
        if word and not re.fullmatch("--[^=]+=", word):
            continue
        option = word[:-1] or before
        name = option if option.startswith("-") else f"the argument after {one_line(option)}"
        raise UsageError(f"{name} is empty; give it a value, or leave it out")


def is_given(context: typer.Context, parameter: str) -> bool:
    """Return whether a call states an option, by the name of its parameter, or leaves it at its default."""
    source = context.get_parameter_source(parameter)
    return source is not None and source.name == "COMMANDLINE"


def finite(value: float | None) -> float | None:
    """Refuse `inf` and `nan`, which the parser takes as numbers; every option that is a float has this callback."""
    if value is None or math.isfinite(value):
        return value
    raise typer.BadParameter(f"{value} is not a finite number.")


def complete_recipe(incomplete: str) -> list[str]:
    """Complete a shipped recipe's name or a YAML file's path; the shell offers files where nothing matches."""
    from compress.utils.resources import shipped

    names = sorted(path.stem for path in shipped("recipes").glob("*.yaml"))
    folder, slash, _ = incomplete.rpartition("/")
    files = sorted(str(path) for path in Path(folder + slash or ".").glob("*.y*ml"))
    return [name for name in (*names, *files) if name.startswith(incomplete)]


RecipePath = Annotated[
    str,
    typer.Argument(help="Recipe file, or name of a shipped recipe.", metavar="RECIPE", autocompletion=complete_recipe),
]
RecipePaths = Annotated[
    list[str], typer.Argument(help="Recipe files.", metavar="RECIPE...", autocompletion=complete_recipe)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, e.g. stages.distilled.epochs=5."),
]
Runs = Annotated[
    Path,
    typer.Option(
        "--runs",
        metavar="DIR|URL",
        help="Folder with all runs and their shared store: local, or s3://, gs://, az://.",
        parser=_runs_folder,
    ),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        metavar="FILE.py|MODULE",
        help="Load your own models, losses, stages, runtimes, sources.",
        callback=_load_plugins,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


TEXT_WIDTH = 120  # of prose that is not printed to a terminal


def escape_other_letters() -> None:
    """Print `\\u2212` for a letter that the encoding of the output does not have, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def print_json(value: object) -> None:
    """Print plain data and records as JSON; NaN and infinity are refused, since JSON has neither."""
    print(json.dumps(value, indent=1, allow_nan=False, default=_jsonable))


def _jsonable(value: object) -> object:
    from pydantic_core import to_jsonable_python  # absent where only artifacts are run, whose records are plain data

    return to_jsonable_python(value)


def print_rich(*renderables: object) -> None:
    """Print tables and text, one below the other; tables take the width that they need where there is no terminal."""
    from rich.console import Console
    from rich.table import Table

    from compress.cli.tables import in_parts, natural_width

    console = Console(highlight=False)
    fixed = console.is_terminal or "COLUMNS" in os.environ
    for renderable in renderables:
        if isinstance(renderable, Table) and renderable.columns:
            width = console.width if fixed else max(console.width, natural_width(console, renderable))
            wide = Console(highlight=False, width=width)
            for part in in_parts(wide, renderable, width):
                wide.print(part)
        else:
            console.print(renderable)


def print_text(*lines: str | None) -> None:
    """Print lines of prose, those that are not empty, broken between words."""
    import shutil
    import textwrap

    width = shutil.get_terminal_size(fallback=(TEXT_WIDTH, 1)).columns
    for line in filter(None, lines):
        print(textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False))


def command_line(argv: Sequence[str]) -> str:
    """Return one line that a shell reads as the call `argv`, with `compress-model` for the path of the program.

    Letters of any alphabet stay as they are; spaces and other special characters are quoted. Control characters, and
    bytes of a file name that is not UTF-8, become `$'\\x0a'`, which bash and zsh read.
    """
    return " ".join(["compress-model", *map(_quote, argv[1:])])


def _quote(word: str) -> str:
    if re.fullmatch(r"[\w@%+=:,./-]+", word):
        return word
    if word.isprintable():
        return shlex.quote(word)
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b"'\\" else f"\\x{byte:02x}" for byte in os.fsencode(word))
    return f"$'{''.join(plain)}'"
