"""The folder of a sweep: `runs/sweeps/<name>/`, which any number of workers share.

    sweep.json               recipe and space; a worker with others is refused
    trials/<number>.json     a trial that ended
    trials/<number>.begun    its settings, before
    claims/<number>.lease    held by whoever makes it
    locks/open.lease         held while sweep.json is created or read
    locks/propose.lease      held while settings are chosen
    tests/<digest>.json      trials that were tested together on the test images
    sweep.html               the Pareto page
    sweep_results.json       the same as JSON

Each file is written aside and renamed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from compress.results import Record
from compress.store.leases import alone
from compress.sweep.records import Proposal, SweepFile, TestRound, Trial
from compress.utils.atomic import write_atomic
from compress.utils.errors import CompressError, UsageError

R = TypeVar("R", bound=Record)

SWEEPS = "sweeps"
PAGE = "sweep.html"


@dataclass(frozen=True)
class SweepFolder:
    """A sweep on disk.

    Attributes:
        runs: Folder of all runs and of their store.
        name: Name of the sweep.
    """

    runs: Path
    name: str

    @property
    def path(self) -> Path:
        """The folder itself."""
        return self.runs / SWEEPS / self.name

    @property
    def claims(self) -> Path:
        """Folder of the claims of workers."""
        return self.path / "claims"

    @property
    def page(self) -> Path:
        """The Pareto page."""
        return self.path / PAGE

    @property
    def page_from_run(self) -> str:
        """Address of the page in the report of a trial."""
        return f"../../{SWEEPS}/{self.name}/{PAGE}"

    def open(self, about: SweepFile) -> None:
        """Create the folder, or join the sweep that it holds.

        Raises:
            CompressError: it cannot be written.
            UsageError: it holds a sweep over another recipe or space.
        """
        path = self.path / "sweep.json"
        try:
            (self.path / "trials").mkdir(parents=True, exist_ok=True)
            with alone(self.path, "open"):  # or a worker would replace what another one has just begun
                if not path.exists():
                    write_atomic(path, about.to_json() + "\n")
                before = SweepFile.read(path)
        except OSError as error:
            raise CompressError(
                f"cannot write {self.path}: {error.strerror}; choose another folder with --runs"
            ) from error
        except ValidationError as error:
            raise UsageError(f"{path} is damaged; remove {self.path} or choose another --name") from error
        for what, own, theirs in (
            ("recipe", about.recipe_sha256, before.recipe_sha256),
            ("space", about.space_sha256, before.space_sha256),
        ):
            if own != theirs:
                raise UsageError(f"{self.path} holds a sweep with another {what}; choose another --name")

    def trials(self) -> list[Trial]:
        """Read all trials that ended, by number; damaged files count as absent."""
        found = []
        for path in sorted((self.path / "trials").glob("*.json")):
            if trial := _read(Trial, path):
                found.append(trial)
        return found

    def begun(self, ended: Mapping[int, Trial]) -> list[Proposal]:
        """Read the trials that were begun and have not ended."""
        found = (_read(Proposal, path) for path in sorted((self.path / "trials").glob("*.begun")))
        return [each for each in found if each and each.number not in ended]

    def has_ended(self, number: int) -> bool:
        """Whether a trial has ended; one with a damaged file is made again."""
        return _read(Trial, self._trial(number)) is not None

    def proposal(self, number: int) -> Proposal | None:
        """Return the settings of a trial that was begun."""
        return _read(Proposal, self._trial(number).with_suffix(".begun"))

    def begin(self, proposal: Proposal) -> None:
        """Note the settings of a trial. The caller holds its claim."""
        write_atomic(self._trial(proposal.number).with_suffix(".begun"), proposal.to_json() + "\n")

    def end(self, trial: Trial) -> None:
        """Store a trial. The caller holds its claim."""
        write_atomic(self._trial(trial.number), trial.to_json() + "\n")

    def forget_failures(self) -> None:
        """Remove the trials that failed or were refused, so that they are made again with the same settings."""
        for trial in self.trials():
            if trial.state in ("failed", "infeasible"):
                self._trial(trial.number).unlink(missing_ok=True)

    def count_rounds(self, tested: TestRound | None = None) -> int:
        """Note a round of tests, and return how many different ones there were; repeating one does not count."""
        folder = self.path / "tests"
        if tested:
            folder.mkdir(exist_ok=True)
            write_atomic(folder / f"{digest(tested.model_dump(mode='json'))[:16]}.json", tested.to_json() + "\n")
        return len(list(folder.glob("*.json")))

    def _trial(self, number: int) -> Path:
        return self.path / "trials" / f"{number:05d}.json"


def _read(kind: type[R], path: Path) -> R | None:
    try:
        return kind.read(path)
    except (OSError, ValueError):
        return None


def digest(settings: Mapping[str, Any]) -> str:
    """Return the SHA-256 of settings as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
