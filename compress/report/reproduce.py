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
        return "Nothing was taken from the store: everything was made in this run."
    if not made:
        return (
            f"All stages were taken from the store ({f.names(from_store)}): earlier runs made them, and the wall time "
            "does not include them."
        )
    return f"Taken from the store: {f.names(from_store)}. Made in this run: {f.names(made)}."


def reproducibility(record: RunRecord) -> str:
    """State which parts the same command reproduces bit for bit, and which it does not."""
    if record.environment.gpu and _setting(record, "trainer", "accelerator") != "cpu":
        if _setting(record, "trainer", "deterministic"):
            return (
                "Trained on a GPU with deterministic algorithms: on the same kind of GPU, with the same versions, "
                "weights and accuracies are reproducible bit for bit. Timings always vary."
            )
        return (
            "Trained on a GPU: splits, image order, views, initial weights and calibration images are reproducible; "
            "trained weights are not, because the order of summation varies, and accuracies and pruned channels vary "
            "with them (other seeds show by how much). The store keeps what was made once. With "
            "`trainer.deterministic: true` or `accelerator: cpu` everything but timings is reproducible."
        )
    return (
        "On the same kind of processor, with the same versions and number of threads, weights and accuracies are "
        "reproducible bit for bit; other processors and numbers of threads sum in another order. Timings always vary."
    )


def provenance(record: RunRecord) -> dict[str, str]:
    """Everything that determines the results besides the command, by name."""
    seed = _setting(record, "seed")
    return {
        "Run": f.plain(record.run.id),
        "Started": f.plain(record.run.started),
        "Wall time": f.seconds(record.run.wall_s),
        "SHA-256 of the recipe": f.plain(record.recipe.sha256),
        "Seed": "unknown" if seed is None else f.plain(seed),
        "SHA-256 of the test images": f.plain(record.data.test_sha256),
        "Versions": versions(record),
        "Store": store_use(record),
        "Reproducibility": reproducibility(record),
    }


def _setting(record: RunRecord, *path: str) -> object:
    """A setting of the resolved recipe; None where it is not there."""
    value: object = record.recipe.resolved
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value
