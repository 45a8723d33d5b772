"""Take networks of all of timm's families through train, prune, quantize and export, with settings drawn at random.

    python tests/stress/families_campaign.py --combinations 300 --seed 0 --json families.json
    python tests/stress/families_campaign.py --numbers 10 163 --limit 900 --json families.json
    python tests/stress/families_campaign.py --summary families.json

Combinations are numbered, and the same for a seed and a version of timm: several processes share them, a later one goes
on, or takes some of them again; in a summary the last outcome of a number counts. From 300 on they are of torchvision.

Clean is a run that works to its end, or a refusal in one line in the dry run, before anything is trained. Findings are
refusals after that, errors that are not ours, lines that show a library's insides, and time that ran out.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "tests")]

from support import photographs  # noqa: E402

LARGEST = 6e6  # parameters of the networks that are drawn, where a family has such
SIDES = {"timm": (32, 64), "torchvision": (33, 50, 64, 96)}
TORCHVISION = 300  # combinations from this number on are of torchvision's networks
LIMIT_S = 300.0  # of a core, so that other work on the machine does not count
CLEAN = ("works", "refused")
LONGEST = 400  # characters of a message that are kept, and that a line may have
INSIDES = ("Traceback", "translating node", "unexpected ", " object at 0x", "<class '", "NoneType", "site-packages")


@dataclass(frozen=True)
class Combination:
    """A network and the settings of its stages."""

    family: str
    model: str
    side: int
    stages: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Outcome:
    """What became of a combination: `works`, `refused` before training, or a finding."""

    number: int
    family: str
    model: str
    side: int
    outcome: str
    message: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.number} {self.model}@{self.side}: {self.outcome} {self.message}"


def families(library: str) -> dict[str, list[str]]:
    """Return the names of a library's networks by the module that defines them."""
    found: dict[str, list[str]] = {}
    if library == "torchvision":
        from torchvision import models

        for name in models.list_models(module=models):
            found.setdefault(models.get_model_builder(name).__module__.rpartition(".")[2], []).append(name)
        return found
    import timm

    for name in timm.list_models():
        if not name.startswith("test_"):
            found.setdefault(timm.models._registry._model_to_module[name], []).append(name)
    return found


def draw(rng: Random, library: str, family: str, names: list[str]) -> Combination:
    """Return a network of a family, small enough to train here, and settings for its stages."""
    sizes = {model: _size(library, model) for model in rng.sample(names, min(len(names), 40))}
    free = [model for model, (_, side) in sizes.items() if not side] or list(sizes)  # at any side, where there are such
    small = [model for model in free if sizes[model][0] <= LARGEST]
    model = rng.choice(small) if small else min(free, key=lambda name: sizes[name][0])
    fixed = sizes[model][1]
    side = fixed or rng.choice(SIDES[library])
    quick = {"epochs": 1, "batch": 8, "lr": 0.001}
    prune = {
        "target_macs": rng.choice((0.5, 0.7, 0.9)),
        "round_to": rng.choice((1, 8)),
        "importance": rng.choice(("l2", "batch_norm", "taylor")),
        "ranking": rng.choice(("local", "global")),
    }
    student = {"library": library, "model": model, "resolution": side}
    stages: list[dict[str, Any]] = [{"id": "dense", "kind": "train", "student": student, **quick}]
    if rng.random() < 0.7:
        stages.append({"id": "pruned", "kind": "prune", "from": "dense", **prune, "repair": quick})
    method = rng.choice(("auto", "auto", "torchao", "nncf", "onnxruntime"))
    int8 = {"id": "int8", "kind": "quantize", "from": stages[-1]["id"], "method": method, "calibration_images": 16}
    stages.append({**int8, "diagnose": rng.random() < 0.3})
    stages.append({"id": "files", "kind": "export", "from": ["int8"], "runtimes": ["onnxruntime", "openvino"]})
    return Combination(family, model, side, tuple(stages))


def _size(library: str, model: str) -> tuple[int, int]:
    """Return a network's parameters, and the side of its images if it takes only one."""
    import timm
    import torch
    from torchvision import models

    if library == "torchvision":
        network = models.get_model(model, weights=None)
        return sum(p.numel() for p in network.parameters()), 224 if model.startswith(("vit", "maxvit")) else 0
    settings = timm.get_pretrained_cfg(model, allow_unregistered=True)
    with torch.device("meta"):
        count = sum(p.numel() for p in timm.create_model(model, num_classes=3).parameters())
    return count, settings.input_size[-1] if settings and settings.fixed_input_size else 0


