"""A plugin loss.

    compress-model run quickstart --plugin recipes/plugins/own_loss.py \
        --set "stages.distilled.losses={kd: 1.0, own: {margin: {weight: 0.5, options: {gap: 2.0}}}}"
"""

import torch.nn.functional as F
from torch import Tensor

from compress.plugins import loss


@loss("margin")
def margin(student: Tensor, teacher: Tensor, labels: Tensor, gap: float = 1.0) -> Tensor:
    """Hinge loss: the teacher's top class leads the student's logits by a gap.

    Args:
        student: Logits `[b, classes]`.
        teacher: Logits `[b, classes]`.
        labels: int64 `[b]`, -1 for images without a label; unused.
        gap: Required lead, in logits.
    """
    top = teacher.argmax(1, keepdim=True)
    others = student.scatter(1, top, float("-inf"))
    return F.relu(gap - student.gather(1, top).squeeze(1) + others.amax(1)).mean()
