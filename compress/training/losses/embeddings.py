"""Losses between embeddings `[batch, width]` of student and teacher.

The student's have been projected to the teacher's width, except for the relational losses, where widths may differ.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from compress.training.losses._precision import full_precision


@full_precision
def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cosine of the angle between the student's and the teacher's embeddings.

    Half the squared distance of the two when they are scaled to length 1 (FitNets' hint, arXiv 1412.6550, on what
    OpenCLIP compares by cosine).
    """
    return 1 - (_unit(student) * _unit(teacher)).sum(1).mean()


@full_precision
def mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference, the mean over images and numbers."""
    return F.mse_loss(student, teacher)


@full_precision
def smooth_l1(student: Tensor, teacher: Tensor, beta: float = 1.0) -> Tensor:
    """d^2 / (2 beta) of differences d below `beta`, |d| - beta / 2 of others; the mean over images and numbers."""
    return F.smooth_l1_loss(student, teacher, beta=beta)


@full_precision
def rkd_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Relational distillation of distances: Huber loss (delta 1) of those of all pairs of images, arXiv 1904.05068.

    The distances of each side are divided by the mean of its nonzero ones. As in the authors' code the mean is over
    batch^2 pairs, those of an image with itself (0) included. A single image gives 0.
    """
    return F.smooth_l1_loss(_distances(student), _distances(teacher))


@full_precision
def rkd_angle(student: Tensor, teacher: Tensor) -> Tensor:
    """Relational distillation of angles: Huber loss (delta 1) of their cosines, arXiv 1904.05068.

    For images a, b, c it is the cosine of the angle at a between the ways to b and to c, 0 where one of these has no
    length. As in the authors' code the mean is over all batch^3 triples. It takes memory for batch^2 (batch + width)
    numbers. One or two images give 0.
    """
    return F.smooth_l1_loss(_angles(student), _angles(teacher))


@full_precision
def crd(student: Tensor, teacher: Tensor, negatives: Tensor, temperature: float = 0.07) -> Tensor:
    """Contrastive representation distillation by noise-contrastive estimation, arXiv 1910.10699 (eq. 17 to 19).

    `negatives` `[count, width]` are the teacher's embeddings of other images. With e = exp(cosine / T) the critic
    h = e / (e + count Z) is the probability that an embedding is the teacher's of the same image, and the loss is
    -log h(teacher) - the sum over the negatives of log(1 - h). Z is the mean of e over the batch's negatives, taken
    as a constant. Eq. 19 has count / M in place of count Z, M being the number of train images, and the authors' code
    divides e by M Z, so that M cancels; without Z the negatives would outweigh the one positive `count` times.

    Unlike the authors' code, which adds the loss with the teacher as the anchor, holds both sides in memory banks of
    running means and fixes Z in the first step, the student is the only anchor, negatives are the stored embeddings
    themselves, the same for all images of the batch, and Z is that of the step. The teacher's side is not projected.
    """
    anchors = _unit(student)
    positive = (anchors * _unit(teacher)).sum(1) / temperature
    negative = anchors @ _unit(negatives).T / temperature
    noise = negative.detach().flatten().logsumexp(0) - math.log(len(negative))  # log(count Z)
    return (F.softplus(noise - positive) + F.softplus(negative - noise).sum(1)).mean()


def _unit(x: Tensor) -> Tensor:
    """Scaled to length 1; without a length it stays 0, with a gradient of ordinary size."""
    length = x.norm(dim=-1, keepdim=True)
    return x / torch.where(length > 0, length, 1.0)


def _distances(x: Tensor) -> Tensor:
    # Not by matrix products: differences of squares make the distances of equal images nonzero.
    distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    mean = distances.sum() / (distances > 0).sum().clamp_min(1)
    return distances / torch.where(mean > 0, mean, 1.0)


def _angles(x: Tensor) -> Tensor:
    ways = _unit(x[None] - x[:, None])
    return ways @ ways.transpose(1, 2)
