"""Losses of a distillation, one file each: settings, what the loss needs, and the loss as a function of tensors.

The functions compute in float32 (in float64 when given it), also when given half precision or called under autocast,
and return a scalar: the mean over the images that the loss applies to. torch is imported where a loss is computed, not
here: recipes read the settings without it.
"""

from __future__ import annotations

import compress.recipe.losses  # noqa: F401  # first, as it imports every module here that the registry names
