"""Losses: pure functions of tensors. Each gives the mean over the images that it applies to, as a scalar.

They compute in float32 (in float64 when given it), also when given half precision or called under autocast.
"""

from __future__ import annotations

from compress.training.losses.embeddings import cosine, crd, mse, rkd_angle, rkd_distance, smooth_l1
from compress.training.losses.features import attention_transfer, hint
from compress.training.losses.labels import labelled_cross_entropy
from compress.training.losses.logits import dist, dkd, kd, kd_standardized

__all__ = [
    "attention_transfer",
    "cosine",
    "crd",
    "dist",
    "dkd",
    "hint",
    "kd",
    "kd_standardized",
    "labelled_cross_entropy",
    "mse",
    "rkd_angle",
    "rkd_distance",
    "smooth_l1",
]
