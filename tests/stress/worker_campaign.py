"""Disturb several workers on one store at random instants, and compare the store with that of one undisturbed worker.

    python tests/stress/worker_campaign.py --disturbances 50 --json workers.json
    python tests/stress/worker_campaign.py --disturbances 20 --store s3    # or gs, az
    python tests/stress/worker_campaign.py --scaling
    python tests/stress/worker_campaign.py --embedding

Workers are forks of this process, killed (and started again), stopped for longer than their lease, or, on an object
store, cut off from an emulator on loopback that stops answering. Units are the naps of `tests/pipeline/napping.py`
beside a real network. At the end every entry must have the bits of the undisturbed one, be published once, and nothing
may be left behind.
`--scaling` times 200 naps of 0.5 s with 1, 2 and 4 workers. `--embedding` lets 1, 2 and 4 workers embed 10,000 images
in 40 shards and compares the shards. Exit status 1: something was wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.update(OMP_NUM_THREADS="1", COMPRESS_LEASE_S="2")  # before torch is imported

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

if TYPE_CHECKING:
    from object_stores import ObjectStore

STOPPED_S = 4.0  # twice the lease


@dataclass
class Workers:
    """Worker processes on one store, and the events that they printed."""

    recipe: Path
    runs: str
    folder: Path
    started: int = 0
    alive: set[int] = field(default_factory=set)

    def start(self) -> None:
        """Fork a worker."""
        self.started += 1
        output = self.folder / f"{self.started}.jsonl"
        if process := os.fork():
            self.alive.add(process)
            return
        status = 70
        try:
            for descriptor in (1, 2):
                os.dup2(os.open(output if descriptor == 1 else f"{output}.err", os.O_WRONLY | os.O_CREAT), descriptor)
            status = _work(self.recipe, self.runs)
        finally:
            os._exit(status)

    def reap(self) -> None:
        """Forget workers that have ended."""
        for process in list(self.alive):
            with suppress(ChildProcessError):
                ended, status = os.waitpid(process, os.WNOHANG)
                if ended:
                    self.alive.discard(process)
                    code = os.waitstatus_to_exitcode(status)
                    if code not in (0, -signal.SIGKILL):
                        raise SystemExit(f"a worker ended with {code}; see {self.folder}")

    def made(self) -> Counter[str]:
        """Count how often each unit was published."""
        lines = [line for path in self.folder.glob("*.jsonl") for line in path.read_text().splitlines()]
        events = []
        for line in lines:
            with suppress(ValueError):  # cut by a kill
                events.append(json.loads(line))
        return Counter(event["unit"] for event in events if event["event"] == "made")


def _work(recipe: Path, runs: str) -> int:
    from naps import PLUGIN

    from compress.cli import main

    sys.argv = ["compress-model", "work", str(recipe), "--runs", runs, "--no-dry-run", "--json"]
    sys.argv += ["--plugin", str(PLUGIN)]
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def write_recipe(root: Path, naps: Sequence[float]) -> Path:
    """Write a recipe, and the photographs and weights that it names."""
    import torch
    from naps import write_naps
    from safetensors.torch import save_file
    from support import photographs

    from compress.models.factory import create_model

    if not (root / "images").exists():
        for part, count in (("train", 8), ("val", 4), ("test", 8)):
            photographs(root / "images" / part, count, seed=len(part))
        torch.manual_seed(0)
        save_file(create_model("timm", "test_resnet", 3, 32).state_dict(), root / "teacher.safetensors")
    path = root / "naps.yaml"
    write_naps(path, root, (f"seconds: {nap}" for nap in naps))
    return path


def contents(store: Path) -> dict[str, str]:
    """Return the manifests of a store's naps and the digest of its network."""
    found = {}
    for path in store.glob("*/entry.json"):
        manifest = json.loads(path.read_text())
        if manifest["what"].startswith("nap"):
            found[path.parent.name] = path.read_text()
        elif manifest["what"] == "net":
            found[path.parent.name] = manifest["files"]["model.safetensors"]["sha256"]
    return found


def fetch(root: Path, keys: Iterable[str]) -> None:
    """Download entries of a store at a URL."""
    from compress.store.store import Store

    store = Store(root)
    for key in keys:
        store.has(key)
    if job := store.job():
        job.end()  # otherwise this process would be one that uses the store


