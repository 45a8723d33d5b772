"""Records of a gate: what `gate --json` prints."""

from __future__ import annotations

from pydantic import Field

from compress.efficiency.verdict import Comparison, Verdict
from compress.gate.rules import Basis, UnitName
from compress.results.base import Count, Interval, Record


class Check(Record):
    """One rule on one variant. Shares are fractions, sizes bytes, latencies ms; a ratio of 0.05 is +5%."""

    variant: str = Field(description="Id of the variant")
    rule: str = Field(description="The rule, of one metric")
    metric: str = Field(description="The metric")
    basis: Basis = Field(
        description="Whether the run's figure, its difference from the baseline, or the ratio is bounded"
    )
    unit: UnitName = Field(description="Unit of the figures; a share is a fraction")
    comparison: Comparison = Field(description="Side of the bound")
    bound: float = Field(description="The bound, in the unit of the figures, or a ratio")
    baseline: float | None = Field(description="The baseline's figure; null where it has none")
    value: float | None = Field(description="The run's figure; null where it has none")
    measured: float | None = Field(description="What the rule bounds: the figure, the difference, or the ratio - 1")
    ci95: Interval | None = Field(description="95% interval of measured; null where it is counted or unknown")
    images: Count | None = Field(description="Test images that measured rests on; null where it rests on none")
    images_needed: Count | None = Field(description="Test images that could tell, where these cannot")
    compared: str = Field(description="How it was measured, or why it is unknown")
    verdict: Verdict = Field(description="pass, fail or cannot tell")


class GatedRun(Record):
    """A run of a gate."""

    id: str = Field(description="Id of the run")
    path: str = Field(description="Its folder, or file of results")
    recipe: str = Field(description="Name of its recipe")
    started: str = Field(description="Start, ISO 8601, UTC")


class Gate(Record):
    """A run checked against a baseline."""

    verdict: Verdict = Field(description="fail if a rule fails, else cannot tell if one cannot be told, else pass")
    exit_status: int = Field(description="0 pass, 3 fail, 4 cannot tell")
    run: GatedRun = Field(description="The run")
    baseline: GatedRun = Field(description="What it is checked against")
    tests: Count = Field(
        description="Checks that rest on a sample of images; failures hold at 95% for all of them together"
    )
    checks: tuple[Check, ...] = Field(description="Every rule on every variant")
    remarks: tuple[str, ...] = Field(description="Variants of one run only, changed files and other restrictions")
