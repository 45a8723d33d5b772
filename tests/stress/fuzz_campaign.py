"""Feed hostile inputs to every reader of untrusted files, and report what is not refused cleanly.

    python tests/stress/fuzz_campaign.py --inputs 10000 --seed 0

Each target runs in its own child process, with limits of memory, file size and time per input. Clean is a result, or an
error of ours. Findings are: any other error, memory or time that ran out, a killed child, code of the input that ran, a
file written outside the input's folder, another program started, a connection, a page that runs or loads something. The
input of each finding is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "tests")]

from hostile_inputs import CANARY  # noqa: E402
from hostile_plants import PLANTS  # noqa: E402
from hostile_targets import TARGETS  # noqa: E402

MEMORY = 3 * 2**30  # bytes of addresses beyond what the child has when it starts
MAX_FILE = 256 * 2**20
PATIENCE_S = 20  # beyond the limit, after which a child that hangs outside of Python is killed
CONNECTS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn")
CHANGES = {
    "os.mkdir": 0,
    "os.remove": 0,
    "os.rmdir": 0,
    "os.rename": 1,
    "os.symlink": 1,
    "os.link": 1,
    "os.truncate": 0,
}


BESIDE_AN_OPEN_FOLDER = ("os.mkdir", "os.remove", "os.rmdir")


class TimeLimit(BaseException):
    """Raised when an input takes too long."""


# --- the child ----------------------------------------------------------------------------------------------------


class Watch:
    """Record, from Python's audit events, what is written, started and connected to while an input is read."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.on = os.path.realpath(folder), False
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event.startswith(CONNECTS + STARTS):
            self.seen.append(f"{event} {arguments[:1]!r:.100}")
        elif event == "open":
            path, mode, flags = arguments
            writes = any(letter in mode for letter in "wax+") if mode else (flags or 0) & (os.O_WRONLY | os.O_RDWR)
            if writes:
                self._written(event, path)
        elif event in CHANGES:
            beside = arguments[-1] if event in BESIDE_AN_OPEN_FOLDER and arguments[-1] != -1 else None
            self._written(event, arguments[CHANGES[event]], beside)

    def _written(self, event: str, path: Any, beside: int | None = None) -> None:
        if isinstance(path, str | bytes | os.PathLike):
            name = os.fsdecode(path)
            try:
                if beside is not None:
                    name = f"{os.readlink(f'/proc/self/fd/{beside}')}/{name}"  # noqa: PTH115
            except OSError:  # deeper than a path may be long, which nothing outside is
                return
            whole = os.path.abspath(name)  # noqa: PTH100 - resolve() would raise events of its own
            if not whole.startswith((self.folder, "/dev/null")):
                self.seen.append(f"{event} {whole:.200}")