def in_process(combination: Combination, images: Path, folder: Path, limit_s: float) -> tuple[str, str]:
    """Return what `attempt` does in a process of its own, which may crash or take too long."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit_s), int(limit_s) + 1))
        there.send(attempt(combination, images, folder))

    process, before = context.Process(target=work), _cpu_of_children()
    process.start()
    there.close()
    try:
        if here.poll(10 * limit_s):
            return here.recv()  # type: ignore[no-any-return]
        return "hangs", f"not done after {10 * limit_s:.0f} s"
    except EOFError:
        process.join()
        if process.exitcode == -signal.SIGKILL and _cpu_of_children() - before < limit_s:
            return "memory ran out", "killed by the system"
        if process.exitcode in (-signal.SIGXCPU, -signal.SIGKILL):
            return "time ran out", f"more than {limit_s:.0f} s of a core"
        return "crashed", f"exit status {process.exitcode}"
    finally:
        process.kill()
        process.join()


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def attempt(combination: Combination, images: Path, folder: Path) -> tuple[str, str]:
    """Return the outcome of a combination and its message."""
    import yaml

    from compress.pipeline import dry_run
    from compress.pipeline.runner import run
    from compress.recipe.load import parse_recipe
    from compress.utils.errors import CompressError

    data = {"source": "image-folder", "path": str(images), "resolution": 32}
    measure = {"batches": [1], "rounds": 5, "processes": 1, "energy": "off"}
    worth = {"references": ["dense"], "tolerance": 0.5}
    whole = {"name": "it", "data": data, "stages": list(combination.stages), "measure": measure, "worth": worth}
    try:
        recipe = parse_recipe(yaml.safe_dump(whole))
        dry_run.try_recipe(recipe, folder)
    except CompressError as error:
        return _refusal(str(error), "refused")
    except Exception as error:
        return "unexpected before training", f"{type(error).__name__}: {error!s:.300}"
    try:
        run(recipe, folder, dry_run_first=False)
    except CompressError as error:
        return _refusal(str(error), "refused after training")
    except Exception as error:
        return "unexpected after training", f"{type(error).__name__}: {error!s:.300}"
    return "works", ""


def _refusal(message: str, outcome: str) -> tuple[str, str]:
    lines = message.splitlines()
    raw = any(re.match(r"(stage \S+: )?[A-Z]\w*(Error|Exception)\b", line) for line in lines)  # of no boundary
    unreadable = raw or any(inside in message for inside in INSIDES) or any(len(line) > LONGEST for line in lines)
    return ("unreadable refusal" if unreadable else outcome), message


def campaign(numbers: Sequence[int], seed: int, limit_s: float, work: Path) -> Iterator[Outcome]:
    """Yield the outcomes of combinations by their numbers, by which families take turns."""
    images = work / "images"
    for number, (part, each) in enumerate((("train", 8), ("val", 4), ("test", 4))):
        photographs(images / part, each, seed=number)
    known = {library: families(library) for library in SIDES}
    orders = {library: sorted(known[library]) for library in SIDES}
    for order in orders.values():
        Random(seed).shuffle(order)
    for number in numbers:
        library = "timm" if number < TORCHVISION else "torchvision"
        family, folder = orders[library][number % len(orders[library])], work / str(number)
        combination = draw(Random(f"{seed}/{number}"), library, family, known[library][family])
        started = time.monotonic()
        outcome, message = in_process(combination, images, folder, limit_s)
        shutil.rmtree(folder, ignore_errors=True)
        drawn = combination.family, combination.model, combination.side
        yield Outcome(number, *drawn, outcome, message[:LONGEST], round(time.monotonic() - started, 1))


def preload() -> None:
    """Import once what every process needs."""
    import nncf.onnx
    import nncf.torch  # noqa: F401
    import onnxruntime.quantization  # noqa: F401
    import openvino  # noqa: F401
    import torch_pruning  # noqa: F401
    import torchao.quantization.pt2e.quantize_pt2e  # noqa: F401

    import compress.pipeline.runner
    import compress.training.fit  # noqa: F401


def summarize(lines: Sequence[str]) -> bool:
    """Print outcomes and families of a file of outcomes, and return whether all are clean."""
    last = {each.number: each for each in (Outcome(**json.loads(line)) for line in lines)}
    print(f"{len(last)} combinations:", dict(Counter(each.outcome for each in last.values())))
    works = sorted({each.family for each in last.values() if each.outcome == "works"})
    print(f"{len(works)} of {len({each.family for each in last.values()})} families work to the end:", ", ".join(works))
    findings = [last[number] for number in sorted(last) if last[number].outcome not in CLEAN]
    for each in findings:
        print("finding", each)
    return not findings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--combinations", type=int, default=300)
    parser.add_argument("--first", type=int, default=0, help="number of the first combination, to go on")
    parser.add_argument("--numbers", type=int, nargs="+", help="these combinations only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds of a core for each combination")
    parser.add_argument("--json", type=Path, help="append the outcomes to this file, one line each")
    parser.add_argument("--summary", type=Path, nargs="+", help="print what is in such files, and end")
    options = parser.parse_args()
    if options.summary:
        sys.exit(not summarize([line for file in options.summary for line in file.read_text().splitlines()]))

    from compress.utils.console import console

    preload()
    console.quiet = True
    numbers = options.numbers or range(options.first, options.first + options.combinations)
    clean = True
    with tempfile.TemporaryDirectory() as work:
        for one in campaign(numbers, options.seed, options.limit, Path(work)):
            clean &= one.outcome in CLEAN
            print(f"{one} ({one.seconds} s)", flush=True)
            if options.json:
                with options.json.open("a") as file:
                    file.write(json.dumps(asdict(one)) + "\n")
    sys.exit(not clean)


if __name__ == "__main__":
    main()
