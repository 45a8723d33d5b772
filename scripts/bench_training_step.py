"""Benchmark a training step with and without dead taps, in interleaved rounds.

python scripts/bench_training_step.py --student resnet18 --resolution 32 --batch 64
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack

import timm
import torch
import torch.nn.functional as F

from compress.measurement.latency import measure_interleaved, summary
from compress.training.dead_taps import without_dead_taps


def stepper(network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", default="resnet18")
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=40)
    args = parser.parse_args()
    images = torch.randn(args.batch, 3, args.resolution, args.resolution).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (args.batch,))
    with ExitStack() as stack:
        whole, small = (timm.create_model(args.student, num_classes=10) for _ in range(2))
        left_out = stack.enter_context(without_dead_taps(small, args.resolution))
        steps = {"whole": stepper(whole, images, labels), "without dead taps": stepper(small, images, labels)}
        times = measure_interleaved(steps, args.rounds)
    print(f"{left_out:,} of {sum(p.numel() for p in whole.parameters()):,} weights are dead taps")
    for name, taken in times.items():
        record = summary([taken], [times["whole"]])
        low, high = record["ratio_ci95"]
        print(f"{name}: {record['p50_ms']:.0f} ms a step, {record['ratio_to_reference']:.2f}x ({low:.2f}-{high:.2f})")


if __name__ == "__main__":
    main()
