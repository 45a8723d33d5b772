"""Errors that are for the person: one clear sentence each, no traceback."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class CompressError(Exception):
    """The work failed for a reason that the person can act on. The command line exits with 1."""

    exit_status = 1


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


class RecipeError(UsageError):
    """All problems of a recipe at once."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def first_line(error: BaseException, longest: int = 200) -> str:
    """First line of an error's message, for a person."""
    return str(error).strip().split("\n")[0][:longest] or type(error).__name__