def strays(store: Path) -> list[str]:
    """Return what is left beside the entries of a local store."""
    folders = ("partial", "locks", "running", "failed", "trash")
    return [str(path.relative_to(store)) for name in folders for path in (store / name).glob("**/*") if path.is_file()]


def damaged(runs: Path) -> list[str]:
    from compress.store.gc import check

    return list(check(runs / "store"))


def disturb(workers: Workers, server: ObjectStore | None, draw: random.Random) -> str:
    """Kill or stop a worker, or the server; a killed worker is started again."""
    what = draw.choice(["kill", "kill", "stop", *(["partition"] if server else [])])
    process = server.process.pid if server and what == "partition" else draw.choice(sorted(workers.alive))
    if what == "kill":
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        workers.alive.discard(process)
        workers.start()
    else:
        os.kill(process, signal.SIGSTOP)
        time.sleep(STOPPED_S)
        os.kill(process, signal.SIGCONT)
    return what


def campaign(folder: Path, count: int, store: str, seed: int) -> dict[str, object]:
    """Disturb rounds of workers until there were `count` disturbances, and compare each round's store."""
    draw, done, wrong = random.Random(seed), Counter[str](), list[str]()
    naps = [round(0.05 + 0.01 * number, 3) for number in range(24)]
    recipe = write_recipe(folder, naps)
    server = None if store == "local" else _emulator(store, folder)
    os.environ.update({"XDG_CACHE_HOME": str(folder / "cache"), **(server.variables if server else {})})
    bucket = server.new_bucket_apart() if server else ""
    one = Workers(recipe, str(folder / "serial"), folder / "serial-output")
    _finish(one)
    expected = contents(folder / "serial" / "store")
    rounds = 0
    while done.total() < count:
        rounds += 1
        runs = f"{bucket}/{rounds}" if server else str(folder / f"runs{rounds}")
        workers = Workers(recipe, runs, folder / f"output{rounds}")
        workers.folder.mkdir(parents=True)
        for _ in range(draw.choice([2, 3, 4])):
            workers.start()
        time.sleep(1)
        while workers.alive and done.total() < count:
            time.sleep(draw.uniform(0.1, 0.8))
            workers.reap()
            if workers.alive:
                done[disturb(workers, server, draw)] += 1
        _finish(workers)
        wrong += _compare(workers, runs, expected, rounds, server)
        print(f"round {rounds}: disturbances {dict(done)}, wrong: {wrong or 'nothing'}", flush=True)
    if server:
        server.stop()
    return {"disturbances": dict(done), "rounds": rounds, "units": len(expected), "wrong": wrong}


def _emulator(scheme: str, folder: Path) -> ObjectStore:
    """Start an emulator; one that is not installed ends the campaign in a line."""
    import pytest
    from object_stores import ObjectStore

    try:
        return ObjectStore(scheme, folder)
    except pytest.skip.Exception as error:
        raise SystemExit(f"error: {error}; see tests/object_stores.py") from None


def _finish(workers: Workers, more: int = 1) -> None:
    """Let workers end, with so many more, which make what killed ones left."""
    workers.folder.mkdir(parents=True, exist_ok=True)
    for _ in range(more):
        workers.start()
    while workers.alive:
        workers.reap()
        time.sleep(0.05)


def _compare(
    workers: Workers, runs: str, expected: dict[str, str], number: int, server: ObjectStore | None
) -> list[str]:
    from compress.store.origin import local_runs, shared_runs

    local = local_runs(runs)
    wrong = [f"round {number}: {line}" for line in damaged(local)]
    if server:
        shutil.rmtree(local)  # another machine
        _finish(Workers(workers.recipe, runs, workers.folder / "after"))
        shared = shared_runs(local_runs(runs))
        assert shared
        names = [name for name in shared.names("store") if name.split("/")[1] in ("locks", "workers", "failed")]
        wrong += [f"round {number}: left at the URL: {name}" for name in names]
        local = local_runs(runs)
        fetch(local / "store", expected)
    found = contents(local / "store")
    if found != expected:
        other = sorted(key for key in expected.keys() | found.keys() if found.get(key) != expected.get(key))
        wrong.append(f"round {number}: other bits or missing: {other}")
    wrong += [f"round {number}: left: {name}" for name in strays(local / "store")]
    # A worker that is killed between publishing and printing has not printed: never more than once is what counts.
    wrong += [f"round {number}: {unit} published {times} times" for unit, times in workers.made().items() if times > 1]
    return wrong


