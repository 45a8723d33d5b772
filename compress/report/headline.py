"""The first lines of a report, in words: one sentence for report, terminal and `gap --run`, and one for deployment."""

from __future__ import annotations

import math

from compress.report import formats as f
from compress.results import Headline, InferenceDoublings, LifetimeDoublings, RunRecord, TrainingDoublings, Trend

NONE = 0.005
"""Doublings that round to 0.00."""


def sentence(record: RunRecord) -> str:
    """State the result: accuracy, inference, training, and both over the lifetime."""
    first = record.headline
    if first.reference is None:
        return "No variants were compared: no saving is claimed."
    if first.variant is None or first.inference is None:
        return "No variant is cheaper than its reference."
    tolerance, reference = _points(first.tolerance or 0), f.plain(first.reference)
    if not first.granted:
        return (
            f"No saving is granted: {f.plain(first.variant)} takes {_compute(first.inference)} than {reference}, but "
            f"is not shown to be at most {tolerance} less accurate ({_measured(first)})."
        )
    trend = record.efficiency[0].trend if record.efficiency else None
    runtime = f" ({f.plain(first.file.runtime)})" if first.file else ""
    parts = [
        f"{f.plain(first.variant)}{runtime} is at most {tolerance} less accurate than {reference} ({_measured(first)}) "
        f"and takes {_compute(first.inference)}{_time(first.inference)}{_months(first.inference, trend)}.",
        _training(first.training, reference),
        _life(first.life, reference),
    ]
    return " ".join(part for part in parts if part)


def deployment_line(record: RunRecord) -> str | None:
    """Name the file to deploy with its size, speed and accuracy; None where nothing is granted."""
    first, file = record.headline, record.headline.file
    if file is None:
        return None
    base = next((variant.accuracy for variant in record.variants if variant.id == first.reference), None)
    against = f" against {f.accuracy(base.top1, base.ci95)} of {f.plain(first.reference)}" if base else ""
    speed = ""
    if file.ms_per_image is not None:
        speed = f"{f.milliseconds(file.ms_per_image)} per image in {f.plain(file.runtime)} at batch {file.batch}, "
    return (
        f"To deploy: {f.plain(file.path or 'the network in PyTorch')}, {f.size(file.bytes)}, {speed}"
        f"{f.accuracy(file.top1, file.ci95)} top-1{against}."
    )


def _points(tolerance: float) -> str:
    return f"{100 * tolerance:g} {'point' if 100 * tolerance == 1 else 'points'}"


def _measured(first: Headline) -> str:
    """The loss that was measured, with its interval in the same direction, and the number of images."""
    if first.loss is None or first.loss_ci95 is None:
        return "not compared on the same images"
    low, high = (_signed_points(end) for end in first.loss_ci95)
    return f"measured: {f.points(first.loss, None)}, 95% interval {low} to {high}, {first.images:,} images"


def _signed_points(loss: float) -> str:
    return f"{100 * abs(loss):.1f} {'less' if loss > 0 else 'more'}"


def _compute(saved: InferenceDoublings) -> str:
    """How much less compute per image; where MACs are the same, in bit operations."""
    k, bits = saved.macs, saved.bit_operations
    if k is not None and abs(k) > NONE:
        return f"{abs(k):.2f} doublings {'less' if k > 0 else 'more'} compute (MACs) per image"
    if bits is not None and abs(bits) > NONE:
        return f"the same MACs per image and {abs(bits):.2f} doublings {'fewer' if bits > 0 else 'more'} bit operations"
    return "the same compute per image"


def _time(saved: InferenceDoublings) -> str:
    d = saved.latency
    if d is None:
        return ""
    ends = saved.latency_ci95
    between = f" [{_plain(ends[0])} to {_plain(ends[1])}]" if ends else ""
    return f" ({_plain(d)}{between} in measured time, batch {saved.latency_batch})"


def _plain(doublings: float) -> str:
    return f.signed(doublings).lstrip("+")


