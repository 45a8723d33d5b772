"""Results of a run for its experiment trackers."""

from __future__ import annotations

from collections.abc import Iterator

from compress.efficiency.files import name_of
from compress.results.run import RunRecord
from compress.results.variant import Variant
from compress.training.trackers import Trackers


def log_results(trackers: Trackers, record: RunRecord) -> None:
    """Log the figures of every variant, those from the store too."""
    for variant in record.variants:
        trackers.log_results(variant.id, dict(figures(variant)))


def figures(variant: Variant) -> Iterator[tuple[str, float]]:
    """Yield a variant's figures by name: fractions, counts, bytes and milliseconds. Unknown ones are left out."""
    for split, accuracy in (("test", variant.accuracy), ("validation", variant.validation)):
        if accuracy:
            yield f"{split}/top1", accuracy.top1
            yield f"{split}/top1_low", accuracy.ci95[0]
            yield f"{split}/top1_high", accuracy.ci95[1]
    cost = variant.inference
    yield "cost/macs", float(cost.macs)
    yield "cost/parameters", float(cost.params)
    yield "cost/bytes", float(cost.bytes)
    yield "cost/training_macs", float(variant.training.macs)
    if cost.peak_memory_bytes is not None:
        yield "cost/peak_memory_bytes", float(cost.peak_memory_bytes)
    for row in cost.latency:
        yield f"latency_ms/{name_of(row)}/batch{row.batch}", row.p50_ms
    for artifact in variant.artifacts:
        yield f"artifact/{name_of(artifact)}/bytes", float(artifact.bytes)
        if artifact.top1 is not None:
            yield f"artifact/{name_of(artifact)}/top1", artifact.top1
