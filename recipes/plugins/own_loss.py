"""A loss of one's own.

    compress-model run quickstart --plugin recipes/plugins/own_loss.py \
        --set "stages.distilled.losses={kd: 1.0, own: {margin: {weight: 0.5, options: {gap: 2.0}}}}"
"""

import torch.nn.functional as F
from torch import Tensor

from compress.plugins import loss


@loss("margin")
def margin(student: Tensor, teacher: Tensor, labels: Tensor, gap: float = 1.0) -> Tensor:
    """The teacher's top class leads the student's logits by a gap, or the lack of it is the loss.

    Args:
        student: logits `[b, classes]`.
        teacher: logits `[b, classes]`.
        labels: int64 `[b]`, -1 where there is none; not looked at.
        gap: how much it is to lead by.
    """
    top = teacher.argmax(1, keepdim=True)
    others = student.scatter(1, top, float("-inf"))
    return F.relu(gap - student.gather(1, top).squeeze(1) + others.amax(1)).mean()
