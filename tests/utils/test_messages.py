"""Parts of error messages."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import compress
from compress.utils.messages import MAX_LENGTH, describe, did_you_mean, join_words, one_line, truncate_list


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "nothing"), (True, "true"), ("a", "'a'"), ({}, "a section"), ([1], "a list"), (1.5, "1.5")],
)
def test_values_are_described_in_words(value: object, text: str) -> None:
    assert describe(value) == text


def test_words_are_joined() -> None:
    assert join_words([]) == "" and join_words(["a"]) == "a"
    assert join_words(["a", "b", "c"]) == "a, b or c" and join_words(["a", "b"], "and") == "a and b"


def test_long_lists_are_truncated() -> None:
    assert (
        truncate_list([]) == "none"
        and truncate_list("abcde") == "a, b, c, d, e"
        and truncate_list("abcdefg") == "a, b, c, d, e and 2 more"
    )


def test_untrusted_text_becomes_one_short_line() -> None:
    assert one_line("a\nb\x1b") == "a\\nb\\x1b"
    assert len(one_line("x" * 10**6)) == MAX_LENGTH and one_line("x" * 10**6).endswith("x...")


def test_close_options_are_suggested() -> None:
    assert did_you_mean("quikstart", ["quickstart", "other"]) == "; did you mean 'quickstart'?"
    assert did_you_mean("ResNet81", ["resnet18", "resnet8", "vit"], most=2) == "; did you mean 'resnet8' or 'resnet18'?"
    assert did_you_mean("nothing", ["quickstart"]) == ""


def test_options_are_compared_up_to_a_limit() -> None:
    options = [f"layer{number}" for number in range(1000)] + ["head"]
    assert did_you_mean("heda", options) == "" and did_you_mean("heda", options, limit=None) == "; did you mean 'head'?"


def test_suggestions_are_made_in_one_place() -> None:
    using = [
        path.name
        for path in Path(compress.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import) and any(alias.name == "difflib" for alias in node.names)
    ]
    assert using == ["messages.py"]
