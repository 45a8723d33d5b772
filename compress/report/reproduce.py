"""How to reproduce a run: command, versions, recipe, and what came from the store."""

from __future__ import annotations

from compress.report import formats as f
from compress.results import RunRecord


def versions(record: RunRecord) -> str:
    """compress 0.1.0, Python 3.11.7, torch 2.15.0, timm 1.0.30: those that are known."""
    environment = record.environment
    packages = {"compress": environment.compress, "Python": environment.python, "torch": environment.torch}
    known = [f"{name} {version}" for name, version in (packages | environment.packages).items() if version]
    return f.names(known) or f.UNKNOWN


def store_use(record: RunRecord) -> str:
    """Say in one sentence which stages this run made and which it took from the store."""
    made, from_store = record.run.made, record.run.from_store
    if made is None or from_store is None:
        return "Whether the store was used was not recorded."
    if not from_store:
        return "Nothing was taken from the store: all of it was made in this run."
    if not made:
        return (
            f"All stages were taken from the store ({f.names(from_store)}): earlier runs made them, and their wall "
            "time is not here."
        )
    return f"Taken from the store: {f.names(from_store)}. Made in this run: {f.names(made)}."


def reproducibility(record: RunRecord) -> str:
    """What the same command reproduces bit for bit, and what it does not."""
    if record.environment.gpu and _setting(record, "trainer", "accelerator") != "cpu":
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


def provenance(record: RunRecord) -> dict[str, str]:
    """Everything that determines the results besides the command, by name."""
    seed = _setting(record, "seed")
    return {
        "Run": f.plain(record.run.id),
        "Started": f.plain(record.run.started),
        "Wall time": f.seconds(record.run.wall_s),
        "The recipe's SHA-256": f.plain(record.recipe.sha256),
        "Seed": "unknown" if seed is None else f.plain(seed),
        "Test images' SHA-256": f.plain(record.data.test_sha256),
        "Versions": versions(record),
        "Store": store_use(record),
        "A second time": reproducibility(record),
    }


def _setting(record: RunRecord, *path: str) -> object:
    """A setting of the resolved recipe; None where it is not there."""
    value: object = record.recipe.resolved
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value
