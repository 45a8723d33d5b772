"""The package's own warnings have a category of their own, which no filter of these tests hides."""

from __future__ import annotations

import ast
import warnings
from pathlib import Path

import pytest

import compress
from compress.utils.errors import CompressWarning

PACKAGE = Path(compress.__file__).parent


def test_every_warning_of_the_package_has_our_category() -> None:
    categories = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("warnings.warn", "warn"):
                category = [*node.args[1:2], *(word.value for word in node.keywords if word.arg == "category")]
                categories[f"{path.relative_to(PACKAGE)}:{node.lineno}"] = [ast.unparse(given) for given in category]
    assert categories and all(category == ["CompressWarning"] for category in categories.values()), categories


def test_our_warnings_are_errors_in_tests_and_those_of_libraries_are_not() -> None:
    warnings.warn("a library's", UserWarning, stacklevel=1)
    with pytest.raises(CompressWarning):
        warnings.warn("ours", CompressWarning, stacklevel=1)
