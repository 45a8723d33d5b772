"""Verbs on artifacts: `bench`, `evaluate`, `predict`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compress.cli.options import AsJson, Plugins, finite, is_given, print_json, print_rich
from compress.utils.errors import CompressError, SeveralFailures, UsageError
from compress.utils.hosts import FORMS

if TYPE_CHECKING:
    from compress.deployment.bench import BenchRecord
    from compress.utils.hosts import Host

ArtifactPath = Annotated[
    Path, typer.Argument(help="Artifact of a run: its file or folder.", metavar="ARTIFACT", show_default=False)
]
Runtime = Annotated[
    str | None,
    typer.Option("--runtime", metavar="NAME", help="Runtime to use; default: the one of the file's format."),
]


def bench(
    context: typer.Context,
    artifacts: Annotated[
        list[Path], typer.Argument(help="Artifacts of runs: their files or folders.", metavar="ARTIFACT...")
    ],
    runtime: Annotated[
        str | None,
        typer.Option("--runtime", metavar="NAME|auto", help="Runtime to use, or auto: all that can read the files."),
    ] = None,
    batches: Annotated[str, typer.Option("--batches", metavar="N,N", help="Batch sizes.")] = "1,16",
    rounds: Annotated[int, typer.Option("--rounds", min=5, help="Interleaved timing rounds.")] = 30,
    processes: Annotated[
        int, typer.Option("--processes", min=1, help="Fresh processes that share the rounds; 1: this one.")
    ] = 3,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Threads per runtime; default: all cores.")
    ] = None,
    driver: Annotated[
        str,
        typer.Option("--driver", metavar="turns|mlperf", help="Interleaved rounds, or MLPerf's load generator."),
    ] = "turns",
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.1, help="Duration of each MLPerf test.", callback=finite)
    ] = 10,
    on: Annotated[
        list[str] | None,
        typer.Option(
            "--on",
            metavar="HOST",
            help=f"Measure on another machine: {FORMS}. Repeatable.",
        ),
    ] = None,
    layers: Annotated[
        bool,
        typer.Option("--layers", help="Time each layer instead, at one batch size; compare with the first artifact."),
    ] = False,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the layers as CSV.")] = None,
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Benchmark artifacts side by side. Latency and throughput ratios are to the first one."""
    from compress.deployment.bench import bench as bench_artifacts
    from compress.deployment.bench import bench_layers, parse_batches
    from compress.utils.hosts import parse_host

    sizes, hosts = parse_batches(batches), [parse_host(address) for address in on or ()]
    _require_used(context, layers, csv, driver, sizes)

    def measure(host: Host | None) -> BenchRecord:
        if layers:
            return bench_layers(artifacts, runtime, sizes[0], rounds, threads, host)
        return bench_artifacts(artifacts, runtime, sizes, rounds, threads, driver, seconds, processes, host)

    records, failures = _measure_all(measure, hosts or [None])
    if as_json:
        print_json(records if len(hosts) > 1 else records[0])
    else:
        from compress.report.artifacts import bench_tables
        from compress.report.layers import layer_tables

        for record in records:
            print_rich(*(layer_tables if layers else bench_tables)(record))
    if csv and records:  # last: where it cannot be written, the figures have been printed
        from compress.report.layers import layers_csv
        from compress.utils.outputs import write_output

        try:
            write_output(csv, layers_csv(records))
        except OSError as error:
            failures.append(f"--csv {csv} cannot be written: {error.strerror}; name a file elsewhere")
    if failures:
        raise SeveralFailures(failures)


def _require_used(context: typer.Context, layers: bool, csv: Path | None, driver: str, sizes: Sequence[int]) -> None:
    """Refuse options that the way of measuring would ignore, all in one line."""
    given = [name for name in ("batches", "driver", "processes", "rounds", "seconds") if is_given(context, name)]
    way, ignored = "interleaved timing", ["seconds"]
    problems = ["--csv writes layers; add --layers, or use --json"] if csv and not layers else []
    if layers:
        way, ignored = "--layers", ["driver", "processes", "seconds"]
        if "batches" in given and len(sizes) > 1:
            problems.append("--layers times one batch size; give --batches one")
    elif driver == "mlperf":
        way, ignored = "--driver mlperf", ["processes", "rounds"]
        if between := [str(size) for size in sizes if 1 < size < max(sizes)]:
            problems.append(f"--driver mlperf runs batches of 1 and of the largest; remove {', '.join(between)}")
    if unused := [f"--{name}" for name in given if name in ignored]:
        problems.append(f"{way} does not use {', '.join(unused)}; remove {'it' if len(unused) == 1 else 'them'}")
    if problems:
        raise UsageError("; ".join(problems))
    if csv:
        from compress.utils.outputs import require_writable

        require_writable(csv, "--csv")


