"""Kills a small real recipe again and again, and compares what comes out with an undisturbed run, bit for bit.

    python scripts/crash_campaign.py --chains 5 --json crash.json

A chain is one job: its run is killed somewhere in its first stage, started again, killed somewhere in the next one, and
so on to the report. Runs are forks of this process, which has imported everything and has one thread. `--plant NAME`
puts a fault in, which the campaign must then find: its exit status is 1 when something was lost.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import _faults
from _campaign import (
    Job,
    differences,
    fresh_folder,
    import_all,
    outcome,
    place,
    runs_begun,
    sealed,
    start,
    strays,
    wait,
    write_job,
)

SIGNALS = {"SIGKILL": -9, "SIGTERM": 143, "SIGINT": 130}
MAX_LENGTH = 400  # seconds that a run may take
Row = dict[str, Any]


class Campaign:
    """The undisturbed run, and one row for each thing that was done to others.

    Attributes:
        rows: `{what, at, after_s, status, wrong: [..]}`.
    """

    def __init__(self, folder: Path, seed: int, short: bool, plant: str | None) -> None:
        self.folder, self.rng, self.short = folder, random.Random(seed), short
        self.patch = partial(_faults.watch, folder / "renames.txt", plant)
        self.temporary = fresh_folder(folder / "tmp")
        os.environ["TMPDIR"] = str(self.temporary)
        tempfile.tempdir = None
        self.source = fresh_folder(folder / "source")
        write_job(self.source, short=short)
        self.rows: list[Row] = []
        whole = self.job("undisturbed")
        self.durations = self._undisturbed(whole)
        self.expected = outcome(whole)

    def job(self, name: str) -> Job:
        return Job(fresh_folder(self.folder / name), self.source)

    def _undisturbed(self, job: Job) -> dict[str, float]:
        """Run it, and return how long it is at each place."""
        process, at, since = start(job), "plan", time.monotonic()
        durations: dict[str, float] = {}
        while not os.waitpid(process, os.WNOHANG)[0]:
            now = place(job, 1)
            durations[at] = durations.get(at, 0.0) + time.monotonic() - since
            at, since = now, time.monotonic()
            time.sleep(0.005)
        if not job.finished():
            sys.exit(f"the undisturbed run failed:\n{job.said.read_text()}")
        return durations

    def chain(self, name: str, signals: list[str]) -> None:
        """Kill one job at each of its places once, and compare what is left at the end."""
        job, seen = self.job(name), dict[str, int]()
        targets = [place for place in self.durations if place != "end"]
        for target in targets if not self.short else sorted(self.rng.sample(targets, 3), key=targets.index):
            length = self.durations[target]
            wanted = self.rng.choice(signals)
            row = self._killed(job, target, self.rng.uniform(0, length), wanted)
            if row:
                self.rows.append(row)
                seen = _redone(job, seen, row["wrong"])
        self.rows.append(self._finish(job, f"{name}, gone on with", seen))

    def _killed(self, job: Job, target: str, after: float, wanted: str) -> Row | None:
        """Start a run, and kill it so many seconds after it came to a place; None where it had ended by then."""
        begun, said_before = runs_begun(job) + 1, job.said.stat().st_size if job.said.exists() else 0
        process, since = start(job, self.patch), None
        deadline = time.monotonic() + MAX_LENGTH
        while time.monotonic() < deadline:
            if since is None and (target == "plan" or place(job, begun) == target):
                since = time.monotonic()
            if since is not None and time.monotonic() >= since + after:
                break
            if os.waitpid(process, os.WNOHANG)[0]:
                return None
            time.sleep(0.002)
        at = place(job, begun)
        os.kill(process, getattr(signal, wanted))
        status = wait(process)
        if status == 0:
            return None
        said = job.said.read_text()[said_before:]
        wrong = [] if status == SIGNALS[wanted] else [f"status {status} instead of {SIGNALS[wanted]}"]
        wrong += ["a traceback"] if "Traceback" in said else []
        if wanted != "SIGKILL" and "stopped; the same command goes on" not in said and at != "plan":
            wrong.append("it does not say how to go on")
        return {"what": wanted, "at": at, "after_s": round(after, 3), "status": status, "wrong": wrong}

    def _finish(self, job: Job, what: str, seen: dict[str, int], expected_status: int = 0) -> Row:
        """Run a job to its end, and say what is not as it would be undisturbed."""
        before = len(job.said.read_text()) if job.said.exists() else 0
        status = wait(start(job, self.patch), MAX_LENGTH)
        wrong = (
            [] if status == expected_status else [f"status {status}: {job.said.read_text()[before:].strip()[-300:]}"]
        )
        wrong += ["a traceback"] if "Traceback" in job.said.read_text()[before:] else []
        if status == 0:
            _redone(job, seen, wrong)
            wrong += [f"other bits: {text}" for text in differences(self.expected, outcome(job))][:5]
            wrong += [f"left behind: {path}" for path in strays(job, self.temporary)][:5]
        return {"what": what, "at": "end", "after_s": None, "status": status, "wrong": wrong}

    def together(self, count: int) -> None:
        """Several runs at once on one store, one of them killed."""
        job = self.job(f"together-{count}")
        processes = [start(job, self.patch) for _ in range(count)]
        time.sleep(self.rng.uniform(0.2, 0.7) * sum(self.durations.values()))
        at = place(job, 1)
        os.kill(processes[0], signal.SIGKILL)
        statuses = [wait(process, count * MAX_LENGTH) for process in processes]
        wrong = [] if statuses[1:] == [0] * (count - 1) else [f"the others ended with {statuses[1:]}"]
        for sums in job.finished():
            wrong += [f"other bits: {text}" for text in differences(self.expected, outcome(job, sums.parent))][:5]
        self.rows.append(
            {"what": f"SIGKILL, one of {count}", "at": at, "after_s": None, "status": statuses[0], "wrong": wrong}
        )
        self.rows.append(self._finish(job, f"one of {count}, gone on with", sealed(job)))

    def trouble(self, name: str, what: Callable[[], None], words: str, at_end: Callable[[Job], None]) -> None:
        """One run under a condition in which it must stop with one clear line, or end well; then it is gone on with."""
        job = self.job(name)
        (job.runs).mkdir(exist_ok=True)
        self.condition(name, job, what, words)
        at_end(job)
        self.rows.append(self._finish(job, f"{name}, gone on with", sealed(job)))

    def condition(self, name: str, job: Job, what: Callable[[], None], words: str) -> None:
        before = len(job.said.read_text()) if job.said.exists() else 0

        def patch() -> None:
            self.patch()
            what()

        status = wait(start(job, patch), MAX_LENGTH)
        at, said = place(job, 1), job.said.read_text()[before:]
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        wrong = ["a traceback"] if "Traceback" in said else []
        if status == 1 and (len(errors) != 1 or not any(word in errors[0] for word in words.split("|"))):
            wrong.append(f"not one clear line: {said.strip()[-300:]}")
        if status not in (0, 1) and status >= 0:
            wrong.append(f"status {status}")
        self.rows.append({"what": name, "at": at, "after_s": None, "status": status, "wrong": wrong})

    def troubles(self) -> None:
        """Memory, disk, a store that is read-only, a clock that is set back."""
        for megabytes in (100, 300, 600):
            short = partial(_faults.limit_memory, megabytes * 2**20)
            self.trouble(f"{megabytes} MB of memory more", short, "memory", lambda job: None)
        self.trouble("a clock set back by a year", _faults.set_clock_back, "", lambda job: None)
        for size in ("300k", "1m", "2m", "3m", "5m"):
            self.on_small_disk(size)
        self.read_only()

    def on_small_disk(self, size: str) -> None:
        """A file system of this size, which then grows."""
        job = self.job(f"disk-{size}")
        if not _mount(job.runs, size):
            for_files = partial(_faults.limit_files, int(size[:-1].replace("300", "1")) * 2**18)
            self.trouble(
                f"files limited, for a disk of {size}", for_files, "disk is full|File too large", lambda job: None
            )
            return
        try:
            self.condition(f"a disk of {size}", job, lambda: None, "disk is full|No space left")
            _mount(job.runs, "512m", "remount")
            self.rows.append(self._finish(job, f"a disk of {size}, grown", sealed(job)))
        finally:
            subprocess.run(["umount", str(job.runs)], check=True)

    def read_only(self) -> None:
        """A store that cannot be written to: empty, it is refused in one line; with everything in it, it is enough."""
        job = self.job("read-only")
        if not _mount(job.store, "512m"):
            return
        try:
            _mount(job.store, "512m", "remount,ro")
            self.condition("an empty read-only store", job, lambda: None, "Read-only file system|read-only")
            _mount(job.store, "512m", "remount,rw")
            self.rows.append(self._finish(job, "that store, writable", {}))
            _mount(job.store, "512m", "remount,ro")
            self.rows.append(self._finish(job, "a full read-only store", sealed(job)))
        finally:
            subprocess.run(["umount", str(job.store)], check=True)


def _mount(folder: Path, size: str, also: str = "") -> bool:
    folder.mkdir(parents=True, exist_ok=True)
    options = ",".join(filter(None, (f"size={size}", also)))
    return (
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], capture_output=True).returncode
        == 0
    )


def _redone(job: Job, seen: dict[str, int], wrong: list[str]) -> dict[str, int]:
    """What is finished now. An entry that was finished before must be the same still."""
    now = sealed(job)
    wrong += [f"made again: {key}" for key, when in seen.items() if now.get(key) != when]
    return now


def summary(rows: list[Row]) -> Row:
    """The figures of a campaign."""
    kills = [row for row in rows if row["what"].startswith("SIG")]
    return {
        "kills": len(kills),
        "instants": len({(row["at"], row["after_s"]) for row in kills}),
        "stages": sorted({row["at"] for row in kills}),
        "other_trouble": sum(row["at"] != "end" and row not in kills for row in rows),
        "resumed_to_the_end": sum(row["at"] == "end" and row["status"] == 0 for row in rows),
        "tracebacks": sum("a traceback" in row["wrong"] for row in rows),
        "wrong_figures": sum(text.startswith("other bits") for row in rows for text in row["wrong"]),
        "made_again": sum(text.startswith("made again") for row in rows for text in row["wrong"]),
        "left_behind": sum(text.startswith("left behind") for row in rows for text in row["wrong"]),
        "wrong": sum(len(row["wrong"]) for row in rows),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chains", type=int, default=5, help="jobs that are killed by SIGKILL at each of their places")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="a shorter recipe, and nothing but kills")
    parser.add_argument("--plant", choices=_faults.CRASH, help="put this fault in")
    parser.add_argument("--folder", type=Path, help="where to work; without it, a temporary folder")
    parser.add_argument("--json", type=Path, help="write rows and summary into this file")
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="crash-"))
    import_all(args.short)
    campaign = Campaign(folder, args.seed, args.short, args.plant)
    for number in range(args.chains):
        campaign.chain(f"chain-{number + 1}", ["SIGKILL"])
    if not args.short:
        campaign.chain("chain-of-signals-1", ["SIGTERM", "SIGINT"])
        campaign.chain("chain-of-signals-2", ["SIGTERM", "SIGINT"])
        for count in (2, 3, 4):
            campaign.together(count)
        campaign.troubles()
    renames = _faults.renames_without_fsync(folder / "renames.txt")
    campaign.rows.append({"what": "renames", "at": "end", "after_s": None, "status": 0, "wrong": renames})
    for row in campaign.rows:
        print(f"{row['what']:<34} {row['at']:<14} {row['status']:>4}  {'; '.join(row['wrong']) or 'well'}")
    found = summary(campaign.rows)
    for name, value in found.items():
        print(f"{name.replace('_', ' ')}: {', '.join(value) if isinstance(value, list) else value}")
    if args.json:
        args.json.write_text(json.dumps({"summary": found, "rows": campaign.rows}, indent=1) + "\n")
    sys.exit(1 if found["wrong"] else 0)


if __name__ == "__main__":
    main()
