"""What a saving is worth: intervals, doublings, lifetime costs and trends, as pure arithmetic.

No torch, no files, no clocks: every function takes plain numbers or the records of `results.json` and gives plain
numbers or records back. Costs are multiply-accumulates (MACs) unless a docstring says otherwise.
"""

from compress.efficiency.doublings import doublings, months_of_gap, months_of_growth
from compress.efficiency.intervals import Grant, PairedDifference, grant, images_needed, paired_difference, wilson
from compress.efficiency.savings import worth
from compress.efficiency.training import training_efficiency

__all__ = [
    "Grant",
    "PairedDifference",
    "doublings",
    "grant",
    "images_needed",
    "months_of_gap",
    "months_of_growth",
    "paired_difference",
    "training_efficiency",
    "wilson",
    "worth",
]
