"""Names of the accuracies that equal accuracy can mean, in recipes and in results."""

from __future__ import annotations

from typing import Literal

MetricName = Literal["top1", "balanced", "top5"]
