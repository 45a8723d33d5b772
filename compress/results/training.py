"""The training ledger: all compute that was spent to make a variant, its ancestors included."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from compress.results.base import Count, Fraction, Number, Record, absent

SelectedOn = Literal["last", "validation", "test"]


class TrainingPart(Record):
    """One item of the ledger."""

    what: str = Field(description="What the compute was spent on")
    macs: Count = Field(description="Multiply-accumulates")


class CurvePoint(Record):
    """Accuracy at one moment of training."""

    macs: Count = Field(description="Training MACs spent so far")
    top1: Fraction = Field(description="Top-1 on validation")
    right: str | None = absent(
        "One bit per validation image, 1 where the prediction is correct; hexadecimal, most significant bit first"
    )


class Divergence(Record):
    """A return to the last good state with a lower learning rate."""

    epoch: Count = Field(description="Epoch in which the loss diverged")
    loss: str = Field(description="Loss at that moment; text, because it may be nan or inf")


class Ledger(Record):
    """Training ledger as a stage stores it. Immutable: whatever spends compute returns a new one.

    Ledgers of earlier versions may lack `interrupted`, `diverged` and `selected_on`.
    """

    macs: Count = Field(description="Multiply-accumulates of training, forward and backward")
    parts: tuple[TrainingPart, ...] = Field(description="What they were spent on")
    interrupted: Count | None = absent("MACs lost to interruptions, a lower bound; not included in macs")
    diverged: tuple[Divergence, ...] = Field((), description="Every return to an earlier state")
    wall_s: float = Field(description="Seconds of training")
    views: dict[str, Count] = Field(
        description="Views that teachers have embedded, by a key of what determines the embeddings"
    )
    curve: tuple[CurvePoint, ...] = Field(description="Accuracy over the course of training")
    selected_on: SelectedOn = Field("last", description="Split used for checkpoint selection, or the last epoch")
    steps: Count | None = absent("Optimizer steps of the last fit")
    precision: str | None = absent("Number format and memory layout of the weights in the last fit")

    @classmethod
    def start(cls, parent: Ledger | None = None) -> Ledger:
        """Start a ledger, with everything that was spent on the variant that the new one is made from."""
        if parent is None:
            return cls(macs=0, parts=(), interrupted=0, wall_s=0.0, views={}, curve=())
        return parent.model_copy(
            update={"interrupted": parent.interrupted or 0, "curve": (), "steps": None, "precision": None}
        )

    def charge(self, what: str, macs: float) -> Ledger:
        """Return the ledger with one more part."""
        part = TrainingPart(what=what, macs=int(macs))
        return self.model_copy(update={"parts": (*self.parts, part), "macs": self.macs + part.macs})


class TrainingEnergy(Record):
    """Energy of training."""

    value: float | None = Field(description="Joules of all training")
    method: str | None = Field(description="Starts with 'measured' or 'estimated' and names the source")


class TeacherPretraining(Record):
    """Training of the teacher itself, which the ledger does not include."""

    macs: Number | None = Field(description="Multiply-accumulates in full; 0 without a teacher, null where unknown")
    fine_tuning: Number | None = absent("Those of its fine-tuning alone, where it was fine-tuned")
    source: str | None = Field(description="Where the figure comes from")


class StartPretraining(Record):
    """Training of the weights that a variant starts from, which the ledger does not include."""

    macs: Number | None = Field(description="Multiply-accumulates; 0 for random weights, null where unknown")
    source: str | None = Field(description="Where the figure comes from")


class Training(Record):
    """Cost of making the variant, its ancestors included."""

    macs: Count = Field(description="Multiply-accumulates of training, forward and backward")
    parts: tuple[TrainingPart, ...] = Field(description="What they were spent on")
    wall_s: float = Field(description="Seconds of training")
    energy_j: TrainingEnergy = Field(description="Energy of training")
    curve: tuple[CurvePoint, ...] = Field(description="Accuracy over the course of training")
    selected_on: SelectedOn | None = Field(
        None, description="Split used for checkpoint selection: validation or test; last: the last epoch is kept"
    )
    interrupted: Count | None = Field(
        None, description="MACs lost to interruptions, a lower bound; not included in macs"
    )
    diverged: tuple[Divergence, ...] = Field(
        (), description="Every return to the last good state with a lower learning rate"
    )
    precision: str | None = Field(
        None, description="Number format and memory layout of the weights in the last fit, such as 32-true, contiguous"
    )
    teacher_pretraining: TeacherPretraining | None = Field(
        None, description="Training of the teacher itself; not included in macs"
    )
    start_pretraining: StartPretraining | None = absent("That of the weights it starts from; not included in macs")
