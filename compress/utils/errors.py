"""Errors and warnings for the user: one clear line each, without a traceback."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class CompressError(Exception):
    """The work failed for a reason that the user can act on. The command line exits with 1.

    The message is one line, whatever the file names in it contain.
    """

    exit_status = 1

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class UsageError(CompressError):
    """The call or the recipe is wrong. The command line exits with 2."""

    exit_status = 2


class CompressWarning(UserWarning):
    """A figure is incomplete. Every warning of the package has this category, so that filters can tell them apart."""


@dataclass(frozen=True)
class Problem:
    """One mistake in a recipe: where it is, and what is wrong and how to fix it."""

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class SeveralErrors(UsageError):
    """Several mistakes, one per line."""

    def __init__(self, lines: Iterable[str]) -> None:
        Exception.__init__(self, "\n".join(printable(line) for line in lines))


class SeveralFailures(CompressError):
    """Several things that failed, one per line."""

    def __init__(self, lines: Iterable[str]) -> None:
        Exception.__init__(self, "\n".join(printable(line) for line in lines))


class RecipeError(SeveralErrors):
    """All problems of a recipe."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(str(problem) for problem in self.problems)


def printable(text: str) -> str:
    """Escape line ends, control characters and invalid Unicode in a text, as `\\n` or `\\x1b`."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def first_line(error: BaseException, longest: int = 200) -> str:
    """Return the first line of an error's message, cut to `longest` characters; without a message, the error's type."""
    return str(error).strip().split("\n")[0][:longest] or type(error).__name__


def last_line(error: BaseException, longest: int = 200) -> str:
    """Return the last line of an error's message, cut to `longest` characters; without a message, the error's type."""
    return str(error).strip().split("\n")[-1][:longest] or type(error).__name__


def is_interruption(error: BaseException) -> bool:
    """Return whether an error came of an interruption: torch's writer of files raises its own when it is left early."""
    cause = error.__context__
    return isinstance(cause, KeyboardInterrupt) or (cause is not None and is_interruption(cause))
