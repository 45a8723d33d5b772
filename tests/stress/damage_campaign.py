"""Damage every file of a store and of a run in every way, one at a time, and check how that is handled.

    python tests/stress/damage_campaign.py --rounds 1 --json damage.json

A damaged entry must be named and rebuilt, a damaged file of a run named and refused (or rewritten, if it is a page),
and the figures must be those of the undisturbed run. Most damaged entries are "rebuilt" by copying them from the
undisturbed store, which is quick; some of each kind are really rebuilt. What a killed run has left is damaged as well,
and resumed. `--plant NAME` disables a check, which the campaign must notice.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import faults
from campaign import WITHOUT_TORCH, Job, differences, finish, fresh_folder, import_all, outcome, start, wait, write_job

WAYS = ("digit", "flip", "truncate", "delete", "empty", "swap")
Row = dict[str, Any]


def damage(path: Path, way: str, rng: random.Random, other: Path) -> bool:
    """Damage a file and return whether it has changed. Its other hard links stay as they are."""
    content = path.read_bytes()
    if way == "delete":
        path.unlink()
        return True
    digits = [place for place, byte in enumerate(content) if chr(byte).isdecimal() and byte < 128]
    if way == "digit" and digits:  # JSON stays JSON, and figures stay figures
        place = rng.choice(digits)
        new = content[:place] + str((int(chr(content[place])) + 1) % 10).encode() + content[place + 1 :]
    elif way in ("flip", "digit") and content:
        place = rng.randrange(len(content))
        new = content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]
    else:
        new = {
            "truncate": content[: rng.randrange(max(1, len(content)))],
            "empty": b"",
            "flip": content,
            "digit": content,
        }.get(way)
        new = other.read_bytes() if new is None else new
    path.unlink()
    path.write_bytes(new)
    return new != content


class Campaign:
    """One undisturbed job, and a damaged copy of it at a time.

    Attributes:
        rows: `{file, way, by, status, wrong: [..]}`.
    """

    def __init__(self, folder: Path, job: Job, seed: int, plant: str | None) -> None:
        self.folder, self.whole, self.rng = folder, job, random.Random(seed)
        self.plant: Callable[[], None] = faults.DAMAGE[plant] if plant else lambda: None
        self.expected = outcome(job)
        self.run = job.finished()[-1].parent.relative_to(job.runs)
        self.rows: list[Row] = []

    def copies(self, files: list[Path], ways: tuple[str, ...] = WAYS) -> Iterator[tuple[Job, Path, str]]:
        """Yield a copy of the job for each file and way in which that file is damaged."""
        for name in files:
            for way in ways:
                job = Job(fresh_folder(self.folder / "copy"), self.whole.source)
                shutil.copytree(self.whole.runs, job.runs, copy_function=os.link)
                other = self.whole.runs / self.rng.choice(
                    [file for file in (*files, Path("store/fingerprints.json")) if file != name]
                )
                if damage(job.runs / name, way, self.rng, other):
                    yield job, name, way

    def call(self, job: Job, *arguments: str, patch: Callable[[], None] = lambda: None) -> tuple[int, str]:
        """Run a command, and return its exit status and output."""

        def both() -> None:
            self.plant()
            patch()

        job.output.unlink(missing_ok=True)
        status = wait(start(job, both, ["compress-model", *arguments]))
        return status, job.output.read_text()

    def note(self, file: Path, way: str, by: str, status: int, output: str, wrong: list[str]) -> None:
        wrong = [*wrong, *(["a traceback"] if "Traceback" in output else [])]
        self.rows.append({"file": str(file), "way": way, "by": by, "status": status, "wrong": wrong})

    def store_files(self) -> list[Path]:
        return self._files(self.whole.store, lambda path: len(path.relative_to(self.whole.store).parts[0]) == 24)

    def run_files(self) -> list[Path]:
        return self._files(self.whole.runs / self.run, lambda path: True)

    def _files(self, folder: Path, wanted: Callable[[Path], bool]) -> list[Path]:
        return sorted(p.relative_to(self.whole.runs) for p in folder.rglob("*") if p.is_file() and wanted(p))

    def checked(self) -> None:
        """Check that `store check` names every damaged file."""
        for job, name, way in self.copies(self.store_files()):
            status, output = self.call(job, "store", "check", "--runs", str(job.runs))
            entry = name.parent.as_posix().split("/")[1]
            named = entry in output and (name.name in output or "it is the entry" in output)
            self.note(name, way, "store check", status, output, [] if status == 1 and named else ["not noticed"])

    def taken(self, ways: tuple[str, ...], *, really: bool) -> None:
        """Check that a run names each damaged entry that it needs, rebuilds it, and has the same figures."""
        log = [json.loads(line) for line in (self.whole.runs / self.run / "log.jsonl").read_text().splitlines()]
        units = {key: unit for event in log if event["event"] == "plan" for unit, key in event["units"].items()}
        files = [name for name in self.store_files() if name.parts[1] in units]
        if really:
            files = [self.rng.choice([name for name in files if name.parts[1] == key]) for key in units]
        restore = (lambda: None) if really else lambda: faults.restore_from(self.whole.store)
        for job, name, way in self.copies(files, ways):
            status, output = self.call(job, *job.command()[1:], patch=restore)
            wrong = [] if f"{name.parts[1]} is damaged (" in output else ["not noticed"]
            wrong += [] if status == 0 else [f"status {status}: {output.strip()[-200:]}"]
            if status == 0:
                wrong += [f"other bits: {text}" for text in differences(self.expected, outcome(job))][:3]
            self.note(name, way, "run, really" if really else "run", status, output, wrong)

    def fingerprints(self) -> None:
        """Check that a damaged cache of image digests is named, and the images hashed again."""
        name = Path("store/fingerprints.json")
        for job, _, way in self.copies([name, *self.run_files()[:1]]):
            if (job.runs / name).exists() and (job.runs / name).stat().st_ino == (self.whole.runs / name).stat().st_ino:
                continue  # the damage was to the other file
            restore = lambda: faults.restore_from(self.whole.store)  # noqa: E731
            status, output = self.call(job, *job.command()[1:], patch=restore)
            wrong = [] if way == "delete" or "fingerprints.json is damaged" in output else ["not noticed"]
            wrong += (
                [f"other bits: {text}" for text in differences(self.expected, outcome(job))][:3] if not status else []
            )
            self.note(name, way, "run", status, output, [*wrong, *([f"status {status}"] if status else [])])

    def read(self) -> None:
        """Check that `report` names what has changed in a run, and that a changed `results.json` is refused."""
        for job, name, way in self.copies(self.run_files()):
            run = job.runs / self.run
            status, output = self.call(job, "report", str(run))
            named = name.name == "report.html" or name.name in output.replace("report.html\n", "")
            wrong = [] if named else ["not noticed"]
            refused = name.name == "results.json" or (name == self.run / "SHA256SUMS" and way != "delete")
            if bool(status) != refused:
                wrong.append(f"status {status}")
            if name.name in ("report.html", "report.md", "model_card.md"):
                whole = (self.whole.runs / name).read_bytes()
                wrong += [] if (job.runs / name).read_bytes() == whole else ["not written again"]
                named = any(f"{name.name} {change}" in output for change in ("has changed", "is missing"))
                wrong += [] if named else ["not noticed"]
            self.note(name, way, "report", status, output, wrong)
            if name.name == "results.json":
                status, output = self.call(job, "gap", "--run", str(run))
                self.note(name, way, "gap", status, output, [] if status and str(run) in output else ["not noticed"])

    def recipes(self) -> None:
        """Check that a changed `recipe.yaml` of a run is refused."""
        name = self.run / "recipe.yaml"
        for job, file, way in self.copies([name, *self.run_files()[:1]]):
            if file == name:
                status, output = self.call(job, "validate", str(job.runs / name))
                noticed = status == 2 and ("recipe.yaml" in output or "recipe not found" in output)
                self.note(name, way, "validate", status, output, [] if noticed else ["not noticed"])

    def artifacts(self, ways: tuple[str, ...]) -> None:
        """Check that a changed artifact is refused."""
        image = next((self.whole.source / "images" / "test").rglob("*.png"))
        files = [name for name in self.run_files() if "artifacts" in name.parts]
        for job, name, way in self.copies(files, ways):
            if name.name.endswith((".onnx", ".xml", ".bin", ".json", "SHA256SUMS")):
                model = next((self.whole.runs / name).parent.glob("model.[ox][nm]*")).name
                status, output = self.call(job, "predict", str((job.runs / name).parent / model), str(image))
                named = str(name.parent) in output if name.name == "SHA256SUMS" else name.name in output
                self.note(name, way, "predict", status, output, [] if status in (1, 2) and named else ["not noticed"])

    def left(self, ways: tuple[str, ...]) -> None:
        """Damage what a run has left that was killed in a fit, or between two blocks of embeddings."""
        for place, patch in (("fit", faults.die_in_fit), ("embeddings", faults.die_in_embedding)):
            killed = Job(fresh_folder(self.folder / f"killed-in-{place}"), self.whole.source)
            if wait(start(killed, patch)) != -9:
                sys.exit(f"no run could be killed in {place}:\n{killed.output.read_text()}")
            partial = killed.store / "partial"
            files = sorted(path.relative_to(killed.runs) for path in partial.rglob("*") if path.is_file())
            whole, self.whole = self.whole, killed

            def patch_next(store: Path = whole.store, small: bool = place == "embeddings") -> None:
                faults.restore_from(store, but=("distilled", "embeddings"))
                if small:
                    faults.small_blocks()

            for job, name, way in self.copies(files, ways):
                status, output = self.call(job, *job.command()[1:], patch=patch_next)
                wrong = [] if status == 0 else [f"status {status}: {output.strip()[-200:]}"]
                if status == 0:
                    wrong += [f"other bits: {text}" for text in differences(self.expected, outcome(job))][:3]
                self.note(name, way, f"run, left in {place}", status, output, wrong)
            self.whole = whole


def summary(rows: list[Row]) -> Row:
    """Sum up the rows of a campaign."""
    return {
        "damages": len(rows),
        "files": len({row["file"] for row in rows}),
        "by": dict(Counter(row["by"] for row in rows)),
        "not_noticed": sum("not noticed" in row["wrong"] for row in rows),
        "wrong_figures": sum(text.startswith("other bits") for row in rows for text in row["wrong"]),
        "tracebacks": sum("a traceback" in row["wrong"] for row in rows),
        "wrong": sum(bool(row["wrong"]) for row in rows),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1, help="passes through the store and the run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", type=Path, metavar="JOB", help="a finished job; try only what needs no torch")
    parser.add_argument("--plant", choices=faults.DAMAGE, help="disable this check")
    parser.add_argument("--folder", type=Path, help="working folder; default: a temporary one")
    parser.add_argument("--json", type=Path, help="write rows and summary to this file")
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="damage-"))
    if args.short:
        run_short(Campaign(folder, Job(args.short, args.short), args.seed, args.plant), args)
        return
    import_all(short=False)
    source = fresh_folder(folder / "source")
    write_job(source, short=False)
    job = Job(fresh_folder(folder / "undisturbed"), source)
    if wait(start(job)):
        sys.exit(f"the undisturbed run failed:\n{job.output.read_text()}")
    campaign = Campaign(folder, job, args.seed, args.plant)
    for _ in range(args.rounds):
        campaign.checked()
        campaign.read()
        campaign.recipes()
        campaign.artifacts(WAYS)
        campaign.fingerprints()
        campaign.taken(("flip", "delete"), really=False)
    campaign.taken(("flip",), really=True)
    campaign.left(("flip", "truncate", "swap"))
    report(campaign, args)


def run_short(campaign: Campaign, args: argparse.Namespace) -> None:
    """Damage some files of a finished job, without torch."""
    for name in WITHOUT_TORCH:
        import_module(name)
    store = campaign.rng.sample(campaign.store_files(), 1 if args.plant else 5)
    run = [campaign.run / "results.json"] if args.plant else [campaign.run / n for n in ("results.json", "SHA256SUMS")]
    campaign.store_files, campaign.run_files = lambda: store, lambda: run  # type: ignore[method-assign]
    campaign.checked()
    campaign.read()
    report(campaign, args)


def report(campaign: Campaign, args: argparse.Namespace) -> None:
    """Print and write the rows, with --json those with a finding only, and exit."""
    lines = [
        f"{row['by']:<12} {row['way']:<9} {row['status']:>4} {row['file']}  {'; '.join(row['wrong']) or 'ok'}"
        for row in campaign.rows
        if row["wrong"] or not args.json
    ]
    finish(lines, campaign.rows, summary(campaign.rows), args.json)


if __name__ == "__main__":
    main()
