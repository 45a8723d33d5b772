"""Errors that are for the person: one clear sentence each, no traceback."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class CompressError(Exception):
    """The work failed for a reason that the person can act on. The command line exits with 1.

    The message is one line, whatever the names of files in it hold.
    """

    exit_status = 1

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class UsageError(CompressError):
    """The call or the recipe is wrong. The command line exits with 2."""

    exit_status = 2


@dataclass(frozen=True)
class Problem:
    """One mistake in a recipe: where it is, what was found, what would be right."""

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class SeveralErrors(UsageError):
    """More than one mistake, a line each."""

    def __init__(self, lines: Iterable[str]) -> None:
        Exception.__init__(self, "\n".join(printable(line) for line in lines))


class RecipeError(SeveralErrors):
    """All problems of a recipe at once."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(str(problem) for problem in self.problems)


def printable(text: str) -> str:
    """The text with line ends, control characters and what is no valid Unicode written as `\\x0a`."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def first_line(error: BaseException, longest: int = 200) -> str:
    """First line of an error's message, for a person."""
    return str(error).strip().split("\n")[0][:longest] or type(error).__name__
