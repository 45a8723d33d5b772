"""Shared by the campaigns: a tiny job with every kind of stage, runs that can be killed, and the expected outcome."""

from __future__ import annotations

import atexit
import io
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "tests")]

HEAD = """\
name: tiny
seed: 3
data: {{source: image-folder, path: {root}/images, resolution: 32}}
stages:
  - id: teacher
    kind: teacher
    teacher: {{source: timm, model: test_resnet, checkpoint: {root}/teacher.safetensors}}
  - {{id: scratch, kind: train, student: test_resnet, epochs: 4, batch: 16, lr: 0.05}}
  - {{id: distilled, kind: distill, from: teacher, student: test_resnet, epochs: 4, batch: 16, lr: 0.05, views: 2}}
"""
TAIL = """\
  - {{id: pruned, kind: prune, from: distilled, target_macs: 0.6, round_to: 4, rounds: 2,
     repair: {{epochs: 2, batch: 16, lr: 0.02, views: 2}}}}
  - {{id: narrow, kind: shrink, from: pruned}}
  - {{id: sparse, kind: sparsify, from: distilled, pattern: "2:4",
     repair: {{epochs: 2, batch: 16, lr: 0.02, views: 2}}}}
  - {{id: int8, kind: quantize, from: pruned, calibration_images: 32}}
  - {{id: files, kind: export, from: [int8], runtimes: [onnxruntime, openvino], triton: true}}
"""
END = """\
measure: {{batches: [1, 4], rounds: 5, processes: 1, threads: 1, energy: off}}
worth: {{references: [distilled], tolerance: 0.2}}
"""
# Clocks and what follows from them.
TIMED = {"run", "command", "wall_s", "interrupted", "latency", "latency_basis", "peak_memory_bytes"}

WITHOUT_TORCH = ("compress.cli", "compress.store.gc", "compress.report.plots", "jinja2", "compress.gap.record")
IMPORTED = (*WITHOUT_TORCH, "lightning.pytorch", "timm", "compress.stages.teacher.make")
IMPORTED_FOR_FILES = ("onnx", "onnxscript", "torch_pruning", "torchao.quantization.pt2e")
KEPT = ("torchinductor_", ".ses")  # the compiler's cache; a file of ONNX Runtime's own


@dataclass(frozen=True)
class Job:
    """The tiny job in its own folder. Its images and its teacher may be another job's."""

    root: Path
    source: Path

    @property
    def recipe(self) -> Path:
        return self.source / "tiny.yaml"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def store(self) -> Path:
        return self.runs / "store"

    @property
    def output(self) -> Path:
        """The output of all its runs."""
        return self.root / "output.txt"

    def command(self) -> list[str]:
        return ["compress-model", "run", str(self.recipe), "--runs", str(self.runs)]

    def finished(self) -> list[Path]:
        return sorted((self.runs / "tiny").glob("*/SHA256SUMS"), key=lambda path: path.stat().st_mtime_ns)

    def events(self) -> list[dict[str, Any]]:
        """Return the events of the latest run, as far as they are written."""
        logs = sorted((self.runs / "tiny").glob("*/log.jsonl"), key=lambda path: path.stat().st_ctime_ns)
        events = []
        for line in logs[-1].read_text().splitlines() if logs else ():
            with suppress(ValueError):
                events.append(json.loads(line))
        return events


def write_job(root: Path, *, short: bool) -> None:
    """Write images, teacher and recipe, which ends with the distillation if `short`."""
    from safetensors.torch import save_file
    from support import photographs
    from torch import manual_seed

    from compress.models.factory import create_model

    for part, count in (("train", 16), ("val", 6), ("test", 40)):
        photographs(root / "images" / part, count, seed=len(part))
    photographs(root / "images" / "unlabeled", 16, seed=99)
    manual_seed(0)
    save_file(create_model("timm", "test_resnet", 3, 32).state_dict(), root / "teacher.safetensors")
    (root / "tiny.yaml").write_text((HEAD + ("" if short else TAIL) + END).format(root=root))


def import_all(short: bool) -> None:
    """Import what runs need, so that a forked one starts at once.

    No thread may exist at a fork, so nothing is computed, and ONNX Runtime, which starts one, is left to the fork.
    """
    from importlib import import_module

    import torch

    for name in (*IMPORTED, *(() if short else IMPORTED_FOR_FILES)):
        import_module(name)
    torch.set_num_threads(1)


