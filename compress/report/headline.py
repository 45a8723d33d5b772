"""The first lines of a report, in words: one sentence for report, terminal and `gap --run`, and one for deployment."""

from __future__ import annotations

import math

from compress.efficiency.compute import earlier_macs, start_macs, teacher_macs
from compress.efficiency.files import base_file, name_of
from compress.efficiency.metric import METRIC_WORDS
from compress.efficiency.months import is_above_zero
from compress.report import formats as f
from compress.results import (
    Headline,
    InferenceDoublings,
    LifetimeDoublings,
    RunRecord,
    TrainingDoublings,
    Trend,
    Variant,
)
from compress.utils.precision import file_name

NONE = 0.005
"""Doublings that round to 0.00."""
GAP = "the training gap"


def sentence(record: RunRecord) -> str:
    """State the result: accuracy, inference, training, and both over the lifetime."""
    first = record.headline
    if first.reference is None:
        return "No variants were compared: no saving is claimed."
    if first.variant is None or first.inference is None:
        return f"No saving is granted: {f.plain(first.reason or 'no variant is cheaper than its reference')}."
    tolerance, reference, variant = _points(first.tolerance or 0), f.plain(first.reference), f.plain(first.variant)
    accurate = f"less accurate{METRIC_WORDS[first.metric]}"
    if not first.granted:
        return (
            f"No saving is granted: {variant} takes {_compute(first.inference)} than {reference}, but is not shown to "
            f"be at most {tolerance} {accurate} ({_measured(first)})."
        )
    trend = record.efficiency[0].trend if record.efficiency else None
    file = f" ({f.plain(name_of(first.file))})" if first.file else ""
    parts = [
        f"{variant}{file} is at most {tolerance} {accurate} than {reference} ({_measured(first)}) and takes "
        f"{_compute(first.inference)}{_time(first)}{_months(first.inference, trend)}.",
        _training(first.training, variant, reference, _rests_on_earlier(record)) + _curves(first),
        _unstated(record),
        _life(first.life, reference),
    ]
    return " ".join(part for part in parts if part)


def deployment_line(record: RunRecord) -> str | None:
    """Name the file to deploy with its size, speed and accuracy; None where nothing is granted."""
    first, file = record.headline, record.headline.file
    if file is None:
        return None
    reference = next((variant for variant in record.variants if variant.id == first.reference), None)
    against = _against(reference) if reference else ""
    speed = ""
    if file.ms_per_image is not None:
        speed = f"{f.milliseconds(file.ms_per_image)} per image in {f.plain(name_of(file))} at batch {file.batch}, "
    return (
        f"To deploy: {f.plain(file.path or 'the network in PyTorch')}, {f.size(file.bytes)}, {speed}"
        f"{f.accuracy(file.top1, file.ci95)} top-1{against}."
    )


def _against(reference: Variant) -> str:
    """State the accuracy that a file is granted against: of a quantized reference, that of its best file."""
    base = base_file(reference)
    if base.top1 is None or base.ci95 is None:
        return ""
    file = f" ({f.plain(name_of(base))})" if base.path else ""
    return f" against {f.accuracy(base.top1, base.ci95)} of {f.plain(reference.id)}{file}"


def _points(tolerance: float) -> str:
    return f"{100 * tolerance:g} {'point' if 100 * tolerance == 1 else 'points'}"


def _measured(first: Headline) -> str:
    """The difference that was measured, with its interval in the same direction, and the number of images."""
    if first.loss is None or first.loss_ci95 is None:
        return "not compared on the same images"
    low, high = map(_lower, first.loss_ci95)
    images = "1 image" if first.images == 1 else f"{first.images:,} images"
    return f"measured: {_lower(first.loss, ' points')}, 95% CI {low} to {high}, {images}"


def _lower(loss: float, unit: str = "") -> str:
    """1.1 points higher."""
    value = round(100 * abs(loss), 1)
    return f"{value:.1f}{unit}" + (f" {'lower' if loss > 0 else 'higher'}" if value else "")


def _doublings(d: float) -> str:
    """1.01 doublings (2.0x)."""
    return f"{abs(d):.2f} doublings ({f.times(2 ** abs(d)).replace('×', 'x')})"


def _compute(saved: InferenceDoublings) -> str:
    """How much less compute per image; where only one of MACs and bit operations is less, in both."""
    k, bits = saved.macs or 0.0, saved.bit_operations or 0.0
    fewer = f"{_doublings(bits)} {'fewer' if bits > 0 else 'more'} bit operations per image"
    if k > NONE:
        return f"{_doublings(k)} less compute (MACs){f' but {fewer}' if bits < -NONE else ' per image'}"
    if abs(k) <= NONE:
        return f"the same MACs and {fewer}" if abs(bits) > NONE else "the same compute per image"
    return f"{_doublings(k)} more compute (MACs) but {fewer}"


def _time(first: Headline) -> str:
    """Measured time of the two fastest granted files, and whose runtimes these are."""
    saved = first.inference
    if saved is None or saved.latency is None or first.file is None:
        return ""
    sign, faster = (1, "faster") if saved.latency >= 0 else (-1, "slower")
    ends = sorted(sign * end for end in saved.latency_ci95 or ())
    between = f" [{_plain(ends[0])} to {_plain(ends[1])}]" if ends else ""
    reference = saved.reference_runtime and file_name(saved.reference_runtime, saved.reference_precision)
    where = f"{f.plain(name_of(first.file))} against {f.plain(reference)}, batch {saved.latency_batch}"
    return f" ({_doublings(saved.latency)}{between} {faster} in measured time, {where})"


def _plain(doublings: float) -> str:
    return f.signed(doublings).lstrip("+")


