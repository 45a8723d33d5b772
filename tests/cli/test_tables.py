"""Tables on narrow terminals and in pipes."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from rich.console import Console
from rich.table import Table

from compress.cli.options import print_rich
from compress.cli.tables import in_parts, natural_width

FIGURES = ("1,410,000.5×", "12.9 (4.76–35.3)", "3.2 months (2.3–5.3)", "606,500×")
HEADINGS = ("trend", "gap", "years to catch up", "doubles in (95%)", "× a year")


def table(name: str = "energy efficiency of the best rate", *, pad_edge: bool = False) -> Table:
    made = Table(box=None, pad_edge=pad_edge, padding=(0, 1, 0, 0), title="Gaps", caption="One run each.")
    for number, heading in enumerate(HEADINGS):
        made.add_column(heading, justify="right" if number else "left", overflow="fold")
    made.add_row(name, *FIGURES)
    made.add_row("b", *reversed(FIGURES))
    return made


def printed(console_width: int, wanted: int | None = None) -> list[str]:
    console = Console(width=console_width, file=StringIO())
    for part in in_parts(console, table(), wanted or console_width):
        console.print(part)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [*range(40, 100), 200])
def test_figures_are_whole_at_every_width(width: int) -> None:
    lines = printed(width)
    assert max(map(len, lines)) <= width
    for figure in FIGURES:
        assert sum(figure in line for line in lines) == 2
    words = " ".join(" ".join(lines).split())
    assert words.count("Gaps") == words.count("One run each.") == 1


@pytest.mark.parametrize("width", [40, 60, 80])
def test_every_part_starts_with_the_names(width: int) -> None:
    lines = [line for line in printed(width) if re.match(r"b\b", line)]
    assert len(lines) >= (1 if width == 80 else 2)


def test_a_table_that_fits_stays_one() -> None:
    console = Console(width=200, file=StringIO())
    natural = natural_width(console, table())
    (whole,) = in_parts(console, table(), natural)
    assert [str(column.header) for column in whole.columns] == list(HEADINGS)
    assert len(in_parts(console, table(), natural - 60)) > 1


def test_space_goes_to_what_has_more_to_show() -> None:
    assert any("energy efficiency of the best rate" in line for line in printed(120))
    assert not any("energy efficiency of the best rate" in line for line in printed(90))


def test_a_pipe_is_as_wide_as_the_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    print_rich(table(), "a line of text")
    lines = capsys.readouterr().out.splitlines()
    assert any("energy efficiency of the best rate" in line and FIGURES[-1] in line for line in lines)
    monkeypatch.setenv("COLUMNS", "50")
    print_rich(table())
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 50
