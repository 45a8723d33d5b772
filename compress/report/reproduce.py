"""How to make a run's results again: the command, the versions, the recipe, and what came from the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compress.report import formats as f
from compress.report.formats import field


def versions(results: Mapping[str, Any]) -> str:
    """compress 0.1.0, Python 3.11.7, torch 2.15.0, timm 1.0.30: what is known of them."""
    environment = results.get("environment") or {}
    packages = {"compress": environment.get("compress"), "Python": environment.get("python")}
    packages |= {"torch": environment.get("torch"), **(environment.get("packages") or {})}
    known = [f"{f.plain(name)} {f.plain(version)}" for name, version in packages.items() if version]
    return ", ".join(known) or f.UNKNOWN


def store_use(results: Mapping[str, Any]) -> str:
    """What this run made itself and what it took from the store, in one sentence."""
    made, taken = (field(results, "run", name) for name in ("made", "from_store"))
    if made is None or taken is None:
        return "Whether the store was used was not recorded."
    if not taken:
        return "Nothing was taken from the store: all of it was made in this run."
    names = ", ".join(f.plain(name) for name in taken)
    if not made:
        return (
            f"All stages were taken from the store ({names}): earlier runs made them, and their wall time is not here."
        )
    return f"Taken from the store: {names}. Made in this run: {', '.join(f.plain(name) for name in made)}."


def same_again(results: Mapping[str, Any]) -> str:
    """What the same command gives to the last bit a second time, and what it does not."""
    accelerator = field(results, "recipe", "resolved", "trainer", "accelerator")
    if field(results, "environment", "gpu") and accelerator != "cpu":
        return (
            "Trained on a GPU, the splits, the order of the images, their views, the first weights and the images of "
            "calibration are the same again; trained weights are not, since sums are added up in an order that "
            "changes, and accuracies and what is pruned move with them (by how much, other seeds show). The store "
            "keeps what was made once. With `trainer.accelerator: cpu` all is the same again but for times."
        )
    return (
        "On a processor of this kind, with these versions and as many threads, weights and accuracies are the same to "
        "the last bit; other processors and numbers of threads add sums up in another order. Times are never the same."
    )


def sources(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, value) of what determines the results besides the command."""
    resolved = field(results, "recipe", "resolved")
    return [
        ("Run", f.plain(field(results, "run", "id") or "without an id")),
        ("Started", f.plain(field(results, "run", "started") or "at an unknown time")),
        ("Wall time", f.seconds(field(results, "run", "wall_s"))),
        ("The recipe's SHA-256", f.plain(field(results, "recipe", "sha256") or "unknown")),
        ("Seed", f.plain(field(resolved, "seed") if field(resolved, "seed") is not None else "unknown")),
        ("Test images' SHA-256", f.plain(field(results, "data", "test_sha256") or "unknown")),
        ("Versions", versions(results)),
        ("Store", store_use(results)),
        ("A second time", same_again(results)),
    ]
