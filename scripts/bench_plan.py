"""Benchmark `plan`, `store list` and `store clean` with many stages and many entries.

    python scripts/bench_plan.py --stages 200 --entries 10000

Each command runs in its own process; its peak resident memory is printed beside its time. The first one has an empty
store, so it imports torch, decodes the images and times each network; the next ones reuse that. The last line is the
time to check an entry, relative to reading it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from compress.pipeline.plan import make_plan
from compress.recipe.load import load_recipe
from compress.store.manifest import MANIFEST, find_damage, read_manifest
from compress.store.store import Store
from compress.utils.hashing import key_of

HEAD = """\
name: many
data: cifar10-sample
stages:
  - {id: teacher, kind: teacher, teacher: embedded}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", type=int, default=200)
    parser.add_argument("--entries", type=int, default=10_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        recipe, runs = Path(temporary) / "many.yaml", Path(temporary) / "runs"
        recipe.write_text(HEAD + "".join(_stages(args.stages - 1)))
        store = Store(runs / "store")
        store.root.mkdir(parents=True)
        plan = [["plan", str(recipe), "--runs", str(runs)]]
        _time(f"plan of {args.stages} stages, networks never timed", plan[0])
        _time(f"plan of {args.stages} stages, nothing stored", plan[0])
        for unit in make_plan(load_recipe(str(recipe)), store).stages:
            store.get(unit.key, unit.id, _fill)
        _time(f"plan of {args.stages} stages, all stored", plan[0])
        for number in range(args.entries - args.stages):
            _copy(store, unit.key, key_of(number=number))
        _time(f"plan, of {args.entries} entries", plan[0])
        for words in ("list", "check", "clean --max-size 1MB --dry-run", "clean --max-size 1MB"):
            _time(f"store {words}, of {args.entries} entries", ["store", *words.split(), "--runs", str(runs)])
        print(
            f"checking an entry of 100 MB takes {_check_ratio(Store(Path(temporary) / 'large')):.2f} times its reading"
        )


def _stages(count: int) -> list[str]:
    """Return chains of five stages: a student, and variants made from it."""
    lines = []
    for number in range(count):
        chain, place = divmod(number, 5)
        if place == 0:
            lines.append(
                f"  - {{id: s{number}, kind: distill, from: teacher, student: resnet18, epochs: {chain + 1}}}\n"
            )
        else:
            kind = "prune, target_macs: 0.8" if place < 4 else "quantize"
            lines.append(f"  - {{id: s{number}, kind: {kind}, from: s{number - 1}}}\n")
    return lines


def _fill(folder: Path) -> None:
    (folder / "metrics.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(os.urandom(1000))


def _copy(store: Store, key: str, new: str) -> None:
    """Copy an entry without fsync, because making ten thousand the usual way takes minutes."""
    shutil.copytree(store.path(key), store.path(new))
    manifest = read_manifest(store.path(key))
    assert manifest is not None
    (store.path(new) / MANIFEST).write_text(manifest.model_copy(update={"key": new, "what": "a copy"}).text())


def _time(what: str, arguments: list[str]) -> None:
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "compress", *arguments], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, what
    wall, memory = time.perf_counter() - started, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    seconds = used.ru_utime + used.ru_stime
    print(f"{what}: {wall:.2f} s ({seconds:.2f} s of processor), {memory / 2**20:.0f} MiB", flush=True)


def _check_ratio(store: Store) -> float:
    store.root.mkdir()
    folder, _ = store.get("large", "large", lambda work: (work / "array.npy").write_bytes(os.urandom(10**8)) and None)
    times = []
    for read in (lambda: find_damage(folder), lambda: (folder / "array.npy").read_bytes()):
        started = time.perf_counter()
        read()
        times.append(time.perf_counter() - started)
    return times[0] / times[1]


if __name__ == "__main__":
    main()
