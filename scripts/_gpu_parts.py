"""Parts of `gpu_check` that say whether it works: machine, tests, memory, quickstart."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from compress.data.prepared import Split
from compress.data.preprocess import Preprocess
from compress.measurement import cuda
from compress.measurement.batch_size import BatchSize
from compress.measurement.device import choose_device, describe, exact_float32, on_device
from compress.measurement.predict import predict_split
from compress.models.factory import create_model
from compress.recipe.schema import Trainer
from compress.results.read import read_run
from compress.utils.system import cores, processor, version_of

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "recipes" / "results" / "quickstart"
PACKAGES = ("torch", "torchvision", "torchao", "timm", "lightning", "onnx", "onnxruntime", "numpy")
COMPARED = {"teacher", "distilled", "pruned"}  # made as on the CPU; `int8` is by another method
MEMORY_LIMIT = 2 * 2**30  # bytes that the part `memory` may take
Result = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """What `gpu_check` was asked for."""

    device_kind: str  # `cuda`, or `cpu` to try the script
    tiny: bool
    work: Path
    limit_s: float = 600.0  # seconds of the part; those that can, stop by themselves before

    @property
    def trainer(self) -> Trainer:
        return Trainer.model_validate({"accelerator": self.device_kind})

    @property
    def device(self) -> torch.device:
        return choose_device(self.trainer)

    @property
    def recipe(self) -> Path:
        return self.work / "quickstart.yaml"

    @property
    def run_folder(self) -> Path | None:
        """Folder of the newest run of the quickstart, finished or not, with a store of its own."""
        folders = (self.work / "runs" / "quickstart").glob("*/")
        return max(folders, key=lambda path: path.stat().st_mtime_ns, default=None)


def run_part(name: str, setting: Setting) -> Result:
    """Run one part."""
    from _gpu_files import files
    from _gpu_latency import compiled, latency
    from _gpu_speed import speed

    parts: dict[str, Callable[[Setting], Result]] = {
        "machine": machine,
        "tests": tests,
        "memory": memory,
        "quickstart": quickstart,
        "latency": latency,
        "files": files,
        "speed": speed,
        "compiled": compiled,
    }
    return parts[name](setting)


def machine(setting: Setting) -> Result:
    """Describe the machine."""
    git = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True)
    found: Result = {
        "device": describe(setting.device),
        "processor": processor(),
        "cores": cores(),
        "python": platform.python_version(),
        "packages": {name: version_of(name) for name in PACKAGES},
        "commit": git.stdout.strip() or None,
        "passed": True,
    }
    if setting.device.type == "cuda":
        properties, now = torch.cuda.get_device_properties(setting.device), cuda.clocks(setting.device.index)
        found |= {
            "capability": f"{properties.major}.{properties.minor}",
            "memory_bytes": properties.total_memory,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "clocks_idle": now and asdict(now),
        }
    return found


def tests(setting: Setting) -> Result:
    """Run the tests that are marked `gpu`; without a GPU they are skipped."""
    files = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if "pytest.mark.gpu" in path.read_text()]
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", "-v", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    last = (done.stdout.strip().splitlines() or [""])[-1]
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    wanted = "passed" if setting.device.type == "cuda" else "skipped"
    passed = done.returncode == 0 and counts.get(wanted, 0) > 0
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return {"passed": passed, "counts": counts, "files": len(files), "failed": failed}


class _Forgetful(nn.Module):
    """A network that runs out of memory with more than a few images, as a small GPU would."""

    def __init__(self, network: nn.Module, most: int) -> None:
        super().__init__()
        self.network, self.most = network, most

    def forward(self, pixels: Tensor) -> Tensor:
        if len(pixels) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory (pretended by gpu_check)")
        return self.network(pixels)  # type: ignore[no-any-return]


def memory(setting: Setting) -> Result:
    """Evaluate in a batch that does not fit, and compare the logits with those of one that does."""
    name, side, images, small = ("test_resnet", 32, 8, 4) if setting.tiny else ("resnet50", 224, 2048, 64)
    torch.manual_seed(0)
    network: nn.Module = create_model("timm", name, 10, side).eval()
    preprocess = Preprocess(resolution=side, mean=(0.5,) * 3, std=(0.25,) * 3)  # type: ignore[arg-type]
    pixels = np.random.default_rng(0).integers(0, 256, (images, 3, side, side), np.uint8)
    split, pretended = Split(pixels, None), setting.device.type != "cuda"
    with on_device(network, setting.device):
        expected = predict_split(network, preprocess, split, small)
        sizes: list[int] = []
        if not pretended:
            torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction(MEMORY_LIMIT / torch.cuda.mem_get_info()[1])
        limited = _Forgetful(network, small) if pretended else network

        def attempt(batch: int) -> Any:
            sizes.append(batch)
            with exact_float32(setting.device):
                return _in_batches(limited, preprocess, split, batch, setting.device)

        gpu = torch.device("cuda") if pretended else setting.device  # on a CPU, no batch is halved
        logits = BatchSize(images, "evaluation", gpu).fit(attempt)
    same = float(np.abs(logits - expected).max())
    halved = len(sizes) > 1
    return {"passed": halved and same < 1e-3, "pretended": pretended, "batches": sizes, "largest_difference": same}


@torch.inference_mode()
def _in_batches(
    network: nn.Module, preprocess: Preprocess, split: Split, batch: int, device: torch.device
) -> np.ndarray[Any, Any]:
    parts = [torch.from_numpy(split.images[start : start + batch]) for start in range(0, len(split), batch)]
    return torch.cat([network(preprocess(part.to(device))).float().cpu() for part in parts]).numpy()


def quickstart(setting: Setting) -> Result:
    """Run the quickstart on the device; its accuracies beside those that were kept of a run on a CPU."""
    recipe = tiny_recipe(setting.work) if setting.tiny else gpu_recipe()
    recipe["trainer"] = {**recipe.get("trainer", {}), "accelerator": setting.device_kind}
    setting.recipe.write_text(yaml.safe_dump(recipe, sort_keys=False))
    runs = setting.work / "runs"
    command = [sys.executable, "-m", "compress", "run", str(setting.recipe), "--runs", str(runs)]
    # store keys leave out the device: what an earlier run made, perhaps on a CPU, would be taken for this one's
    done = subprocess.run([*command, "--no-dry-run", "--fresh"], capture_output=True, text=True)
    folder = setting.run_folder
    if done.returncode or folder is None:
        return {"passed": False, "error": (done.stderr.strip().splitlines() or ["no output"])[-1][:300]}
    record = read_run(folder)
    kept = {} if setting.tiny else {variant.id: variant.accuracy for variant in read_run(KEPT).variants}
    rows = []
    for variant in record.variants:
        row: Result = {"id": variant.id, "top1": variant.accuracy.top1, "precision": variant.training.precision}
        row |= {"training_s": variant.training.wall_s}
        if variant.id in COMPARED & kept.keys():
            low, high = kept[variant.id].ci95
            row |= {"cpu_top1": kept[variant.id].top1, "cpu_ci95": [low, high], "within": low <= row["top1"] <= high}
        rows.append(row)
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    seconds = {row["unit"]: row["seconds"] for row in log if row.get("event") == "made" and "seconds" in row}
    found: Result = {"variants": rows, "stage_seconds": seconds, "wall_s": record.run.wall_s}
    found["device"] = next((row["device"] for row in log if row.get("event") == "device"), None)
    error = elsewhere(recipe, record.run.made, found["device"], setting)
    if error:
        return {**found, "passed": False, "error": error}
    return {**found, "passed": all(row.get("within", True) for row in rows)}


def elsewhere(recipe: Result, made: Collection[str], device: str | None, setting: Setting) -> str | None:
    """Return what says that a run's stages were not made now, on the device that is checked; None if they were."""
    unmade = [stage["id"] for stage in recipe["stages"] if stage["id"] not in made]
    if unmade:
        return f"not made in this run: {', '.join(unmade)}"
    wanted = describe(setting.device)
    return None if device == wanted else f"made on {device}, not on {wanted}"


