"""Benchmark INT8 of this package against INT8 of the libraries below it, used directly: ResNet18, interleaved rounds.

    python scripts/bench_int8.py --json int8.json
    python scripts/bench_int8.py --models timm --resolution 64 --batches 1 --rounds 5     # a quick try

For each network and batch: plain eager PyTorch in FP32; FP32 in each runtime; ONNX Runtime's own quantizer, NNCF with
OpenVINO, and torchao's PT2E with Inductor, each as documented; then our files of each method and runtime, and the
fastest of them. All use the same number of threads.

The weights are random, with the batch-norm statistics of photographs: latency does not depend on their values, and
pretrained ones would have to be downloaded. Accuracy is measured elsewhere: on the files of every run (`artifacts` in
its results.json).
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compress.data.sample import SampleData, read
from compress.deployment.bench_measure import environment
from compress.deployment.export import export
from compress.deployment.runtimes import find_runtime, missing
from compress.efficiency.timing import fastest, middle
from compress.measurement.latency import measure_interleaved, round_medians, summary
from compress.models.factory import create_model
from compress.quantization.capture import capture
from compress.quantization.choice import of_variants
from compress.quantization.ptq import quantize
from compress.registry import RUNTIMES
from compress.utils.quiet import quiet, silent
from compress.utils.system import thread_count

Run = Callable[[np.ndarray], object]
Record = dict[str, Any]
EAGER = "PyTorch eager FP32"
KINDS = ("eager", "FP32", "direct", "ours")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["torchvision", "timm"], choices=["torchvision", "timm"])
    parser.add_argument("--network", default="resnet18", help="name in the libraries of --models; default: resnet18")
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--calibration", type=int, default=128, help="size of the calibration set")
    parser.add_argument("--threads", type=int, help="threads of every candidate; default: all cores")
    parser.add_argument("--runtimes", nargs="+", help="default: all that are installed")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    threads = thread_count(args.threads)
    torch.set_num_threads(threads)
    runtimes = args.runtimes or [name for name in RUNTIMES if not missing(name) and not find_runtime(name).runs_on]
    rows = []
    for library in args.models:
        model, images = trained_like(library, args.network, args.resolution, args.calibration)
        with tempfile.TemporaryDirectory() as work:
            ours = artifacts(model, images, runtimes, Path(work), threads)
            peers = direct(model, images, args.batches, Path(work), threads)
            for batch in args.batches:
                given = np.ascontiguousarray(images[:batch].numpy())
                runs: dict[tuple[str, str], Run] = {("eager", EAGER): partial(eager, model)}
                runs |= {(kind, name): run for (kind, name), run in ours.items() if kind == "FP32"}
                runs |= {("direct", name): run for (name, size), run in peers.items() if size in (None, batch)}
                runs |= {(kind, name): run for (kind, name), run in ours.items() if kind == "ours"}
                record = compare(runs, given, args.rounds)
                rows.append({"model": f"{library}/{args.network}", "batch": batch, **record})
                show(rows[-1], args.resolution, threads)
    if args.json:
        about = {"environment": environment(runtimes, threads), "rounds": args.rounds, "resolution": args.resolution}
        about["environment"]["packages"] |= versions("torch", "torchao", "nncf", "openvino", "onnxruntime")
        args.json.write_text(json.dumps({**about, "results": rows}, indent=1) + "\n")


def trained_like(library: str, network: str, resolution: int, count: int) -> tuple[nn.Module, Tensor]:
    """Return a network with activations as large as a trained one's, and photographs `[count, 3, r, r]` for it."""
    torch.manual_seed(0)
    model = create_model(library, network, 1000, resolution)
    for name, parameter in model.named_parameters():
        if name.endswith("bn2.weight"):
            nn.init.ones_(parameter)  # timm initialises them to 0, by which nothing can be divided
    with tempfile.TemporaryDirectory() as scratch:
        pixels = read(SampleData(source="cifar10-sample"), Path(scratch)).train.images[:count]
    images = nn.functional.interpolate(torch.from_numpy(np.array(pixels)).float(), resolution, mode="bicubic")
    images = (images / 255 - 0.5) / 0.25
    with torch.no_grad():
        for part in torch.split(images, 32):
            model.train()(part)
    return model.eval(), images