def start(job: Job, patch: Callable[[], None] = lambda: None, arguments: list[str] | None = None) -> int:
    """Fork a run into its own process group, call `patch` in it first, and return its process id."""
    threads = len(os.listdir("/proc/self/task"))  # noqa: PTH208
    assert threads == 1, f"{threads} threads: a fork would not be safe"
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    status = 99
    try:
        os.setsid()
        job.root.mkdir(parents=True, exist_ok=True)
        output = job.output.open("a")
        os.dup2(output.fileno(), 1), os.dup2(output.fileno(), 2)
        sys.stdout, sys.stderr = io.TextIOWrapper(os.fdopen(1, "wb"), write_through=True), os.fdopen(2, "w", 1)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = arguments or job.command()
        status = _call(patch)
    finally:
        os._exit(status)


def _call(patch: Callable[[], None]) -> int:
    import traceback

    from compress.__main__ import main
    from compress.utils.console import console

    console.file = sys.stderr
    try:
        patch()
        main()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 98
    atexit._run_exitfuncs()
    sys.stdout.flush(), sys.stderr.flush()
    return status


def wait(process: int, seconds: float = 600) -> int:
    """Return the exit status of a forked run, or minus the signal that ended it; also end what it has started."""
    deadline = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.killpg(process, signal.SIGKILL)
        time.sleep(0.01)
    with suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(status)


def place(job: Job, begun: int) -> str:
    """Return where the `begun`-th run of a job is: a unit, `plan`, `latency`, `pages`, or `end`."""
    events = job.events()
    if len(list((job.runs / "tiny").glob("*"))) < begun or not events or events[-1]["event"] == "done":
        return "end" if events and events[-1]["event"] == "done" else "plan"
    units = next((event["units"] for event in events if event["event"] == "plan"), None)
    if units is None:
        return "plan"
    over = {event["unit"] for event in events if event["event"] in ("made", "stored")}
    if "latency" in over:
        return "pages"
    return next((unit for unit in units if unit not in over), "latency")


def runs_begun(job: Job) -> int:
    """Count the runs of a job that have started."""
    return len(list((job.runs / "tiny").glob("*")))


def figures(value: Any) -> Any:
    """Return results without what depends on clocks and memory."""
    if isinstance(value, dict):
        return {name: figures(part) for name, part in value.items() if name not in TIMED}
    return [figures(part) for part in value] if isinstance(value, list) else value


def outcome(job: Job, run: Path | None = None) -> dict[str, Any]:
    """Return what must be the same bit for bit: the digests of each unit's files, and the figures of the report."""
    run = run or job.finished()[-1].parent
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    units = next(event["units"] for event in log if event["event"] == "plan")
    result: dict[str, Any] = {"figures": figures(json.loads((run / "results.json").read_text()))}
    for unit, key in units.items():
        files = json.loads((job.store / key / "entry.json").read_text())["files"]
        result[unit] = {name: file["sha256"] for name, file in files.items() if name != "metrics.json"}
        if "metrics.json" in files:
            result[unit]["metrics"] = figures(json.loads((job.store / key / "metrics.json").read_text()))
    return result


def differences(one: Any, other: Any, where: str = "") -> Iterator[str]:
    """Yield the places in which two outcomes differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted({*one, *other}):
            yield from differences(one.get(name), other.get(name), f"{where}.{name}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from differences(left, right, f"{where}[{number}]")
    elif one != other:
        yield f"{where.lstrip('.')}: {str(one)[:60]} and {str(other)[:60]}"


def sealed(job: Job) -> dict[str, int]:
    """Return when the files of each finished entry were written, which changes if it is made again."""
    times = {}
    for manifest in job.store.glob("*/entry.json"):
        files = [path for path in manifest.parent.rglob("*") if path.is_file() and path != manifest]
        times[manifest.parent.name] = max((path.stat().st_mtime_ns for path in files), default=0)
    return times


def strays(job: Job, temporary: Path) -> list[str]:
    """List files that a run leaves behind only if something went wrong."""
    left = [path for path in job.runs.rglob("*") if path.name.endswith((".partial", ".tmp"))]
    for folder in (job.store / "partial", job.store / "running", temporary):
        left += [path for path in folder.glob("*") if not path.name.startswith(KEPT)]
    return [str(path) for path in left]


def fresh_folder(path: Path) -> Path:
    """Return the path as an empty folder."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def finish(lines: list[str], rows: list[dict[str, Any]], totals: dict[str, Any], file: Path | None) -> None:
    """Print the lines and totals of a campaign, write rows and totals to `file`, and exit: 1 if anything is wrong."""
    print(*lines, sep="\n")
    for name, value in totals.items():
        print(f"{name.replace('_', ' ')}: {', '.join(value) if isinstance(value, list) else value}")
    if file:
        file.write_text(json.dumps({"summary": totals, "rows": rows}, indent=1) + "\n")
    sys.exit(1 if totals["wrong"] else 0)
