"""Kill a small real recipe again and again, and compare the outcome with that of an undisturbed run, bit for bit.

    python tests/stress/crash_campaign.py --chains 5 --json crash.json

A chain is one job: its run is killed somewhere in its first stage, restarted, killed somewhere in the next stage, and
so on to the report. Runs are forks of this process, which has imported everything and has one thread. `--plant NAME`
plants a fault that the campaign must find. Exit status 1: something was lost.
"""

from __future__ import annotations

import argparse
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

import faults
from campaign import (
    Job,
    differences,
    finish,
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
MAX_SECONDS = 400  # of a run
Row = dict[str, Any]


class Campaign:
    """The undisturbed run, and a row for each disturbance of another one.

    Attributes:
        rows: `{what, at, after_s, status, wrong: [..]}`.
    """

    def __init__(self, folder: Path, seed: int, short: bool, plant: str | None) -> None:
        self.folder, self.rng, self.short = folder, random.Random(seed), short
        self.patch = partial(faults.watch, folder / "renames.txt", plant)
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
        """Run a job, and return the seconds that it spends at each place."""
        process, at, since = start(job), "plan", time.monotonic()
        durations: dict[str, float] = {}
        while not os.waitpid(process, os.WNOHANG)[0]:
            now = place(job, 1)
            durations[at] = durations.get(at, 0.0) + time.monotonic() - since
            at, since = now, time.monotonic()
            time.sleep(0.005)
        if not job.finished():
            sys.exit(f"the undisturbed run failed:\n{job.output.read_text()}")
        return durations

    def chain(self, name: str, signals: list[str]) -> None:
        """Kill one job once at each of its places, and compare the outcome."""
        job, seen = self.job(name), dict[str, int]()
        targets = [place for place in self.durations if place != "end"]
        for target in targets if not self.short else sorted(self.rng.sample(targets, 3), key=targets.index):
            length = self.durations[target]
            wanted = self.rng.choice(signals)
            row = self._killed(job, target, self.rng.uniform(0, length), wanted)
            if row:
                self.rows.append(row)
                seen = _redone(job, seen, row["wrong"])
        self.rows.append(self._finish(job, f"{name}, resumed", seen))

    def _killed(self, job: Job, target: str, after: float, wanted: str) -> Row | None:
        """Start a run and kill it `after` seconds at a place; return None if it ended before."""
        begun, printed = runs_begun(job) + 1, job.output.stat().st_size if job.output.exists() else 0
        process, since = start(job, self.patch), None
        deadline = time.monotonic() + MAX_SECONDS
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
        output = job.output.read_text()[printed:]
        wrong = [] if status == SIGNALS[wanted] else [f"status {status} instead of {SIGNALS[wanted]}"]
        wrong += ["a traceback"] if "Traceback" in output else []
        if wanted != "SIGKILL" and "rerun the same command to resume" not in output and at != "plan":
            wrong.append("it does not tell how to resume")
        return {"what": wanted, "at": at, "after_s": round(after, 3), "status": status, "wrong": wrong}

    def _finish(self, job: Job, what: str, seen: dict[str, int], expected_status: int = 0) -> Row:
        """Run a job to its end, and note how the outcome differs from an undisturbed run."""
        before = len(job.output.read_text()) if job.output.exists() else 0
        status = wait(start(job, self.patch), MAX_SECONDS)
        wrong = (
            [] if status == expected_status else [f"status {status}: {job.output.read_text()[before:].strip()[-300:]}"]
        )
        wrong += ["a traceback"] if "Traceback" in job.output.read_text()[before:] else []
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
        statuses = [wait(process, count * MAX_SECONDS) for process in processes]
        wrong = [] if statuses[1:] == [0] * (count - 1) else [f"the others ended with {statuses[1:]}"]
        for sums in job.finished():
            wrong += [f"other bits: {text}" for text in differences(self.expected, outcome(job, sums.parent))][:5]
        self.rows.append(
            {"what": f"SIGKILL, one of {count}", "at": at, "after_s": None, "status": statuses[0], "wrong": wrong}
        )
        self.rows.append(self._finish(job, f"one of {count}, resumed", sealed(job)))

    def trouble(self, name: str, what: Callable[[], None], words: str, at_end: Callable[[Job], None]) -> None:
        """Run under a condition in which a run must fail with one clear line, or succeed; then resume it."""
        job = self.job(name)
        (job.runs).mkdir(exist_ok=True)
        self.condition(name, job, what, words)
        at_end(job)
        self.rows.append(self._finish(job, f"{name}, resumed", sealed(job)))

    def condition(self, name: str, job: Job, what: Callable[[], None], words: str) -> None:
        """Run once under a condition; an error must be one line with one of the `words`, separated by `|`."""
        before = len(job.output.read_text()) if job.output.exists() else 0

        def patch() -> None:
            self.patch()
            what()

        status = wait(start(job, patch), MAX_SECONDS)
        at, output = place(job, 1), job.output.read_text()[before:]
        errors = [line for line in output.splitlines() if line.startswith("error: ")]
        wrong = ["a traceback"] if "Traceback" in output else []
        if status == 1 and (len(errors) != 1 or not any(word in errors[0] for word in words.split("|"))):
            wrong.append(f"not one clear line: {output.strip()[-300:]}")
        if status not in (0, 1) and status >= 0:
            wrong.append(f"status {status}")
        self.rows.append({"what": name, "at": at, "after_s": None, "status": status, "wrong": wrong})

    def troubles(self) -> None:
        """Run short of memory or disk, on a read-only store, and with a clock that was set back."""
        for megabytes in (100, 300, 600):
            short = partial(faults.limit_memory, megabytes * 2**20)
            self.trouble(f"{megabytes} MB of free memory", short, "memory", lambda job: None)
        self.trouble("a clock set back by a year", faults.set_clock_back, "", lambda job: None)
        for size in ("300k", "1m", "2m", "3m", "5m"):
            self.on_small_disk(size)
        self.read_only()

    def on_small_disk(self, size: str) -> None:
        """Run on a file system of this size, which then grows."""
        job = self.job(f"disk-{size}")
        if not _mount(job.runs, size):
            for_files = partial(faults.limit_files, int(size[:-1].replace("300", "1")) * 2**18)
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
        """Run on a read-only store: refused in one line if it is empty, enough if it has everything."""
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
    """Return what is finished now, and note entries that were finished before and have been made again."""
    now = sealed(job)
    wrong += [f"made again: {key}" for key, when in seen.items() if now.get(key) != when]
    return now


def summary(rows: list[Row]) -> Row:
    """Sum up the rows of a campaign."""
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
    parser.add_argument("--chains", type=int, default=5, help="jobs to kill by SIGKILL at each of their places")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="use a shorter recipe, and only kill")
    parser.add_argument("--plant", choices=faults.CRASH, help="plant this fault")
    parser.add_argument("--folder", type=Path, help="working folder; default: a temporary one")
    parser.add_argument("--json", type=Path, help="write rows and summary to this file")
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
    renames = faults.renames_without_fsync(folder / "renames.txt")
    campaign.rows.append({"what": "renames", "at": "end", "after_s": None, "status": 0, "wrong": renames})
    lines = [
        f"{row['what']:<34} {row['at']:<14} {row['status']:>4}  {'; '.join(row['wrong']) or 'ok'}"
        for row in campaign.rows
    ]
    finish(lines, campaign.rows, summary(campaign.rows), args.json)


if __name__ == "__main__":
    main()
