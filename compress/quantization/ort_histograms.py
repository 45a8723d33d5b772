"""Histograms of activations for ONNX Runtime's `percentile` and `entropy` observers, batch by batch.

ONNX Runtime's calibrators keep the activations of the whole calibration set, 45 GB for 512 images of ResNet50 at 224
pixels, and stack them, which fails where the last batch is smaller. Here the images pass twice: the first time for the
extremes, the second time for the counts between them, of few enough images at once. The histograms are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Feed = dict[str, NDArray[np.float32]]  # inputs of an ONNX file by name
MAX_BYTES = 1 << 30
"""Activations that are kept at a time. Below it a batch is run whole, so that files have the same bits as before."""


@contextmanager
def histograms_by_batch(feeds: list[Feed]) -> Iterator[None]:
    """Make ONNX Runtime's histogram calibrators read `feeds` in this way; the reader they are given is ignored."""
    from onnxruntime.quantization.calibrate import HistogramCalibrater

    def collect_data(calibrater: Any, _: object) -> None:
        _collect(calibrater, feeds)

    original = HistogramCalibrater.collect_data
    HistogramCalibrater.collect_data = collect_data
    try:
        yield
    finally:
        HistogramCalibrater.collect_data = original


def _collect(calibrater: Any, feeds: list[Feed]) -> None:
    """Give a calibrater the collector that its own `collect_data` would have made."""
    from onnxruntime.quantization.calibrate import HistogramCollector

    collector = HistogramCollector(
        method=calibrater.method,
        symmetric=calibrater.symmetric,
        num_bins=calibrater.num_bins,
        num_quantized_bins=calibrater.num_quantized_bins,
        percentile=calibrater.percentile,
        scenario=calibrater.scenario,
    )
    sizes_alone = calibrater.method == "percentile" and calibrater.symmetric  # counts absolute values
    extremes: dict[str, _Extremes] = {}
    for name, values in _activations(calibrater, feeds):
        extremes[name] = _Extremes.of(values).joined(extremes.get(name))
    for name, values in _activations(calibrater, feeds):
        found, before = extremes[name], collector.histogram_dict.get(name, (0,))[0]
        low, high = (found.nearest, found.farthest) if sizes_alone else (-found.farthest, found.farthest)
        counts, edges = np.histogram(np.abs(values) if sizes_alone else values, calibrater.num_bins, range=(low, high))
        record = (before + counts, edges.astype(values.dtype), found.low, found.high)
        collector.histogram_dict[name] = record if sizes_alone else (*record, found.farthest)
    calibrater.collector = collector


class _Extremes(NamedTuple):
    """The lowest and the highest of some values, and of their absolute values."""

    low: Any
    high: Any
    nearest: Any
    farthest: Any

    @classmethod
    def of(cls, values: NDArray[Any]) -> _Extremes:
        low, high = np.nanmin(values), np.nanmax(values)
        farthest = np.array(max(abs(low), abs(high)), dtype=values.dtype)
        return cls(low, high, np.nanmin(np.abs(values)), farthest)

    def joined(self, other: _Extremes | None) -> _Extremes:
        if other is None:
            return self
        lows = min(self.low, other.low), min(self.nearest, other.nearest)
        highs = max(self.high, other.high), max(self.farthest, other.farthest)
        return _Extremes(lows[0], highs[0], lows[1], highs[1])


def _activations(calibrater: Any, feeds: list[Feed]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the activations to calibrate, flat, by name, as often as the images need runs."""
    session = calibrater.infer_session
    names = [output.name for output in session.get_outputs()]
    step = _images_at_once(session, feeds)
    for feed in feeds:
        ((key, images),) = feed.items()
        for start in range(0, len(images), step):
            for name, values in zip(names, session.run(None, {key: images[start : start + step]}), strict=True):
                if name in calibrater.tensors_to_calibrate and values.size:
                    yield name, values.reshape(-1)


def _images_at_once(session: Any, feeds: list[Feed]) -> int:
    """Return how many images may be run at once."""
    ((key, images),) = feeds[0].items()
    one: int = sum(values.nbytes for values in session.run(None, {key: images[:1]}))
    return max(1, MAX_BYTES // max(1, one))
