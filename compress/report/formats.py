"""Formats of figures: units, digits, and the text for unknown ones."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

from compress.utils.messages import significant

Format = Callable[[float | None], str]
UNKNOWN = "not measured"
_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")
_SCALES = {prefix: 1000.0**step for step, prefix in enumerate(_PREFIXES)} | {"m": 1e-3, "µ": 1e-6, "n": 1e-9}
_FIGURE = re.compile(
    r"(?:at (?:least|most) )?([+−-]?[\d,]*\.?\d+(?:e[+-]?\d+)?)"
    r"(?: (?:(min|points (?:less|more|over|under))|([kMGTPEZmµn])))?"
)


def plain(text: object) -> str:
    """Replace control and direction characters, which would break a page or disguise a name."""
    return "".join("\N{REPLACEMENT CHARACTER}" if _hides(c) else c for c in str(text))


def _hides(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs")


def text(value: object) -> str:
    """Plain text; `UNKNOWN` for None."""
    return UNKNOWN if value is None else plain(value)


def names(values: Iterable[str]) -> str:
    """Names as plain text, joined by commas."""
    return ", ".join(map(plain, values))


def short(name: str, max_length: int = 24) -> str:
    """Truncate a name for charts."""
    text = plain(name)
    return text if len(text) <= max_length else text[: max_length - 1] + "…"


def middle(name: str, max_length: int) -> str:
    """Truncate a name for charts in its middle: names of one kind differ at their ends."""
    text = plain(name)
    if len(text) <= max_length:
        return text
    tail = (max_length - 1) // 2
    return f"{text[: max_length - 1 - tail]}…{text[len(text) - tail :]}"


def known(write: Callable[[float], str]) -> Format:
    """Make a format write `UNKNOWN` for None: an unknown figure is never written as 0."""
    return lambda value: UNKNOWN if value is None else write(value)


def _scaled(value: float, unit: str) -> str:
    """Three digits with a decimal prefix: 1.81 GMACs."""
    step = 0 if abs(value) < 1000 else min(len(_PREFIXES) - 1, int(math.log10(abs(value)) // 3))
    number = value / 1000**step
    if abs(float(f"{number:.3g}")) >= 1000 and step < len(_PREFIXES) - 1:
        step, number = step + 1, number / 1000
    digits = f"{number:.0f}" if abs(number) >= 100 or (step == 0 and number == int(number)) else f"{number:.3g}"
    return f"{digits} {_PREFIXES[step]}{unit}".rstrip()


def _small_unit(value: float, unit: str) -> str:
    """Three digits with a prefix below one: 3.1 mJ."""
    for step, prefix in enumerate(("", "m", "µ")):
        if abs(value) * 1000**step >= 1:
            return f"{significant(value * 1000**step)} {prefix}{unit}"
    return f"{value * 1e9:.3g} n{unit}"


def _times(ratio: float) -> str:
    return f"{ratio:.2f}×" if ratio < 10 else f"{ratio:,.1f}×" if ratio < 100 else f"{ratio:,.0f}×"


percent = known(lambda value: f"{100 * value:.1f}%")
macs = known(lambda value: _scaled(value, "MACs"))
count = known(lambda value: _scaled(value, ""))
size = known(lambda value: _scaled(value, "B"))
milliseconds = known(lambda value: f"{significant(value)} ms")
seconds = known(lambda value: f"{value:.0f} s" if value < 120 else f"{value / 60:.1f} min")
joules = known(lambda value: _scaled(value, "J") if value >= 1000 else _small_unit(value, "J"))
grams = known(lambda value: _scaled(value, "g") if value >= 1000 else _small_unit(value, "g"))
times = known(_times)
signed = known(lambda value: f"{value:+.2f}".replace("-", "−") if abs(value) >= 0.005 else "0.00")
months = known(lambda value: f"{value:+.1f}".replace("-", "−") if abs(value) >= 0.05 else "0.0")
small = known(lambda value: f"{value:.2g}")
queries = known(lambda value: _scaled(float(math.ceil(value)), ""))


def accuracy(top1: float, ci95: Sequence[float]) -> str:
    """78.2% (76.5 to 79.8%): top-1 with its 95% interval."""
    return f"{percent(top1)} ({100 * ci95[0]:.1f} to {100 * ci95[1]:.1f}%)"


def points(difference: float | None, ends: Sequence[float] | None) -> str:
    """1.2 points less (0.3 to 2.1): a difference of accuracies in points, with its direction."""
    if difference is None:
        return UNKNOWN
    direction = 1 if difference >= 0 else -1
    value = f"{100 * abs(difference):.1f} points {'less' if difference > 0 else 'more'}"
    if round(1000 * difference) == 0:
        value, direction = "0.0 points", 1
    if not ends:
        return value
    low, high = sorted(100 * direction * end for end in ends)
    return f"{value} ({low:.1f} to {high:.1f})".replace("-", "−")


def interval(ends: Sequence[float] | None) -> str:
    """(2.1 to 2.4): the 95% interval of a ratio; empty where there is none."""
    return f" ({_times(ends[0])[:-1]} to {_times(ends[1])[:-1]})" if ends else ""


def open_interval(ends: Sequence[float | None] | None) -> str:
    """−2.1 to −1.5: an interval of doublings, which may be open at an end."""
    low, high = ends or (None, None)
    if low is not None and high is not None:
        return f"{signed(low)} to {signed(high)}"
    if low is not None:
        return f"at least {signed(low)}"
    return "unknown" if high is None else f"at most {signed(high)}"


def sort_value(text: str) -> float | None:
    """Parse the figure at the start of a cell, in units without prefix, for sorting."""
    match = _FIGURE.match(text)
    if match is None:
        return None
    number, unit, prefix = match.groups()
    value = float(number.replace("−", "-").replace(",", "")) * _SCALES[prefix or ""]
    return value * {"min": 60.0, "points more": -1.0, "points under": -1.0}.get(unit or "", 1.0)
