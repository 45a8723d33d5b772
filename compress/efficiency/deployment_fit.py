"""Deployment fit: budgets of a device compared with what was measured, and with nothing else."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from compress.efficiency.deployment import energy_on, matches, matching, on_device, setting
from compress.efficiency.files import HasFile, counts_for_reference, name_of
from compress.efficiency.sequence import cost
from compress.efficiency.slower import against_float
from compress.registry import PYTORCH
from compress.results.deployment import BudgetCheck, BudgetName, DeploymentFit, DeviceProfile, VariantFit, Verdict
from compress.results.hosts import HostMeasurement
from compress.results.savings import Savings
from compress.results.variant import Variant
from compress.utils.messages import significant
from compress.utils.precision import HALF

Figure = tuple[float | None, str]
"""A value, or None, and its basis or why it is unknown."""

OTHER_DEVICE = "another device"
MEGA = 1e6
File = TypeVar("File", bound=HasFile)


def deployment_fits(
    variants: Sequence[Variant],
    savings: Sequence[Savings],
    profiles: Sequence[DeviceProfile],
    processor: str,
    hosts: Sequence[HostMeasurement] = (),
) -> tuple[DeploymentFit, ...]:
    """Check every variant against the budgets of every device.

    The size of a file is the same everywhere. Latency, memory and energy count for a device only where its `processor`
    is part of the name of the processor that they were measured on, this machine's or another's, at its runtime, batch
    and threads. Nothing is extrapolated from one device to another.

    Args:
        variants: All variants of the run.
        savings: Savings by reference; equal accuracy is that against the first, as in the headline.
        profiles: Devices of the recipe.
        processor: Name of the processor that variants were measured on.
        hosts: Measurements on other machines, which count where this one is not the device.

    Returns:
        One fit per device. `meets` is False where a budget is not met, True where all are and there is a file
        for the device's runtime, else None: not measured, or nothing to measure. A variant is as accurate as
        the reference on a device if it is granted, and so is its file for the device's runtime, which goes for
        the reference too; a file that was not run here counts by its variant. `best` is the cheapest variant (by
        MACs, then bit operations) that is as accurate and meets all budgets, or None; `open` are those that are
        as accurate and not ruled out, the cheapest first. Both leave out variants that are slower there than their FP32
        variant, if that one is as accurate and meets all budgets too.
    """
    entry = savings[0]
    order = {variant.id: cost(variant) for variant in variants}
    found = []
    for profile in profiles:
        device = on_device(profile, variants, processor, hosts)
        known = device.is_measured
        accurate = _as_accurate(variants, entry, profile.runtime)
        fits = tuple(_fit(variant, profile, known, variant.id in accurate) for variant in device.variants)
        dominated = _dominated(device.variants, profile, fits) if known else ()
        ranked = [fit for fit in fits if fit.as_accurate and fit.id not in dominated]
        ranked.sort(key=lambda fit: order[fit.id])
        found.append(
            DeploymentFit(
                profile=profile,
                here=device.here,
                host=device.host,
                reference=entry.reference,
                fits=fits,
                best=next((fit.id for fit in ranked if fit.meets), None),
                open=tuple(fit.id for fit in ranked if fit.meets is None),
            )
        )
    return tuple(found)


def _as_accurate(variants: Sequence[Variant], entry: Savings, runtime: str | None) -> set[str]:
    """Return the variants that are as accurate as the reference in the file that a runtime takes.

    Files of one variant may be quantized by different methods, so that one is granted and another is not.
    """
    granted = {each.id: _deployed(each.files, runtime) for each in entry.variants if each.granted}
    accurate = {name for name, file in granted.items() if file is None or file.top1 is None or file.granted_adjusted}
    if entry.reference in (each.id for each in variants):
        file = _deployed(entry.reference_files, runtime)
        if file is None or file.top1 is None or counts_for_reference(file):
            accurate.add(entry.reference)
    return accurate


def _dominated(variants: Sequence[Variant], profile: DeviceProfile, fits: Sequence[VariantFit]) -> Collection[str]:
    """Return the variants that are slower than their FP32 variant, where that one can be deployed in their place."""
    able = {fit.id for fit in fits if fit.as_accurate and (fit.meets or not fit.budgets)}
    setting = (profile.runtime, profile.batch)
    return {
        name
        for name, timed in against_float(variants).items()
        if any(each.slower and each[:2] == setting and each.float_variant in able for each in timed)
    }


def _deployed(files: Sequence[File], runtime: str | None) -> File | None:
    """Return the file that a runtime takes; those in half precision count where there is no other."""
    own = [file for file in files if file.runtime == runtime]
    return next((file for file in own if file.precision not in HALF), own[0] if own else None)


def _fit(variant: Variant, profile: DeviceProfile, known: bool, as_accurate: bool) -> VariantFit:
    checks = []
    for what, figure in FIGURES.items():
        limit = getattr(profile.budgets, what)
        if limit is not None:
            value, basis = figure(variant, profile, known)
            checks.append(BudgetCheck(what=what, limit=limit, value=value, verdict=_verdict(value, limit), basis=basis))
    verdicts = {check.verdict for check in checks}
    is_known = verdicts == {"met"} and _has_file(variant, profile)
    meets = False if "not met" in verdicts else True if is_known else None
    return VariantFit(id=variant.id, as_accurate=as_accurate, budgets=tuple(checks), meets=meets)


def _has_file(variant: Variant, profile: DeviceProfile) -> bool:
    """Whether there is something to run on the device; its runtime may be PyTorch, which takes the network itself."""
    return profile.runtime == PYTORCH or _deployed(variant.artifacts, profile.runtime) is not None


def _verdict(value: float | None, limit: float) -> Verdict:
    if value is None:
        return "not measured"
    return "met" if value <= limit else "not met"


def _latency(variant: Variant, profile: DeviceProfile, known: bool) -> Figure:
    """99th percentile of single timings of a batch, milliseconds; where it was not taken, a median above the limit."""
    if not known:
        return None, OTHER_DEVICE
    rows = matching(variant.inference.latency, profile)
    if not rows:
        return None, f"nothing was timed in {setting(profile)}"
    row, limit = rows[0], profile.budgets.latency_ms
    if row.timings is None or row.p99_ms is None:  # earlier versions took it from means
        if limit is not None and row.p50_ms > limit:
            return row.p50_ms, "median"
        return None, "the 99th percentile needs 300 timings; set measure.rounds to 300"
    return row.p99_ms, f"99th percentile of {row.timings} timings"


def _memory(variant: Variant, profile: DeviceProfile, known: bool) -> Figure:
    """Peak memory in 10^6 bytes. At a larger batch than the device's it is an upper bound, which can only be met."""
    if not known:
        return None, OTHER_DEVICE
    peak, basis = variant.inference.peak_memory_bytes, variant.inference.peak_memory_basis
    if peak is None or basis is None or basis.runtime != profile.runtime:
        return None, f"memory was not measured in {profile.runtime}"
    if matches(basis, profile):
        return peak / MEGA, f"batch {basis.batch}"
    limit = profile.budgets.memory_mb
    if matches(basis, profile, larger=True) and limit is not None and peak / MEGA <= limit:
        return peak / MEGA, f"batch {basis.batch}: at most"
    threads = f", {basis.threads or 'unknown'} threads" if profile.threads else ""
    return None, f"memory was measured at batch {basis.batch}{threads}"


def _size(variant: Variant, profile: DeviceProfile, known: bool) -> Figure:
    """Size of the files for the profile's runtime, in 10^6 bytes."""
    file = _deployed(variant.artifacts, profile.runtime)
    if file is None:
        return None, f"no file for {profile.runtime}"
    return file.bytes / MEGA, name_of(file)


def _energy(variant: Variant, profile: DeviceProfile, known: bool) -> Figure:
    """Joules per image; by the device's maximum power they are an upper bound, which can only be met."""
    if not known:
        return None, OTHER_DEVICE
    energy = energy_on(variant, profile)
    if energy.value is None:
        return None, f"no energy is known in {setting(profile)}"
    limit, method = profile.budgets.energy_j, str(energy.method)
    is_bound = profile.watts is not None and not method.startswith("measured")
    if is_bound and limit is not None and energy.value > limit:
        return None, f"at most {significant(energy.value)} J, {method}"
    return energy.value, method


FIGURES: dict[BudgetName, Callable[[Variant, DeviceProfile, bool], Figure]] = {
    "latency_ms": _latency,
    "memory_mb": _memory,
    "size_mb": _size,
    "energy_j": _energy,
}