def child(target: str, seed: int, first: int, count: int, work: Path, limit: float, plant: str | None) -> None:
    """Feed inputs to one target, and print a line of JSON for each."""
    from compress.data.image_io import BrokenImage
    from compress.utils.errors import CompressError

    attack, _ = TARGETS[target]
    if plant:
        PLANTS[plant][1]()
    out = os.fdopen(os.dup(1), "w", buffering=1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    watch = Watch(work)
    _warm_up(attack, target, work)
    _limits()
    signal.signal(signal.SIGALRM, _too_long)
    for number in range(first, first + count):
        folder = work / str(number)
        folder.mkdir()
        started, why = time.monotonic(), None
        watch.seen.clear()
        watch.on = True
        signal.setitimer(signal.ITIMER_REAL, limit)
        try:
            attack(Random(f"{seed}/{target}/{number}"), folder)
            outcome = "accepted"
        except (CompressError, BrokenImage):
            outcome = "refused"
        except (Exception, TimeLimit, SystemExit, KeyboardInterrupt) as error:
            outcome, why = "finding", f"{type(error).__name__}: {error!s:.300}"
        signal.setitimer(signal.ITIMER_REAL, 0)
        watch.on = False
        if watch.seen or (folder / CANARY).exists():
            outcome, why = "finding", watch.seen[0] if watch.seen else "code of the input ran"
        took, peak = time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        out.write(json.dumps({"number": number, "outcome": outcome, "why": why, "s": took, "rss_kib": peak}) + "\n")
        if outcome != "finding":
            _remove(folder)


def _warm_up(attack: Callable[[Random, Path], None], target: str, work: Path) -> None:
    """Import everything and fill caches before limits and watch start."""
    for number in range(3):
        folder = work / f"warm-up-{number}"
        folder.mkdir()
        with suppress(Exception):
            attack(Random(f"warm-up/{target}/{number}"), folder)
        _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder; `rmtree` fails on folders that are nested a thousand deep."""
    if (folder / "train").exists():
        subprocess.run(["rm", "-rf", folder], check=True)
    else:
        shutil.rmtree(folder)


def _limits() -> None:
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE, MAX_FILE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _too_long(*_: Any) -> None:
    raise TimeLimit


# --- the parent ---------------------------------------------------------------------------------------------------


def campaign(target: str, seed: int, count: int, options: argparse.Namespace) -> dict[str, Any]:
    """Run all inputs of a target; a child that dies or hangs is a finding, and a new child continues after it."""
    outcomes: Counter[str] = Counter()
    findings, slowest, peak, first = [], 0.0, 0, 0
    started = time.monotonic()
    while first < count:
        work = Path(tempfile.mkdtemp(prefix=f"{target}-", dir=options.work))
        words = [target, str(seed), str(first), str(count - first), str(work), str(options.limit), options.plant or ""]
        variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(work)}
        variables.pop("TORCHINDUCTOR_CACHE_DIR", None)  # which PyTorch sets for its children, and then makes the folder
        command = [sys.executable, __file__, "--child", *words]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env=variables)
        assert process.stdout
        patience = options.limit + PATIENCE_S + 60  # the first line comes after the imports
        while select.select([process.stdout], [], [], patience)[0] and (line := process.stdout.readline()):
            row, patience = json.loads(line), options.limit + PATIENCE_S
            outcomes[row["outcome"]] += 1
            first, slowest, peak = row["number"] + 1, max(slowest, row["s"]), max(peak, row["rss_kib"])
            if row["outcome"] == "finding":
                findings.append(_kept(target, row["number"], row["why"], work, options.keep))
        process.kill()
        ended = process.wait()
        if first < count:
            outcomes["finding"] += 1
            findings.append(_kept(target, first, f"the child hung, or died with {ended}", work, options.keep))
            first += 1
        subprocess.run(["rm", "-rf", work], check=True)
    return {
        "target": target,
        "inputs": count,
        **{name: outcomes[name] for name in ("accepted", "refused", "finding")},
        "slowest_s": round(slowest, 2),
        "peak_mib": peak // 1024,
        "seconds": round(time.monotonic() - started, 1),
        "findings": findings,
    }


def _kept(target: str, number: int, why: str, work: Path, keep: Path) -> dict[str, Any]:
    kept = keep / f"{target}-{number}"
    subprocess.run(["rm", "-rf", kept], check=True)
    keep.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", work / str(number), kept], check=False, stderr=subprocess.DEVNULL)
    return {"number": number, "why": why, "input": str(kept)}


def main() -> None:
    """Run the campaign: 0 without findings, 1 with."""
    if sys.argv[1:2] == ["--child"]:
        target, seed, first, count, work, limit, plant = sys.argv[2:]
        child(target, int(seed), int(first), int(count), Path(work), float(limit), plant or None)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS), metavar="TARGET")
    parser.add_argument("--limit", type=float, default=30.0, help="seconds per input")
    parser.add_argument("--plant", choices=PLANTS, help="plant a fault that the campaign must find")
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="folder for the inputs of findings")
    options = parser.parse_args()
    targets = [PLANTS[options.plant][0]] if options.plant else options.targets
    whole = sum(TARGETS[target][1] for target in targets)
    with tempfile.TemporaryDirectory() as work:
        options.work = work
        counts = {target: max(1, round(options.inputs * TARGETS[target][1] / whole)) for target in targets}
        rows = [campaign(target, options.seed, count, options) for target, count in counts.items()]
    shown = [name for name in rows[0] if name != "findings"]
    for cells in (shown, *([str(row[name]) for name in shown] for row in rows)):
        print("  ".join(f"{cell:>10}" for cell in cells))
    found = [finding for row in rows for finding in row["findings"]]
    for finding in found:
        print(f"finding: {finding['input']}: {finding['why']}")
    print(f"{sum(row['inputs'] for row in rows):,} inputs, seed {options.seed}: {len(found)} findings")
    if options.json:
        options.json.write_text(json.dumps({"seed": options.seed, "plant": options.plant, "targets": rows}, indent=1))
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
