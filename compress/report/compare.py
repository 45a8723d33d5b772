"""Several runs held against the first: what changed in their recipes and machines, and what moved.

Nothing is called a change that the intervals do not show. Accuracy is compared on the same test images, image by image,
where both runs have asked them; otherwise by the two Wilson intervals; of other data nothing is claimed. Latency was
measured in each run's own process and hour: only the ratios to the run's own reference, measured in turns, are held
against each other, and only where both runs were on the same kind of machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from compress.efficiency.intervals import paired_difference
from compress.report.formats import field
from compress.results.read import read_run as read_record
from compress.utils.checksums import check_run
from compress.utils.errors import UsageError

Record = dict[str, Any]
ABSENT = "absent"
NO_CLAIM, MORE, LESS = "no claim", "more", "less"
MACHINE = ("cpu", "gpu", "threads")
_VOLATILE = ("energy_counter",)


def read_run(folder: Path) -> Record:
    """The `results.json` of a run.

    Raises:
        UsageError: the folder is no run, or its file no results.
    """
    return read_record(folder).model_dump(mode="json")


def compare(folders: Sequence[Path]) -> Record:
    """Hold runs against the first one.

    Args:
        folders: of two runs or more.

    Returns:
        {runs: [{name, path, recipe, sha256, started, data, test_sha256, machine, remarks, against_first: {same_results,
        same_data, same_machine}}], recipe: [{key, values}], environment: [{key, values}], variants: [{id,
        runs: [figures or None], changes: [change or None]}]}, values, runs and changes in the order of the folders.
        Remarks name files that have changed since the run wrote them. Figures are those of the variant's record; a
        change is against the first run: {top1: {difference, ci95, paired, images, same_data, verdict}, macs, bytes,
        training_macs (ratios, this run's over the first's), latency: [{runtime, batch, p50_ms: [first, this],
        ratio: [first, this], ratio_ci95: [first, this], verdict}]}.

    Raises:
        UsageError: there are fewer than two, one is given twice or is no run, or its results have changed since it
            wrote them.
        CompressError: the digests of a run are themselves damaged.
    """
    if len(folders) < 2:
        raise UsageError("compare takes two runs or more, e.g. compress-model compare runs/mine/first runs/mine/second")
    for number, folder in enumerate(folders):
        if folder.resolve() in [other.resolve() for other in folders[:number]]:
            raise UsageError(f"{folder} is given twice: a run is compared with others")
    remarks = [check_run(folder) for folder in folders]
    runs = [read_run(folder) for folder in folders]
    try:
        return {
            "runs": [_run(*each, runs[0]) for each in zip(runs, folders, remarks, strict=True)],
            "recipe": _differences([_by_stage(field(results, "recipe", "resolved")) for results in runs]),
            "environment": _differences([_machine(results) for results in runs]),
            "variants": [_variant(name, runs) for name in _names(runs)],
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        shown = " or ".join(str(folder / "results.json") for folder in folders)
        raise UsageError(f"{shown} does not hold the results of a run ({type(error).__name__}: {error})") from error


def _run(results: Record, folder: Path, remarks: list[str], first: Record) -> Record:
    return {
        "name": str(field(results, "run", "id") or folder.name),
        "path": str(folder),
        "recipe": field(results, "recipe", "name"),
        "sha256": field(results, "recipe", "sha256"),
        "started": field(results, "run", "started"),
        "data": field(results, "data", "name"),
        "test_sha256": field(results, "data", "test_sha256"),
        "machine": {name: field(results, "environment", name) for name in MACHINE},
        "remarks": remarks,
        "against_first": {
            "same_results": results == first,
            "same_data": _same_data(first, results),
            "same_machine": _same_machine(first, results),
        },
    }


def _by_stage(resolved: Any) -> Any:
    """A resolved recipe whose stages are found by their ids, so that a new one does not shift all that follow."""
    if not isinstance(resolved, dict):
        return {}
    stages = resolved.get("stages")
    if not isinstance(stages, list) or not all(isinstance(stage, dict) and "id" in stage for stage in stages):
        return resolved
    return {**resolved, "stages": {str(stage["id"]): stage for stage in stages}}


def _machine(results: Record) -> Record:
    environment = results.get("environment") or {}
    return {name: value for name, value in environment.items() if name not in _VOLATILE}


def _differences(records: Sequence[Any]) -> list[Record]:
    """Every leaf whose value is not the same in all."""
    flat = [dict(_leaves(record)) for record in records]
    keys = dict.fromkeys(key for each in flat for key in each)
    rows = ({"key": key, "values": [each.get(key, ABSENT) for each in flat]} for key in keys)
    return [row for row in rows if any(value != row["values"][0] for value in row["values"])]


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def _names(runs: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(variant["id"] for results in runs for variant in results["variants"]))


def _variant(name: str, runs: Sequence[Record]) -> Record:
    found = [next((v for v in results["variants"] if v["id"] == name), None) for results in runs]
    figures = [_figures(variant) if variant else None for variant in found]
    changes = [_change(0, k, runs, found) for k in range(1, len(runs))]
    return {"id": name, "runs": figures, "changes": [None, *changes]}


def _figures(variant: Record) -> Record:
    inference = variant.get("inference") or {}
    return {
        "stage_key": variant.get("stage_key"),
        "accuracy": {name: field(variant, "accuracy", name) for name in ("top1", "ci95", "correct", "n")},
        "macs": inference.get("macs"),
        "bit_operations": inference.get("bit_operations"),
        "bytes": inference.get("bytes"),
        "training_macs": field(variant, "training", "macs"),
        "latency": inference.get("latency") or [],
    }


def _change(first: int, this: int, runs: Sequence[Record], found: Sequence[Record | None]) -> Record | None:
    before, after = found[first], found[this]
    if before is None or after is None:
        return None
    theirs, ours = _figures(before), _figures(after)
    between = (runs[first], runs[this])
    return {
        "same_stage_key": theirs["stage_key"] is not None and theirs["stage_key"] == ours["stage_key"],
        "top1": _accuracy_change(before.get("accuracy") or {}, after.get("accuracy") or {}, *between),
        **{name: _ratio(ours[name], theirs[name]) for name in ("macs", "bit_operations", "bytes", "training_macs")},
        "latency": _latency_changes(theirs["latency"], ours["latency"], *between),
    }


def _same_images(before: Record, after: Record) -> bool:
    digests = [field(results, "data", "test_sha256") for results in (before, after)]
    return digests[0] is not None and digests[0] == digests[1]


def _same_data(before: Record, after: Record) -> bool:
    """Whether the test images are the same, or else the data have one name and one list of classes, where known."""
    if _same_images(before, after):
        return True
    for name in ("name", "classes"):
        values = [field(results, "data", name) for results in (before, after)]
        if None not in values and values[0] != values[1]:
            return False
    return True


def _same_machine(before: Record, after: Record) -> bool:
    """Whether the processor is known to be of one kind, and threads and GPU are the same."""
    machines = [[field(results, "environment", name) for name in MACHINE] for results in (before, after)]
    return machines[0][0] is not None and machines[0] == machines[1]


def _ratio(over: float | None, under: float | None) -> float | None:
    return over / under if over is not None and under else None


def _accuracy_change(before: Record, after: Record, first: Record, this: Record) -> Record:
    """Accuracy gained: paired where both have asked the same images, else only what the two intervals show."""
    unknown = {"ci95": None, "paired": False, "images": None, "same_data": _same_data(first, this), "verdict": NO_CLAIM}
    if before.get("top1") is None or after.get("top1") is None:
        return {**unknown, "difference": None}
    difference = after["top1"] - before["top1"]
    counts = _paired(before, after) if _same_images(first, this) else None
    if counts:
        lost = paired_difference(*counts)
        ends = [-lost.high, -lost.low]
        shown = {"difference": -lost.difference, "ci95": ends, "paired": True, "images": counts[2]}
        return {**unknown, **shown, "verdict": _beyond(ends, 0)}
    verdict = _apart(before.get("ci95"), after.get("ci95")) if unknown["same_data"] else NO_CLAIM
    return {**unknown, "difference": difference, "verdict": verdict}


def _paired(before: Record, after: Record) -> tuple[int, int, int] | None:
    """(only the first is right, only the second is, all) from the bits of both; None without them."""
    n, bits = before.get("n"), [record.get("right") for record in (before, after)]
    if not n or after.get("n") != n or not all(isinstance(text, str) and len(text) * 4 >= n for text in bits):
        return None
    first, second = (int(str(text), 16) >> (len(str(text)) * 4 - n) for text in bits)
    return (first & ~second).bit_count(), (second & ~first).bit_count(), n


def _beyond(ends: Sequence[float], value: float) -> str:
    return MORE if ends[0] > value else LESS if ends[1] < value else NO_CLAIM


def _apart(before: Sequence[float] | None, after: Sequence[float] | None) -> str:
    """Which of two intervals lies higher, if they do not overlap."""
    if not before or not after:
        return NO_CLAIM
    return MORE if after[0] > before[1] else LESS if after[1] < before[0] else NO_CLAIM


def _reference(results: Record) -> Any:
    entries = results.get("efficiency") or []
    return entries[0].get("reference") if entries else None


def _latency_changes(before: list[Record], after: list[Record], first: Record, this: Record) -> list[Record]:
    """By runtime and batch. A verdict needs one kind of machine, and ratios to a reference of one name."""
    reference = _reference(first)
    held = reference is not None and reference == _reference(this) and _same_machine(first, this)
    rows = []
    for row in after:
        was = next((each for each in before if all(each.get(k) == row.get(k) for k in ("runtime", "batch"))), None)
        if was is None:
            continue
        ends = [each.get("ratio_ci95") for each in (was, row)]
        rows.append(
            {
                "runtime": row.get("runtime"),
                "batch": row.get("batch"),
                "p50_ms": [was.get("p50_ms"), row.get("p50_ms")],
                "p99_ms": [was.get("p99_ms"), row.get("p99_ms")],
                "ratio": [was.get("ratio_to_reference"), row.get("ratio_to_reference")],
                "ratio_ci95": ends,
                "verdict": _apart(*ends) if held else NO_CLAIM,
            }
        )
    return rows


def same_tests(record: Mapping[str, Any]) -> bool:
    """Whether all runs are known to have asked the same test images."""
    digests = {run["test_sha256"] for run in record["runs"]}
    return len(digests) == 1 and None not in digests