def _measure_all(
    measure: Callable[[Host | None], BenchRecord], hosts: Sequence[Host | None]
) -> tuple[list[BenchRecord], list[str]]:
    """Measure on each machine; of several, one that fails does not keep the others from being shown.

    A wrong call on the first one is wrong on all.
    """
    records: list[BenchRecord] = []
    failures: list[str] = []
    for host in hosts:
        try:
            records.append(measure(host))
        except CompressError as error:
            if len(hosts) < 2 or (isinstance(error, UsageError) and host == hosts[0]):
                raise
            failures.append(str(error))
    return records, failures


def evaluate(
    artifact: ArtifactPath,
    folder: Annotated[str | None, typer.Argument(help="Same as --data.", metavar="[DIR]", show_default=False)] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="NAME|DIR",
            help="Folder with one subfolder per class, or name of a data set with test images.",
        ),
    ] = None,
    runtime: Runtime = None,
    per_class: Annotated[bool, typer.Option("--per-class", help="Also print the accuracy per class.")] = False,
    min_top1: Annotated[
        float | None,
        typer.Option(
            "--min-top1",
            min=0,
            max=1,
            metavar="FRACTION",
            help="Exit with 3 if top-1 is shown to be lower, with 4 if neither is shown.",
            callback=finite,
        ),
    ] = None,
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate an artifact on labelled images. The subfolders of a folder are named like its classes."""
    images = folder if data is None else data
    if images is None or (folder is not None and data is not None):
        raise UsageError("evaluate takes one --data: a folder with one subfolder per class, or a data set's name")
    from compress.deployment.artifact import load_artifact
    from compress.deployment.evaluate import evaluate as evaluate_artifact
    from compress.efficiency.verdict import EXIT_STATUS

    record = evaluate_artifact(load_artifact(artifact, runtime), images, min_top1)
    if as_json:
        print_json(record)
    else:
        from compress.report.artifacts import class_lines, evaluation_lines

        for line in evaluation_lines(record) + (class_lines(record) if per_class else []):
            print(line)
    if min_top1 is not None and (status := EXIT_STATUS[record["min_top1"]["verdict"]]):
        raise typer.Exit(status)


def predict(
    artifact: ArtifactPath,
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of images.", metavar="IMAGE|FOLDER...")],
    runtime: Runtime = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Classes to print per image.")] = 3,
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Classify images. Unreadable images are named, and the exit status is then 1; other files are counted."""
    from compress.data.left_out import Tally, left_out_line
    from compress.deployment.artifact import load_artifact
    from compress.deployment.evaluate import predict as predict_images
    from compress.report.artifacts import prediction_line

    rows, unreadable, tally = [], 0, Tally()
    predictions = predict_images(load_artifact(artifact, runtime), images, top, tally)
    if left_out := left_out_line(tally.rows()):
        print(f"left out {left_out}", file=sys.stderr)
    for row in predictions:
        if row["error"] is not None:
            unreadable += 1
            print(f"error: {prediction_line(row)}", file=sys.stderr)
        elif not as_json:
            print(prediction_line(row))
        if as_json:
            rows.append(row)
    if as_json:
        print_json(rows)
    if unreadable:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    run = "runs/quickstart/20261123-120000/artifacts"
    app.command(epilog=f"Example: compress-model bench {run}/distilled/openvino {run}/int8/openvino")(bench)
    app.command(epilog=f"Example: compress-model evaluate {run}/int8/onnx --data photos/test")(evaluate)
    app.command(epilog=f"Example: compress-model predict {run}/int8/onnx photo.jpg holiday/ --top 1")(predict)