def gpu_recipe() -> Result:
    """Return the quickstart without the control `teacher-int8`, NNCF and OpenVINO, which the machine lacks."""
    recipe: Result = yaml.safe_load((ROOT / "recipes" / "quickstart.yaml").read_text())
    stages = [stage for stage in recipe["stages"] if stage["id"] != "teacher-int8"]
    for stage in stages:
        if stage["kind"] == "quantize":
            stage["method"] = "onnxruntime"
        if stage["kind"] == "export":
            stage |= {"from": ["distilled", "int8"], "runtimes": ["onnxruntime"]}
    measure = {"rounds": 6, "processes": 1, "energy": "off"}
    return {**recipe, "name": "quickstart", "stages": stages, "measure": measure}


def tiny_recipe(work: Path) -> Result:
    """Write a few images of noise, and return a recipe with stages of the same names for them."""
    rng, images = np.random.default_rng(0), work / "images"
    for split, count in (("train", 8), ("val", 4), ("test", 4)):
        for label in ("a", "b"):
            folder = images / split / label
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / f"{number}.png")
    few = {"epochs": 1, "batch": 8}
    student = {"student": "test_resnet", **few}
    stages = [
        {"id": "teacher", "kind": "train", **student},
        {"id": "distilled", "kind": "train", "seed": 1, **student},
        {"id": "pruned", "kind": "prune", "from": "distilled", "target_macs": 0.8, "round_to": 16, "repair": few},
    ]
    data = {"source": "image-folder", "path": str(images), "resolution": 32}
    measure = {"rounds": 5, "processes": 1, "batches": [1], "energy": "off"}
    worth = {"references": ["teacher"], "tolerance": 0.5}
    return {"name": "quickstart", "data": data, "stages": stages, "measure": measure, "worth": worth}
