"""Data sets of so many images that eight bytes for each of them in memory are too many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LARGE = 2**24  # images from which on labels are kept in less
BLOCK = 2**16  # images at a time


def compact(labels: NDArray[np.integer], classes: int) -> NDArray[np.integer]:
    """Return labels below `classes`, or -1, in the smallest integer type that holds them if they are of a large set."""
    return labels.astype(np.min_scalar_type(-max(classes, 1))) if len(labels) >= LARGE else labels