@torch.inference_mode()
def eager(model: nn.Module, images: np.ndarray) -> object:
    return model(torch.from_numpy(images))


# --- ours ---------------------------------------------------------------------------------------------------------


def artifacts(
    model: nn.Module, images: Tensor, runtimes: Sequence[str], work: Path, threads: int
) -> dict[tuple[str, str], Run]:
    """Return callables of our files, written as by an `export` stage, by kind and name."""
    about = {"resolution": images.shape[-1]}
    runs: dict[tuple[str, str], Run] = {}
    for runtime, path in export(model, work / "float", runtimes, about).items():
        runs["FP32", f"{runtime} FP32"] = find_runtime(runtime).load(path, threads)
    for method in of_variants():
        integer = [name for name in runtimes if method in find_runtime(name).quantizers]
        network = quantize(model, torch.split(images, 32), images[:2], method=method).network
        failed: dict[str, str] = {}
        for runtime, path in export(network, work / method, integer, about, failed).items():
            covered = find_runtime(runtime).coverage(path)
            share = "" if covered.share is None else f", {covered.share:.0%} of the MACs in integer"
            print(f"ours, {method} in {runtime}: {covered.integer_convs} of {covered.convs} convolutions{share}")
            runs["ours", f"{method} in {runtime}"] = find_runtime(runtime).load(path, threads)
        for runtime, reason in failed.items():
            print(f"ours, {method} in {runtime}: left out: {reason}")
    return runs


# --- the libraries, as their documentation says -------------------------------------------------------------------


def direct(
    model: nn.Module, images: Tensor, batches: Sequence[int], work: Path, threads: int
) -> dict[tuple[str, int | None], Run]:
    """Return callables by name, each with its batch size, or None for any."""
    source = onnx_file(model, images, work / "direct.onnx")
    runs: dict[tuple[str, int | None], Run] = {}
    for activations in ("QInt8", "QUInt8"):  # the documentation's first choice, and its second
        path = onnxruntime_static(source, images, work, activations)
        runs[f"ONNX Runtime's quantize_static, {activations}", None] = onnxruntime_session(path, threads)
    network = nncf_openvino(source, images)
    for batch in batches:
        runs["NNCF with OpenVINO", batch] = openvino_request(network, images[:batch].shape, threads)
        runs["torchao PT2E with Inductor", batch] = pt2e_inductor(model, images, batch)
    return runs


def onnx_file(model: nn.Module, images: Tensor, path: Path) -> Path:
    shapes = ({0: torch.export.Dim("batch")},)
    with quiet():
        torch.onnx.export(
            model, (images[:2],), path, dynamo=True, dynamic_shapes=shapes, external_data=False, verbose=False
        )
    return path


def onnxruntime_static(source: Path, images: Tensor, work: Path, activations: str) -> Path:
    """https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html"""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.parts: Iterator[Tensor] = iter(torch.split(images, 1))

        def get_next(self) -> dict[str, np.ndarray] | None:
            part = next(self.parts, None)
            return None if part is None else {name: part.numpy()}

    import onnx

    name = onnx.load(source).graph.input[0].name
    prepared, path = work / "prepared.onnx", work / f"static-{activations}.onnx"
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        path,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType[activations],
        weight_type=QuantType.QInt8,
    )
    return path


