"""What a run could not make: the rest goes on, and the report is of what there is, with the reasons."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from compress.pipeline.plan import part_of
from compress.results.run import Failure
from compress.results.stored import FAILED, FailedFiles
from compress.stages.planned import Plan, PlannedStage
from compress.store.store import Store
from compress.utils.console import say
from compress.utils.errors import CompressError, first_line, is_interruption, printable
from compress.utils.machine_faults import is_machine_fault
from compress.utils.messages import join_words


class RunFailed(CompressError):
    """Some stages or files could not be made, one per line; the report of the others is in `folder`."""

    def __init__(self, failures: Failures, folder: Path) -> None:
        Exception.__init__(self, "\n".join(map(printable, by_reason(failures.reasons))))
        self.folder = folder
        self.exit_status = max(error.exit_status for error in failures.errors) if failures.errors else 1


@dataclass
class Failures:
    """Stages and files that could not be made, in order."""

    rows: list[Failure] = field(default_factory=list)
    errors: list[CompressError] = field(default_factory=list)  # of whole stages
    # (id, reason) for the console: without stages that only need another one
    reasons: list[tuple[str, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.rows)

    def add_stage(self, planned: PlannedStage, error: CompressError) -> None:
        """Add a stage that raised."""
        reason = str(error).removeprefix(f"stage {planned.id}: ")
        self.errors.append(error)
        self.reasons.append((planned.id, reason))
        self.rows.append(Failure(stage=planned.id, reason=reason))

    def add_files(self, planned: PlannedStage, store: Store) -> None:
        """Add the files that a finished export could not make."""
        for runtime, reason in failed_files(store, planned).items():
            self.add_file(planned, runtime, reason)

    def add_file(self, planned: PlannedStage, runtime: str, reason: str) -> None:
        """Add a file that could not be made, or a file or network that could not be evaluated on further images."""
        self.reasons.append((planned.id, f"{runtime}: {reason}"))
        self.rows.append(Failure(stage=planned.id, runtime=runtime, reason=reason))

    def blocks(self, planned: PlannedStage) -> str | None:
        """Return the stage that failed and that this one needs; it is added as failed too."""
        missing = next((name for name in needs(planned) if name in self.stages), None)
        if missing:
            self.rows.append(Failure(stage=planned.id, reason=f"needs {missing}, which failed"))
        return missing

    @property
    def stages(self) -> set[str]:
        """Ids of the stages of which nothing was made."""
        return {row.stage for row in self.rows if row.runtime is None}

    def rest(self, plan: Plan) -> Plan:
        """Return the plan of what was made.

        Raises:
            CompressError: the first error, where no reference of the savings was made: there is nothing to compare.
        """
        rest = part_of(
            plan, [f"{row.stage}/{row.runtime}" if row.runtime else row.stage for row in self.rows], self.stages
        )
        if not rest.references:
            raise self.errors[0]
        return rest


def is_of_work(error: Exception) -> bool:
    """Return whether an error is of what was being made.

    Those of the system would fail every stage in the name of all, also where a folder of the run has vanished.
    """
    if is_interruption(error):
        return False
    return isinstance(error, CompressError) or not (isinstance(error, OSError) or is_machine_fault(error))


def reason_of(error: Exception) -> str:
    """Return why something could not be made, in one line."""
    if isinstance(error, CompressError):
        return str(error)
    return f"unexpected {type(error).__name__}: {first_line(error)}"


def needs(planned: PlannedStage) -> list[str]:
    """Return the ids of the stages that must be made before this one."""
    stage = planned.stage
    start = stage.network_from() if planned.makes_variant else None
    return [name for name in dict.fromkeys((planned.parent, planned.teacher, stage.repeats(), start)) if name]


def by_reason(reasons: Iterable[tuple[str, str]]) -> list[str]:
    """Return a line for each reason, with the stages that it is the reason of."""
    stages: dict[str, list[str]] = {}
    for name, reason in reasons:
        stages.setdefault(reason, []).append(name)
    words = ((f"stage{'s' * (len(names) > 1)} {join_words(names, 'and')}", why) for why, names in stages.items())
    return [f"{names}: {why}" for names, why in words]


def failed_files(store: Store, planned: PlannedStage) -> dict[str, str]:
    """Return why files of a stored export could not be made, by runtime."""
    path = store.path(planned.key) / FAILED
    return FailedFiles.read(path).reasons if path.is_file() else {}


def to_make(stages: Sequence[PlannedStage], store: Store) -> list[PlannedStage]:
    """Return the stages that the store lacks; exports that could not make all of their files are tried again.

    Those that another run uses, or that are read-only, stay as they are.
    """
    for planned in stages:
        if store.has(planned.key) and failed_files(store, planned) and not store.discard_unused(planned.key):
            say(f"{planned.id}: failed files are not tried again: another run uses the others, or they are read-only")
    return [planned for planned in stages if not store.has(planned.key)]


def unmade(stages: Sequence[PlannedStage], store: Store) -> list[PlannedStage]:
    """Return the stages that are not in the store, without reading what is."""
    stored = store.existing([planned.key for planned in stages])
    return [planned for planned in stages if planned.key not in stored]
