"""Benchmark how much of a saving in MACs becomes a saving in latency: dense and pruned networks in interleaved rounds.

    python scripts/bench_prune.py --resolution 224 --round-to 8 32
    python scripts/bench_prune.py --resolution 224 --layers      # also OpenVINO's time by layer
    python scripts/bench_prune.py --resolution 32 --latency 0.5  # also prune to half the latency

The figure is (latency ratio) / (MAC ratio): 1 if latency falls as much as MACs.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from compress.deployment.export import export
from compress.deployment.runtimes import find_runtime
from compress.measurement.compute import macs
from compress.measurement.latency import measure_interleaved, summary
from compress.models.factory import create_model
from compress.pruning.search import prune_channels
from compress.recipe.channels import Channels, LatencyTarget
from compress.stages.prune.latency_search import LatencySearch
from compress.utils.errors import UsageError
from compress.utils.system import thread_count

FEWER = (2, 4, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", default="resnet18")
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--round-to", type=int, nargs="+", default=[8])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--runtimes", nargs="+", default=["onnxruntime", "openvino", "inductor"])
    parser.add_argument("--latency", type=float, metavar="SHARE", help="also prune to this share of OpenVINO's latency")
    parser.add_argument("--layers", action="store_true", help="print OpenVINO's time by layer at the last batch size")
    args = parser.parse_args()
    torch.manual_seed(0)
    networks = {"dense": create_model("timm", args.student, 1000, args.resolution).eval()}
    for round_to in args.round_to:
        for fewer in FEWER:
            settings, name = Channels(target_macs=1 / fewer, round_to=round_to), f"{fewer}x, multiples of {round_to}"
            try:
                networks[name] = prune_channels(networks["dense"], args.resolution, settings)
            except UsageError as error:
                print(f"{name}: {error}")
    if args.latency:
        target = LatencyTarget(share=args.latency, batch=args.batches[-1])
        trials = LatencySearch(networks["dense"], args.resolution, target, thread_count(None))
        settings = Channels(target_latency=target, round_to=args.round_to[0])
        networks[f"{args.latency:g} of the latency"] = prune_channels(
            networks["dense"], args.resolution, settings, latency=trials
        )
    with tempfile.TemporaryDirectory() as work:
        for runtime in args.runtimes:
            for batch in args.batches:
                compare(networks, runtime, batch, args.resolution, args.rounds, Path(work))
        if args.layers:
            by_layer(networks, args.batches[-1], args.resolution, Path(work))


def compare(networks: dict[str, nn.Module], runtime: str, batch: int, resolution: int, rounds: int, work: Path) -> None:
    if runtime == "inductor" and not shutil.which("g++"):
        print("inductor: no C++ compiler here")
        return
    images = np.random.default_rng(0).standard_normal((batch, 3, resolution, resolution), np.float32)
    runs = {name: runner(network, runtime, images, work / name) for name, network in networks.items()}
    times = measure_interleaved(runs, rounds)
    dense, whole = macs(networks["dense"], resolution), summary([times["dense"]])
    print(f"\n{runtime}, batch {batch}, {resolution} pixels: dense {whole['p50_ms']:.1f} ms")
    for name in list(networks)[1:]:
        fewer, record = dense / macs(networks[name], resolution), summary([times[name]], [times["dense"]])
        low, high = record["ratio_ci95"]
        faster = record["ratio_to_reference"]
        print(
            f"  {name:22} {fewer:5.2f}x fewer MACs, {faster:5.2f}x faster ({low:.2f} to {high:.2f}), "
            f"arrives {faster / fewer:.2f}"
        )


def runner(network: nn.Module, runtime: str, images: np.ndarray[Any, Any], folder: Path) -> Callable[[], Any]:
    if runtime == "inductor":
        compiled = torch.compile(network.to(memory_format=torch.channels_last), dynamic=False)
        given = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
        return partial(inferred, compiled, given)
    return partial(find_runtime(runtime).load(built(network, runtime, images.shape[-1], folder)), images)


@torch.inference_mode()
def inferred(network: Callable[..., Any], images: torch.Tensor) -> None:
    network(images)


def built(network: nn.Module, runtime: str, resolution: int, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return export(network, folder, [runtime], {"resolution": resolution})[runtime]


def by_layer(networks: dict[str, nn.Module], batch: int, resolution: int, work: Path) -> None:
    """Return milliseconds of OpenVINO's convolutions by stage of the network, and of everything else."""
    import openvino

    images = np.random.default_rng(0).standard_normal((batch, 3, resolution, resolution), np.float32)
    print(f"\nOpenVINO's milliseconds, batch {batch}, with the time of each operator taken:")
    for name, network in networks.items():
        model = openvino.Core().read_model(str(built(network, "openvino", resolution, work / name)))
        model.reshape(list(images.shape))
        settings = {"INFERENCE_PRECISION_HINT": "f32", "PERF_COUNT": True, "INFERENCE_NUM_THREADS": 2}
        request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
        taken: dict[str, list[float]] = {}
        for _ in range(10):
            request.infer({0: images})
            sums: dict[str, float] = {}
            for node in request.profiling_info:
                kind = node.node_type if node.node_type == "Convolution" else "everything else"
                side = f"{kind} {node.exec_type.split('_')[0]}" if kind == "Convolution" else kind
                sums[side] = sums.get(side, 0.0) + node.real_time.total_seconds() * 1000
            for side, spent in sums.items():
                taken.setdefault(side, []).append(spent)
        print(f"  {name:22} " + ", ".join(f"{side} {np.median(spent):.1f}" for side, spent in sorted(taken.items())))


if __name__ == "__main__":
    main()
