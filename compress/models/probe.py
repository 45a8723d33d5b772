"""A probe: a linear classifier fitted on a teacher's embeddings (as CLIP, arXiv 2103.00020, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRENGTHS = tuple(10.0 ** (power / 2) for power in range(-14, 1))  # weight decays of the grid
STEPS = 500  # of L-BFGS, at most


@dataclass(frozen=True)
class Probe:
    """A fitted probe."""

    head: nn.Linear  # from embeddings `[b, width]` to logits `[b, classes]`
    strength: float  # the weight decay that was selected
    top1: float  # its accuracy on validation, a fraction
    macs: int = 0  # of fitting it, given the embeddings


def fit_probe(train: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor], classes: int) -> Probe:
    """Fit a multinomial logistic regression, with the weight decay selected by accuracy on validation.

    Minimises mean cross-entropy + strength / 2 * |W|^2 over weights W and biases for each of `STRENGTHS`, from the
    strongest to the weakest, each fit starting from the last; of equally accurate fits, the strongest is selected.
    Both sets are embeddings `[n, width]` and labels int64 `[n]`.
    """
    embeddings, labels = train[0].double(), train[1]
    weight = torch.zeros(classes, embeddings.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    best: Probe | None = None
    evaluations = 0
    for strength in sorted(STRENGTHS, reverse=True):
        evaluations += _minimise(embeddings, labels, weight, bias, strength)
        right = (validation[0].double() @ weight.detach().T + bias.detach()).argmax(1) == validation[1]
        top1 = float(right.double().mean())
        if best is None or top1 > best.top1:
            best = Probe(_linear(weight, bias), strength, top1)
    assert best is not None
    # An evaluation multiplies embeddings by weights and by gradients, a selection by weights.
    images = 2 * evaluations * len(labels) + len(STRENGTHS) * len(validation[1])
    return replace(best, macs=images * weight.numel())


def fit_feature_probe(train: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor], classes: int) -> Probe:
    """Fit a probe on features of any length; those of CLIP have length 1, for which `STRENGTHS` are."""
    length = float(train[0].double().norm(dim=1).mean().clamp_min(1e-12))
    unit = [(features.double() / length, labels) for features, labels in (train, validation)]
    probe = fit_probe(unit[0], unit[1], classes)
    with torch.no_grad():
        probe.head.weight /= length
    return probe


def _minimise(embeddings: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, strength: float) -> int:
    """Minimise in place; returns the number of evaluations of loss and gradient."""
    evaluations = 0
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=STEPS, tolerance_grad=1e-8, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def objective() -> Tensor:
        nonlocal evaluations
        evaluations += 1
        solver.zero_grad()
        loss = F.cross_entropy(embeddings @ weight.T + bias, labels) + strength / 2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(objective)  # type: ignore[no-untyped-call]
    return evaluations


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    head = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)
    return head.eval()
