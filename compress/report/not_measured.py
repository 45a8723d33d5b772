"""What a run does not know, in sentences."""

from __future__ import annotations

from collections.abc import Callable

from compress.efficiency.files import name_of
from compress.report import energy
from compress.report import formats as f
from compress.results import RunRecord, Variant

_MEASURES: tuple[tuple[str, Callable[[Variant], object]], ...] = (
    ("Latency", lambda v: v.inference.latency or None),
    ("Peak memory", lambda v: v.inference.peak_memory_bytes),
    ("Energy of inference", lambda v: v.inference.energy_j.value),
    ("Energy of training", lambda v: v.training.energy_j.value),
)


def not_measured(record: RunRecord) -> list[str]:
    """List what the run does not know, in sentences: every null that could be mistaken for 0."""
    variants, lines = record.variants, []
    for name, measured in _MEASURES:
        missing = [variant.id for variant in variants if measured(variant) is None]
        if missing:
            lines.append(f"{name} of {'any variant' if len(missing) == len(variants) else f.names(missing)}.")
    if guessed := f.names(variant.id for variant in variants if energy.is_estimated(variant)):
        why = "estimated from a stated power, so its doublings are those of latency"
        lines.append(f"Energy of inference of {guessed}: {why}.")
    for variant in variants:
        for artifact in variant.artifacts:
            if artifact.top1 is None:
                why = f" ({f.plain(artifact.not_run)})" if artifact.not_run else ""
                lines.append(f"Accuracy of {f.plain(variant.id)} in {f.plain(name_of(artifact))}{why}.")
    for host in record.hosts or ():
        if host.reason:
            lines.append(f"Files for {f.plain(host.runtime)} on another machine: {f.plain(host.reason)}.")
    if any(pair.with_teacher_pretraining.macs is None for pair in record.training_efficiency):
        before = "earlier training (of the teacher, or of weights that a network starts from)"
        lines.append(f"Compute of {before}, which training efficiency therefore leaves out.")
    lines += [
        f"{f.plain(variant.id)} against {f.plain(savings.reference)} on the same images."
        for savings in record.efficiency
        for variant in savings.variants
        if variant.accuracy_difference is None
    ]
    if variants:
        names = [record.environment.cpu, record.environment.gpu]
        names += [host.machine.processor for host in record.hosts or () if host.machine]
        machine = " and ".join(f.plain(name) for name in dict.fromkeys(names) if name)
        lines.append(f"Any other device: time, memory and energy are those of {machine}.")
    return lines
