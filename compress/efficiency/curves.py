"""Accuracy against training compute: when a curve reaches an accuracy, and how far that depends on the images.

Every array has one row per resample of the validation images; the first row is the curve as measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from compress.results.training import CurvePoint, Training

Floats = NDArray[np.float64]

RESAMPLES = 1000
_CHUNK = 100  # resamples at once, so that 50,000 images take 40 MB


@dataclass(frozen=True)
class Curve:
    """A learning curve.

    Attributes:
        id: Id of the variant.
        macs: Training MACs of each point, ascending, `[points]`.
        top1: Accuracy of each point, `[1 + resamples, points]`.
        floor: MACs spent before the network existed: no accuracy was reached with less.
        selects: Whether the best point is kept rather than the last one.
    """

    id: str
    macs: Floats
    top1: Floats
    floor: float = 0.0
    selects: bool = False

    @property
    def kept(self) -> Floats:
        """Accuracy of the weights that are kept, `[1 + resamples]`."""
        return self.top1.max(1) if self.selects else self.top1[:, -1]

    def shifted(self, macs: float) -> Curve:
        """Return the curve of a variant that took `macs` more than this one."""
        return replace(self, macs=self.macs + macs, floor=self.floor + macs)


@dataclass(frozen=True)
class Reached:
    """MACs with which a curve reaches an accuracy, `[1 + resamples]` each.

    Attributes:
        low: MACs of the point before; of the last point where the accuracy is never reached.
        macs: Logarithm of the MACs interpolated linearly in accuracy between the two points; NaN where the first point
            reaches the accuracy, so that there are no two, or none does.
        high: MACs of the point that reaches it; infinite where none does.
    """

    low: Floats
    macs: Floats
    high: Floats

    @property
    def ends(self) -> tuple[Floats, Floats]:
        """The interpolated MACs twice where there are some, else the two ends."""
        unknown = np.isnan(self.macs)
        return np.where(unknown, self.low, self.macs), np.where(unknown, self.high, self.macs)


def curve(points: Sequence[tuple[float, float]], id: str = "", floor: float = 0.0, *, selects: bool = False) -> Curve:
    """Create a curve from points (MACs, top-1) in any order, without resamples."""
    macs, top1 = np.array(sorted(points), np.float64).reshape(-1, 2).T
    return Curve(id, macs, top1[None], floor, selects)


def reach(curve: Curve, target: Floats, *, stays: bool = False) -> Reached:
    """Find the compute with which a curve reaches an accuracy.

    Args:
        curve: The curve.
        target: Accuracy to reach, `[1 + resamples]`.
        stays: Whether the curve must stay at or above the target from that point on. Otherwise the first point counts.
    """
    macs, top1 = curve.macs, curve.top1
    enough = top1 >= target[:, None]
    if stays:
        enough = np.logical_and.accumulate(enough[:, ::-1], axis=1)[:, ::-1]
    found, first = enough.any(1), enough.argmax(1)
    rows, before = np.arange(len(top1)), np.maximum(first - 1, 0)
    between = found & (first > 0)
    step = np.where(between, top1[rows, first] - top1[rows, before], 1.0)
    share = (target - top1[rows, before]) / step
    return Reached(
        low=np.where(between, macs[before], np.where(found, curve.floor, macs[-1])),
        macs=np.where(between, macs[before] * (macs[first] / macs[before]) ** share, np.nan),
        high=np.where(found, macs[first], np.inf),
    )


def earliest(curves: Sequence[Curve], target: Floats) -> tuple[Reached, int]:
    """Find the compute with which the first of several curves reaches an accuracy, per resample.

    Where none reaches it, the longest curve counts.

    Returns:
        The compute, and the index of the curve that counts as measured.
    """
    reached = [reach(each, target) for each in curves]
    lows, macs, highs = (np.stack([getattr(r, name) for r in reached]) for name in ("low", "macs", "high"))
    spent = np.where(np.isnan(macs), highs, macs)
    best = np.where(np.isinf(spent).all(0), lows.argmax(0), spent.argmin(0))
    columns = np.arange(best.size)
    return Reached(lows[best, columns], macs[best, columns], highs[best, columns]), int(best[0])


def measured_curves(trainings: Mapping[str, Training], images: int = 0, resamples: int = RESAMPLES) -> dict[str, Curve]:
    """Read the curves of variants, with the accuracies on resampled validation images where results per image allow.

    The resamples are the same for all curves, so that differences between curves are those on the same images.

    Args:
        trainings: Training by id of the variant, each with a curve.
        images: Validation images; 0 for no resamples.
        resamples: How often the images are drawn with replacement.
    """
    curves = {
        id: curve([(p.macs, p.top1) for p in one.curve], id, selects=one.selected_on == "validation")
        for id, one in trainings.items()
    }
    points = {id: sorted(one.curve, key=lambda point: (point.macs, point.top1)) for id, one in trainings.items()}
    right = {id: bits for id, each in points.items() if (bits := _bits(each, images)) is not None}
    if not right:
        return curves
    sums = np.concatenate(list(_resampled(np.concatenate(list(right.values())), resamples)))
    ends = np.cumsum([len(bits) for bits in right.values()])
    for id, part in zip(right, np.split(sums / images, ends[:-1], axis=1), strict=True):
        curves[id] = replace(curves[id], top1=np.concatenate([curves[id].top1, part]))
    return curves


def _bits(points: Iterable[CurvePoint], images: int) -> NDArray[np.float32] | None:
    """Unpack the results per image, `[points, images]`; None where a point has none."""
    packed = [bytes.fromhex(point.right or "") for point in points]
    if not images or any(len(each) != -(-images // 8) for each in packed):
        return None
    rows = np.frombuffer(b"".join(packed), np.uint8).reshape(len(packed), -1)
    return np.unpackbits(rows, axis=1, count=images).astype(np.float32)


def _resampled(right: NDArray[np.float32], resamples: int) -> Iterable[Floats]:
    """Yield the images that are right in each resample, `[some resamples, points]`."""
    rng, images = np.random.default_rng(0), right.shape[1]
    for start in range(0, resamples, _CHUNK):
        draws = [rng.integers(images, size=images) for _ in range(min(_CHUNK, resamples - start))]
        counts = np.stack([np.bincount(draw, minlength=images) for draw in draws]).astype(np.float32)
        yield (counts @ right.T).astype(np.float64)