def _months(saved: InferenceDoublings, trend: Trend | None) -> str:
    if trend is None or abs(saved.macs or 0) <= NONE:
        return ""
    if saved.months.reason:
        return f", without months of {f.plain(trend.name)}: {saved.months.reason}"
    months, ends = f.months(saved.months.months_of_growth).lstrip("+"), saved.months.growth_interval
    return f": {months} months{_between(ends)} of the {trend.growth:g}x-a-year growth of training compute"


def _between(ends: tuple[float, float] | None) -> str:
    return f" [{ends[0]:.1f} to {ends[1]:.1f}]" if ends else ""


def _training(training: TrainingDoublings | None, reference: str) -> str:
    """What making the variant took or saved, and whether that offsets the gap of training compute."""
    if training is None:
        return f"The training compute of {reference} is not stated, so nothing of the training gap is offset."
    t, against = training.doublings, f.plain(training.against)
    if t is None:
        between = _signed_interval(training.bracket) or " unknown"
        return f"Its training compute against {against} is not resolved (t{between}): it offsets nothing that is shown."
    figure = f"t = {f.signed(t)}{_signed_interval(training.ci95)}"
    if training.bound:
        return _bounded(training, t, against)
    if abs(t) <= NONE:
        return f"Making it took the training compute of {against}, so it offsets none of the training gap."
    months = _gap_months(training)
    if t > 0:
        worth = f"{months} of the training gap, once" if months else "some of the training gap"
        return (
            f"Making it took {t:.2f} doublings less training compute than {against} ({figure}), which offsets {worth}."
        )
    worth = f": it adds {months}, once" if months else ""
    return (
        f"Making it took {-t:.2f} doublings more training compute than {against} ({figure}), so it offsets none of the "
        f"training gap{worth}."
    )


def _bounded(training: TrainingDoublings, t: float, against: str) -> str:
    """A baseline that never reached the variant's accuracy, or the other way round."""
    if training.bound == "at most":
        return f"In training it never reached the accuracy of {against}, so it offsets none of the training gap."
    never = f"{against} would need for its accuracy, which it never reached (t at least {f.signed(t)})"
    if t > NONE:
        worth = _gap_months(training)
        offsets = (
            f"it offsets at least {worth} of the training gap, once"
            if worth
            else "it offsets some of the training gap, once"
        )
        return f"Making it took at least {t:.2f} doublings less training compute than {never}: {offsets}."
    more = f"at most {-t:.2f} doublings more" if t < -NONE else "no more"
    unknown = "whether that offsets any of the training gap is not known"
    return f"Making it took {more} training compute than {never}: {unknown}."


def _signed_interval(ends: tuple[float | None, float | None] | None) -> str:
    """[−2.1 to −1.2]; an end without a bound is left open."""
    if ends is None or ends == (None, None):
        return ""
    low, high = ends
    if low is None or high is None:
        return f" [{'at most' if low is None else 'at least'} {f.signed(high if low is None else low)}]"
    return f" [{f.signed(low)} to {f.signed(high)}]"


def _gap_months(training: TrainingDoublings) -> str | None:
    """2.5 months [2.2 to 2.8], of a gain or of a loss."""
    months, ends = training.months.months_of_gap, training.months.gap_interval
    if months is None:
        return None
    low_high = sorted(map(abs, ends)) if ends else None
    return f"{abs(months):.1f} months{_between((low_high[0], low_high[1]) if low_high else None)}"


def _life(life: LifetimeDoublings | None, reference: str) -> str:
    """Training and inference together."""
    if life is None:
        return ""
    saves = f"save {life.doublings:.2f}" if life.doublings >= 0 else f"cost {-life.doublings:.2f}"
    total = (
        f"Over {_images(life.queries)} images, training and inference together {saves} doublings against {reference}"
    )
    if life.break_even is None:
        return f"{total}; its training is never paid back."
    if life.break_even == 0:
        return f"{total}, from the first image on."
    return f"{total}; it pays off after {_images(life.break_even)}."


def _images(number: float) -> str:
    """10⁹ for a power of ten, else three digits: 246,000."""
    power = round(math.log10(number)) if number >= 1 else 0
    if power >= 6 and number == 10**power:
        return "10" + str(power).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{float(f'{math.ceil(number):.3g}'):,.0f}"