def scaling(folder: Path, units: int, seconds: float) -> dict[str, object]:
    """Time naps by 1, 2 and 4 workers, from the first start of a nap to the end of the last."""
    recipe = write_recipe(folder, [seconds + number / 1e6 for number in range(units)])
    times = {}
    for count in (1, 2, 4):
        workers = Workers(recipe, str(folder / f"scaling{count}"), folder / f"scaling{count}-output")
        _finish(workers, count)
        store = folder / f"scaling{count}" / "store"
        ends = [path.stat().st_ctime for path in store.glob("*/nap.txt")]
        times[count] = max(ends) - min(ends)
        ideal = (units - count) / count * seconds
        overhead = (times[count] * count / (units - count) - seconds) * 1e3
        print(
            f"{count} workers: {times[count]:.1f} s, {ideal / times[count]:.1%} of linear, {overhead:.0f} ms per unit"
        )
    return {"units": units, "seconds": seconds, "times": times}


def embedding(folder: Path) -> dict[str, object]:
    """Embed the same images by 1, 2 and 4 workers, and compare the manifests of all shards."""
    import numpy as np
    from PIL import Image

    recipe, draw = write_recipe(folder, [0.1]), np.random.default_rng(0)
    for number in range(10_000):
        name = ("across", "both", "down")[number % 3]
        path = folder / "many" / "train" / name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path, compress_level=0)
    for part in ("val", "test"):
        shutil.copytree(folder / "images" / part, folder / "many" / part, dirs_exist_ok=True)
    teacher = f"source: timm, model: test_resnet, checkpoint: {folder}/teacher.safetensors, shard: 250"
    lines = [
        "name: many",
        f"data: {{source: image-folder, path: {folder}/many, resolution: 32}}",
        "stages:",
        f"  - {{id: teacher, kind: teacher, teacher: {{{teacher}}}}}",
        "  - {id: student, kind: distill, from: teacher, student: test_resnet, epochs: 1, batch: 256, views: 1}",
        "worth: {references: [teacher]}",
    ]
    recipe.write_text("\n".join(lines) + "\n")
    manifests, shares = {}, {}
    for count in (1, 2, 4):
        workers = Workers(recipe, str(folder / f"many{count}"), folder / f"many{count}-output")
        clock = time.monotonic()
        _finish(workers, count)
        store = folder / f"many{count}" / "store"
        found = {path.parent.name: path.read_text() for path in store.glob("*/entry.json")}
        manifests[count] = {key: text for key, text in found.items() if "embeddings.npy" in text}
        helped = [path.read_text().count("embeddings of view") for path in sorted(workers.folder.glob("*.jsonl"))]
        shares[count] = f"{len(manifests[count])} shards in {time.monotonic() - clock:.0f} s, by helpers: {sum(helped)}"
        print(f"{count} workers: {shares[count]}", flush=True)
    wrong = [f"{count} workers: other shards" for count in (2, 4) if manifests[count] != manifests[1]]
    return {"shares": shares, "wrong": wrong}


def main() -> int:
    from object_stores import SERVICES

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--disturbances", type=int, default=50)
    parser.add_argument("--store", choices=["local", *SERVICES], default="local")
    parser.add_argument("--scaling", action="store_true")
    parser.add_argument("--embedding", action="store_true")
    parser.add_argument("--units", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="workers-"))
    folder.mkdir(parents=True, exist_ok=True)
    import compress.api
    import compress.pipeline.work  # noqa: F401

    if given.scaling:
        summary = scaling(folder, given.units, 0.5)
    elif given.embedding:
        summary = embedding(folder)
    else:
        summary = campaign(folder, given.disturbances, given.store, given.seed)
    if given.json:
        given.json.write_text(json.dumps({"summary": summary}, indent=1))
    print(json.dumps(summary))
    return 1 if summary.get("wrong") else 0


if __name__ == "__main__":
    sys.exit(main())
