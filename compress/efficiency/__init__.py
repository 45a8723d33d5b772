"""The worth of a saving: intervals, doublings, lifetime costs, trends, and the typed records made with them.

No torch, no files, no clocks. `doublings`, `intervals`, `lifetime` and `trends` are arithmetic on plain numbers; the
other modules apply it to the records of `compress.results`. Costs are multiply-accumulates (MACs) unless a docstring
says otherwise.
"""

from compress.efficiency.doublings import doublings, months_of_gap, months_of_growth
from compress.efficiency.grants import grant
from compress.efficiency.intervals import Grant, PairedDifference, images_needed, paired_difference, wilson

__all__ = [
    "Grant",
    "PairedDifference",
    "doublings",
    "grant",
    "images_needed",
    "months_of_gap",
    "months_of_growth",
    "paired_difference",
    "wilson",
]
