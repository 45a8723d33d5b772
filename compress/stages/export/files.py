"""The files of a variant that an export has written, and why others were left out."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from compress.deployment.export import Target
from compress.stages.export.by_method import FloatParent
from compress.utils.errors import CompressError


@dataclass
class Files:
    """Artifacts by target, and why others were skipped."""

    built: dict[Target, Path]
    left_out: dict[Target, str] = field(default_factory=dict)
    methods: dict[str, str] = field(default_factory=dict)  # of those that are not made from the variant's own network
    source: FloatParent | None = None  # what those are made from

    def leave_out(self, target: Target, error: CompressError) -> None:
        """Leave out a target, and its file unless another runtime reads it."""
        self.left_out[target] = str(error)
        path = self.built.pop(target)
        if path not in self.built.values():
            shutil.rmtree(path.parent, ignore_errors=True)

    @property
    def reasons(self) -> dict[str, str]:
        """Why others were skipped, by name."""
        return {target.name: reason for target, reason in self.left_out.items()}

    def failure(self, auto: bool) -> str:
        """Return the error of an export without a file; `auto` for that of all installed runtimes."""
        every = "; ".join(dict.fromkeys(self.left_out.values()))
        return f"export failed for every installed runtime: {every}" if auto else every
