"""Tables of the devices: which variant fits which, and every budget with what was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from compress.report import formats as f
from compress.report.tables import Column, Table, make_table
from compress.results import DeploymentFit, VariantFit
from compress.results.deployment import BudgetName
from compress.utils.messages import significant

BUDGETS: dict[BudgetName, tuple[str, f.Format]] = {
    "latency_ms": ("latency", f.milliseconds),
    "memory_mb": ("peak memory", f.known(lambda value: f.size(1e6 * value))),
    "size_mb": ("size", f.known(lambda value: f.size(1e6 * value))),
    "energy_j": ("energy per image", f.joules),
}
"""Heading and format of each budget."""

DEVICES: tuple[Column[DeploymentFit], ...] = (
    Column("device", lambda d: f.plain(d.profile.name), False),
    Column("best variant", lambda d: _best(d), False),
    Column("not ruled out", lambda d: f.names(d.open) or "none", False),
    Column("hardware", lambda d: f.plain(d.profile.hardware or "not stated"), False),
    Column("runtime", lambda d: f.text(d.profile.runtime or d.profile.toolchain), False),
    Column("batch", lambda d: str(d.profile.batch)),
    Column("maximum power", lambda d: _stated(d.profile.watts, "W")),
    Column("price per hour", lambda d: _stated(d.profile.price_per_hour, d.profile.currency)),
)

Row = tuple[DeploymentFit, VariantFit]


def deployment_tables(devices: Sequence[DeploymentFit]) -> list[Table]:
    """Lay out the best variant per device, and the budgets; no tables where no device is named."""
    return [_devices(devices), _budgets(devices)] if devices else []


def _devices(devices: Sequence[DeploymentFit]) -> Table:
    note = (
        "Best is the cheapest variant, in MACs and then bit operations, that is shown to be as accurate as "
        f"{f.plain(devices[0].reference)} and meets every budget. Not ruled out: as accurate and within every budget "
        "that was measured; the others must be measured on the device. Neither has a "
        "quantized variant that is slower than its FP32 variant, where that one is as accurate and meets every budget."
    )
    sources = [(device.profile.name, device.profile.source) for device in devices if device.profile.source]
    note += "".join(f" {f.plain(name)}: {f.plain(source).rstrip('.')}." for name, source in sources)
    return make_table("devices", "Which variant fits which device", note, DEVICES, devices)


def _budgets(devices: Sequence[DeploymentFit]) -> Table:
    limited = [name for name in BUDGETS if any(getattr(d.profile.budgets, name) is not None for d in devices)]
    columns: list[Column[Row]] = [
        Column("device", lambda row: f.plain(row[0].profile.name), False),
        Column("variant", lambda row: f.plain(row[1].id), False),
        *(Column(BUDGETS[name][0], _budget_cell(name), False) for name in limited),
        Column("fits", _fits, False),
    ]
    note = (
        "Budgets are requirements, not abilities of the device. The size of a file is the same on every device; "
        "latency (99th percentile), memory and energy do not transfer between devices and are given only for those "
        "with the processor of a machine that was measured"
    )
    known = [
        f"{f.plain(device.profile.name)} ({f.plain(device.host or 'this machine')})"
        for device in devices
        if device.here or device.host
    ]
    note += f": {', '.join(known)}." if known else ", which none of them has."
    rows = [(device, fit) for device in devices for fit in device.fits]
    return make_table("budgets", "Budgets of the devices", note, columns, rows)


def _budget_cell(name: BudgetName) -> Callable[[Row], str]:
    """met: 12 ms of 33 ms."""

    def write(row: Row) -> str:
        budget = next((budget for budget in row[1].budgets if budget.what == name), None)
        if budget is None:
            return "no budget"
        if budget.value is None:
            return f"not measured here: {f.plain(budget.basis)}"
        _, figure = BUDGETS[name]
        cell = f"{budget.verdict}: {figure(budget.value)} of {figure(budget.limit)}"
        return f"{cell}, {f.plain(budget.basis)}" if name in ("energy_j", "memory_mb") else cell

    return write


def _fits(row: Row) -> str:
    device, fit = row
    if fit.meets is False:
        return "no"
    label = "unknown" if fit.meets is None else "best" if device.best == fit.id else "yes"
    return label if fit.as_accurate else f"{label}, but not shown to be as accurate"


def _best(device: DeploymentFit) -> str:
    if device.best:
        return f.plain(device.best)
    return "unknown: not everything was measured" if device.open else "none"


def _stated(value: float | None, unit: str) -> str:
    return "not stated" if value is None else f"{significant(value)} {f.plain(unit)}"
