"""Losses between logits of student and teacher, both `[batch, classes]` of two classes or more."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from compress.training.losses._precision import full_precision


@full_precision
def kd(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Knowledge distillation: T^2 KL(softmax(teacher / T) || softmax(student / T)), arXiv 1503.02531.

    T^2 keeps the size of the gradients when T changes.
    """
    return _divergence(student / temperature, teacher / temperature) * temperature**2


@full_precision
def kd_standardized(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """`kd` of logits that each image's mean and standard deviation were taken out of, arXiv 2403.01427.

    The deviation is the sample's (classes - 1) with 1e-7 added, as in the authors' code, which the published results
    come from; Algorithm 1 of the paper divides by the number of classes. The two differ as temperatures would.
    """
    return kd(_standardized(student), _standardized(teacher), temperature)


@full_precision
def dkd(
    student: Tensor, teacher: Tensor, target: Tensor, temperature: float, alpha: float = 1.0, beta: float = 8.0
) -> Tensor:
    """Decoupled knowledge distillation: T^2 (alpha TCKD + beta NCKD), arXiv 2203.08679.

    TCKD is the divergence of (target, all other classes together), NCKD that of the other classes among themselves.
    `kd` is alpha = 1 with beta = 1 - the teacher's probability of the target, image by image. `target` is int64
    `[batch]`, each a class number (no -1).
    """
    classes = student.shape[1]
    is_target = F.one_hot(target, classes).bool()

    def parts(logits: Tensor) -> tuple[Tensor, Tensor]:
        one, others = logits[is_target] / temperature, logits[~is_target].view(-1, classes - 1) / temperature
        return torch.stack([one, others.logsumexp(1)], 1), others

    (student_binary, student_others), (teacher_binary, teacher_others) = parts(student), parts(teacher)
    tckd, nckd = _divergence(student_binary, teacher_binary), _divergence(student_others, teacher_others)
    return (alpha * tckd + beta * nckd) * temperature**2


@full_precision
def dist(student: Tensor, teacher: Tensor, temperature: float = 1.0, beta: float = 1.0, gamma: float = 1.0) -> Tensor:
    """DIST: T^2 (beta inter + gamma intra) of the softmaxes at the temperature, arXiv 2205.10536.

    inter is the mean of 1 - Pearson's correlation of student and teacher over the images (rows), intra that over the
    classes (columns), which is 0 for a single image. Rows and columns without spread correlate with nothing (1). T^2,
    and 1e-8 added to the correlations' denominator, are from the authors' code.
    """
    s, t = (student / temperature).softmax(1), (teacher / temperature).softmax(1)
    relations = beta * (1 - _correlations(s, t).mean())
    if len(s) > 1:
        relations = relations + gamma * (1 - _correlations(s.T, t.T).mean())
    return relations * temperature**2


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    return F.kl_div(F.log_softmax(student, 1), F.log_softmax(teacher, 1), reduction="batchmean", log_target=True)


def _standardized(logits: Tensor) -> Tensor:
    return (logits - logits.mean(1, keepdim=True)) / _unless_flat(logits.std(1, keepdim=True) + 1e-7, logits)


def _correlations(student: Tensor, teacher: Tensor) -> Tensor:
    s, t = student - student.mean(1, keepdim=True), teacher - teacher.mean(1, keepdim=True)
    scale = s.norm(dim=1, keepdim=True) * t.norm(dim=1, keepdim=True) + 1e-8
    return (s * t / _unless_flat(scale, student)).sum(1)


def _unless_flat(divisor: Tensor, rows: Tensor) -> Tensor:
    """1 for rows of one and the same number, as those of a classifier that starts at 0.

    These have no scale to take out, and what was added to the divisor would make their gradients 1e7 times as large.
    """
    flat = rows.amax(1, keepdim=True) == rows.amin(1, keepdim=True)
    return torch.where(flat, 1.0, divisor)