def _months(saved: InferenceDoublings, trend: Trend | None) -> str:
    if trend is None or abs(saved.macs or 0) <= NONE:
        return ""
    months = saved.months.months_of_growth
    if months is None:
        return f" (no months: {f.plain(trend.name)}, {saved.months.reason or 'no growth'})"
    of = f"of the {trend.growth:g}x-a-year growth of training compute"
    return f": {_span(months, saved.months.growth_interval)} {of}" if months > 0 else f": it costs {_span(months)} {of}"


def _span(months: float, ends: tuple[float, float] | None = None) -> str:
    """2.5 months [2.2 to 2.8], of a gain or of a loss; what is below 0 is the other of the two."""
    sign = 1 if months >= 0 else -1
    low, high = sorted(sign * end for end in ends) if ends else (None, None)
    return f"{abs(months):.1f} months" + (f" [{low:.1f} to {high:.1f}]".replace("-", "−") if low is not None else "")


def _compared(record: RunRecord) -> list[Variant]:
    """The variants whose training compute the headline compares."""
    first = record.headline
    names = {first.variant, first.reference, first.training.against if first.training else None}
    return [variant for variant in record.variants if variant.id in names]


def _rests_on_earlier(record: RunRecord) -> bool:
    """Whether earlier training is in what the headline compares."""
    return any(earlier_macs(variant) for variant in _compared(record))


def _unstated(record: RunRecord) -> str:
    """Name the earlier training whose compute is not known, so that nothing is claimed of it."""
    taught = [variant.id for variant in _compared(record) if teacher_macs(variant) is None]
    started = [variant.id for variant in _compared(record) if start_macs(variant) is None]
    parts = [f"of the teacher or network of {f.names(taught)}"] if taught else []
    parts += [f"of the first weights of {f.names(started)}"] if started else []
    return f"Not stated, so not counted: the training {' and '.join(parts)}." if parts else ""


def _training(training: TrainingDoublings | None, variant: str, reference: str, earlier: bool) -> str:
    """What making the variant took or saved, and whether that offsets the gap of training compute."""
    if training is None:
        return (
            f"Training compute is not known in full of both {variant} and {reference}, so nothing of {GAP} is offset."
        )
    t, against, bound = training.doublings, f.plain(training.against), training.bound
    if t is None:
        return f"Its training compute against {against} cannot be determined: no offset of {GAP} is shown."
    if bound is None and abs(t) <= NONE:
        whole = ", earlier training included" if earlier else ""
        return f"Making it took the same training compute as {against}{whole}, so it offsets none of {GAP}."
    never = f", which never reached {variant}'s accuracy" if training.censored == "baseline" else ""
    between = "" if bound == "at least" else _signed_interval(training.ci95)
    than, figure = f"{against}{never}", f"t {bound or '='} {f.signed(t)}{between}"
    gain = t > NONE
    limit = "" if bound is None else "at least " if gain == (bound == "at least") else "at most "
    compute = "training compute, earlier training included," if earlier else "training compute"
    took = f"Making it took {limit}{_doublings(t)} {'less' if gain else 'more'} {compute} than {than} ({figure})"
    return f"{took}, {_offset(training, t)}."


def _curves(first: Headline) -> str:
    """State which accuracy the curves of training are of, where it is not that which has to be equal."""
    if first.training is None or first.training.curves is None or first.metric == first.training.curves:
        return ""
    return " Training is compared at equal top-1."


def _offset(training: TrainingDoublings, t: float) -> str:
    """Whether doublings of training compute offset anything of the gap, and how many months."""
    _, high = training.ci95 or (t, t)
    worth = training.months.months_of_gap
    months = _span(worth, training.months.gap_interval) if worth is not None else None
    least = "at least " if training.bound else ""
    if t > 0:
        if training.bound == "at most":
            return f"and whether that offsets any of {GAP} is not known"
        unsure = not is_above_zero(training.ci95)
        size = f"{least}{months} of {GAP}, once" if months else f"some of {GAP}, once"
        return f"which offsets {size}" + (", or none: the interval includes 0" if unsure else "")
    if training.bound == "at least":
        return f"and whether that offsets any of {GAP} is not known"
    if high is None or high >= 0 > t:
        return f"so no offset of {GAP} is shown"
    return f"so it offsets none of {GAP}" + (f": it adds {least}{months}, once" if months else "")


def _signed_interval(ends: tuple[float | None, float | None] | None) -> str:
    return "" if ends in (None, (None, None)) else f" [{f.open_interval(ends)}]"


def _life(life: LifetimeDoublings | None, reference: str) -> str:
    """Training and inference together, in MACs."""
    if life is None:
        return ""
    over = f"Over {_images(life.queries)} images, training and inference together"
    if abs(life.doublings) <= NONE:
        return f"{over} take the MACs of {reference}."
    saves = f"save {_doublings(life.doublings)} of" if life.doublings > 0 else f"cost {_doublings(life.doublings)} more"
    total = f"{over} {saves} MACs against {reference}"
    if life.break_even is None:
        return f"{total}."
    return (
        f"{total}; it pays off after {_images(life.break_even)}." if life.break_even else f"{total}, from the first on."
    )


def _images(number: float) -> str:
    """10⁹ for a power of ten, else three digits: 246,000, or 2.5 × 10¹²."""
    mantissa, power = f"{number:.2e}".split("e") if number >= 1 else ("0", "0")
    raised = "10" + str(int(power)).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    if int(power) >= 6 and number == 10 ** int(power):
        return raised
    return f"{float(mantissa):g} × {raised}" if number >= 1e12 else f"{float(f'{math.ceil(number):.3g}'):,.0f}"