def onnxruntime_session(path: Path, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # As in our runtime: otherwise its threads keep spinning while others are timed.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda given: session.run(None, {name: given})


def nncf_openvino(source: Path, images: Tensor) -> Any:
    """https://docs.openvino.ai/2025/openvino-workflow/model-optimization-guide/quantizing-models-post-training.html"""
    import nncf
    import openvino

    with quiet(), silent():
        dataset = nncf.Dataset(list(torch.split(images, 1)), lambda part: part.numpy())
        return nncf.quantize(openvino.Core().read_model(source), dataset, subset_size=len(images))


def openvino_request(network: Any, shape: Sequence[int], threads: int) -> Run:
    """Compile for one fixed shape with the latency hint: https://docs.openvino.ai (optimizing inference)."""
    import openvino

    fixed = network.clone()
    fixed.reshape(list(shape))
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    request = openvino.Core().compile_model(fixed, "CPU", settings).create_infer_request()
    return lambda given: request.infer({0: given}, share_inputs=True, share_outputs=True)


def pt2e_inductor(model: nn.Module, images: Tensor, batch: int) -> Run:
    """https://docs.pytorch.org/ao/stable/tutorials_source/pt2e_quant_x86_inductor.html, with freezing, for one batch.

    The graph is captured by our function: the tutorial's call refuses torchvision's ResNet, which calls a ReLU twice.
    """
    from torch._inductor import config
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    with quiet(), torch.no_grad():
        prepared = prepare_pt2e(capture(copy.deepcopy(model), images[:2]), quantizer)
        for part in torch.split(images, 32):
            prepared(part)
        converted = convert_pt2e(prepared)
        with config.patch(freezing=True, cpp_wrapper=True):
            compiled = torch.compile(converted, dynamic=False)
            compiled(images[:batch])

    def run(given: np.ndarray) -> object:
        with torch.no_grad(), config.patch(freezing=True, cpp_wrapper=True):
            return compiled(torch.from_numpy(given))

    return run


# --- figures ------------------------------------------------------------------------------------------------------


def compare(runs: Mapping[tuple[str, str], Run], given: np.ndarray, rounds: int) -> Record:
    """Time all in interleaved rounds; return ratios to eager and to the best library used directly."""
    keys = sorted(runs, key=lambda key: KINDS.index(key[0]))
    measured = measure_interleaved({name: partial(runs[kind, name], given) for kind, name in keys}, rounds)
    times = {name: [taken] for name, taken in measured.items()}
    medians = {name: round_medians(taken) for name, taken in times.items()}
    kinds = {name: kind for kind, name in keys}
    best = min((name for name in times if kinds[name] == "direct"), key=lambda name: middle(medians[name]))
    ours = {name: taken for name, taken in medians.items() if kinds[name] == "ours"}
    choice = min(ours, key=lambda name: middle(ours[name]))
    tied = [name for name in fastest(ours) if name != choice]
    candidates = []
    for name, taken in times.items():
        against_eager, against_best = summary(taken, times[EAGER]), summary(times[best], taken)
        candidates.append(
            {
                "name": name,
                "kind": kinds[name],
                "p50_ms": against_eager["p50_ms"],
                "p99_ms": against_eager["p99_ms"],
                "times_faster_than_eager": against_eager["ratio_to_reference"],
                "times_faster_ci95": against_eager["ratio_ci95"],
                "time_over_best_direct": against_best["ratio_to_reference"],
                "time_over_best_direct_ci95": against_best["ratio_ci95"],
            }
        )
    return {"best_direct": best, "choice": choice, "tied": tied, "candidates": candidates}


def show(record: Record, resolution: int, threads: int) -> None:
    print(f"\n{record['model']}, batch {record['batch']}, {resolution} pixels, {threads} threads")
    print(f"{'':50} {'median':>10}  {'eager / it':>22}  {'it / best direct':>22}")
    for row in record["candidates"]:
        eager_low, eager_high = row["times_faster_ci95"]
        low, high = row["time_over_best_direct_ci95"]
        print(
            f"{row['kind'] + ': ' + row['name']:50} {row['p50_ms']:7.2f} ms"
            f"  {row['times_faster_than_eager']:6.2f} ({eager_low:5.2f} to {eager_high:5.2f})"
            f"  {row['time_over_best_direct']:6.2f} ({low:5.2f} to {high:5.2f})"
        )
    row = next(row for row in record["candidates"] if row["name"] == record["choice"])
    low, high = row["time_over_best_direct_ci95"]
    tied = f", as fast within the interval: {', '.join(record['tied'])}" if record["tied"] else ""
    print(f"our choice: {row['name']}{tied}; the best used directly: {record['best_direct']}")
    print(f"our choice / best direct {row['time_over_best_direct']:.2f} ({low:.2f} to {high:.2f}), goal 1.00 within it")
    print(f"eager FP32 / our choice {row['times_faster_than_eager']:.2f}, goal 6", flush=True)


def versions(*packages: str) -> dict[str, str | None]:
    from compress.utils.system import version_of

    return {name: version_of(name) for name in packages}


if __name__ == "__main__":
    main()
