"""The table of the essay's claims is whole; `tests/test_docs.py` runs its commands."""

from __future__ import annotations

import re
from pathlib import Path

import compress

README = Path(compress.__file__).parent / "gap" / "README.md"


def test_each_claim_has_a_finding_and_a_command() -> None:
    rows = [line.strip("| ").split(" | ") for line in README.read_text().splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(row[0]) for row in rows] == list(range(1, 18))
    for _, claim, finding, command in rows:
        assert claim and finding and command.startswith("`compress-model ")
