"""What a report says of devices: which variant fits which, and each budget with what it was held against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from compress.report import formats as f
from compress.report.formats import field
from compress.report.tables import Column, Record, Table, at, make

WRITE = {
    "latency_ms": f.milliseconds,
    "memory_mb": f.known(lambda value: f.size(1e6 * value)),
    "size_mb": f.known(lambda value: f.size(1e6 * value)),
    "energy_j": f.joules,
}
NAMES = {"latency_ms": "latency", "memory_mb": "peak memory", "size_mb": "size", "energy_j": "energy an image"}

DEVICES = (
    Column("device", at(f.text, "profile", "name"), False),
    Column("best variant", lambda r: _best(r), False),
    Column("not ruled out", lambda r: _listed(r["open"]), False),
    Column("what it is", lambda r: f.plain(r["profile"].get("hardware") or "not said"), False),
    Column("runtime", at(f.text, "profile", "runtime"), False),
    Column("batch", at(f.text, "profile", "batch")),
    Column("power at most", lambda r: _said(r["profile"].get("watts"), "W")),
    Column("price an hour", lambda r: _said(r["profile"].get("price_per_hour"), r["profile"].get("currency"))),
)


def deployment_tables(results: Mapping[str, Any]) -> list[tuple[Table, None]]:
    """Two tables, without charts: the variant for each device, and the budgets; none where no device is named."""
    entries = results.get("deployments") or []
    if not entries:
        return []
    return [(_devices(entries), None), (_budgets(entries), None)]


def _devices(entries: list[Record]) -> Table:
    reference = f.plain(entries[0].get("reference"))
    note = (
        "Best is the cheapest variant, in MACs and then bit operations, that is shown to be as accurate as "
        f"{reference} and meets every budget. Not ruled out: as accurate, with all that was measured within its "
        "budget, and something left to measure on the device itself."
    )
    sources = [(profile.get("name"), profile["source"]) for e in entries if (profile := e["profile"]).get("source")]
    note += "".join(f" {f.plain(name)}: {f.plain(source).rstrip('.')}." for name, source in sources)
    return make("devices", "Which variant fits which device", note, DEVICES, entries)


def _budgets(entries: list[Record]) -> Table:
    asked = [what for what in NAMES if any(field(e, "profile", "budgets", what) is not None for e in entries)]
    columns = [
        Column("device", at(f.text, "device"), False),
        Column("variant", at(f.text, "id"), False),
        *(Column(NAMES[what], _cell(what), False) for what in asked),
        Column("fits", _fits, False),
    ]
    note = (
        "Budgets are what somebody asks of the device, not what it can do. The size of a file is the same everywhere; "
        "latency (99th percentile), memory and energy are not carried over from one device to another: they were "
        "measured here for those devices only that have this machine's processor"
    )
    here = [f.plain(field(entry, "profile", "name")) for entry in entries if entry.get("here")]
    note += f": {', '.join(here)}." if here else ", which none of these has."
    return make("budgets", "Budgets of the devices", note, columns, _rows(entries))


def _rows(entries: list[Record]) -> Iterator[Record]:
    for entry in entries:
        for fit in entry["fits"]:
            cells = {budget["what"]: budget for budget in fit["budgets"]}
            yield {**fit, "cells": cells, "device": field(entry, "profile", "name"), "best": entry["best"] == fit["id"]}


def _cell(what: str) -> Any:
    """met: 12 ms of 33 ms."""

    def write(row: Record) -> str:
        budget = row["cells"].get(what)
        if budget is None:
            return "not asked"
        if budget["value"] is None:
            return f"not measured here: {f.plain(budget['basis'])}"
        given = f"{budget['verdict']}: {WRITE[what](budget['value'])} of {WRITE[what](budget['limit'])}"
        return f"{given}, {f.plain(budget['basis'])}" if what in ("energy_j", "memory_mb") else given

    return write


def _fits(row: Record) -> str:
    if row["meets"] is False:
        return "no"
    word = "not known" if row["meets"] is None else "best" if row["best"] else "yes"
    return word if row["as_accurate"] else f"{word}, but not shown to be as accurate"


def _best(entry: Record) -> str:
    if entry["best"]:
        return f.plain(entry["best"])
    return "not known: something was not measured" if entry["open"] else "none"


def _listed(names: list[str]) -> str:
    return ", ".join(map(f.plain, names)) or "none"


def _said(value: float | None, unit: Any) -> str:
    return "not said" if value is None else f"{value:.3g} {f.plain(unit)}"
