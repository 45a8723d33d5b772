"""The table of a run that is not done."""

import io

import pytest
from results_factory import accuracy, inference
from rich.console import Console

from compress.pipeline import progress_table
from compress.pipeline.progress_table import EVERY_S, ProgressTable
from compress.results import Inference, Ledger, VariantMetrics


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    text = io.StringIO()
    monkeypatch.setattr(progress_table, "console", Console(file=text, width=80))
    return text


def metrics(correct: int) -> VariantMetrics:
    cost = Inference.model_validate(inference().model_dump(include=set(Inference.model_fields)))
    return VariantMetrics(accuracy=accuracy(correct), inference=cost, training=Ledger.start())


def test_the_first_table_comes_with_the_second_variant_and_later_ones_after_the_interval(
    printed: io.StringIO,
) -> None:
    now = 0.0
    table = ProgressTable(clock=lambda: now)
    table.add("teacher[0]", metrics(900))
    table.show()
    assert not printed.getvalue()  # one variant compares nothing
    table.add("int8", metrics(800))
    table.show()
    first = printed.getvalue()
    assert "so far, before timing" in first and "teacher[0]" in first and "90.0%" in first
    assert max(map(len, first.splitlines())) <= 80
    now = EVERY_S - 1
    table.show()
    assert printed.getvalue() == first
    now = EVERY_S
    table.show()
    assert printed.getvalue().count("so far") == 2
