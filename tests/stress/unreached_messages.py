"""Run the tests under coverage, and list the error messages that none of them reaches.

    python tests/stress/unreached_messages.py                        # the fast tests, in about three times their time
    python tests/stress/unreached_messages.py -m "" tests/deployment  # other arguments for pytest

A message is a `raise` of one of the package's own errors, or a problem of a recipe. Those of optional packages that are
not installed are never reached. Exit status 1: a test failed, or a message was not reached.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from coverage import CoverageData

PACKAGE = Path(__file__).resolve().parents[2] / "compress"
ERRORS = {"CompressError", "UsageError", "RecipeError", "Diverged"}
SETTINGS = """\
[run]
parallel = true
data_file = {folder}/data
source = {package}
patch = _exit, fork
sigterm = true
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        settings = Path(temporary) / "settings"
        settings.write_text(SETTINGS.format(folder=temporary, package=PACKAGE))
        # Every Python that starts with this variable is measured, including the processes that tests start.
        variables = {**os.environ, "COVERAGE_PROCESS_START": str(settings)}
        arguments = sys.argv[1:] or ["-n", "auto", "--maxprocesses", "4", "--dist", "loadfile"]
        done = subprocess.run([sys.executable, "-m", "pytest", *arguments], env=variables, cwd=PACKAGE.parent)
        reached = _reached(Path(temporary))
    messages = list(_messages())
    missed = [(file, line, text) for file, line, text in messages if line not in reached[file]]
    for file, line, text in missed:
        print(f"{file.relative_to(PACKAGE.parent)}:{line}: {text[:160]}")
    print(f"{len(messages) - len(missed)} of {len(messages)} messages reached")
    sys.exit(bool(done.returncode or missed))


def _reached(folder: Path) -> dict[Path, set[int]]:
    lines: dict[Path, set[int]] = defaultdict(set)
    for file in folder.glob("data.*"):
        data = CoverageData(str(file))
        data.read()
        for name in data.measured_files():
            lines[Path(name)].update(data.lines(name) or ())
    return lines


def _messages() -> Iterator[tuple[Path, int, str]]:
    for file in sorted(PACKAGE.rglob("*.py")):
        raised = ERRORS | {"ValueError"} if file.parent.name == "recipe" else ERRORS  # pydantic makes problems of it
        for node in ast.walk(ast.parse(file.read_text())):
            made = node.exc if isinstance(node, ast.Raise) else node
            kinds = raised if isinstance(node, ast.Raise) else {"Problem"}
            if isinstance(made, ast.Call) and isinstance(made.func, ast.Name) and made.func.id in kinds:
                yield file, made.lineno, ast.unparse(made)


if __name__ == "__main__":
    main()
