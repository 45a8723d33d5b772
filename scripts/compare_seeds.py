"""Run a recipe with several seeds and print, as Markdown, the accuracy of each of its variants: mean and deviation.

    python scripts/compare_seeds.py --seeds 0 1 2 --set data.root=DIR
    python scripts/compare_seeds.py prune_sweep --seeds 0 --share 0.5

Seeds set the students' initial weights and the order of images. Data split, views, teachers and their embeddings follow
the recipe's own seed, so they are made once. `--share` scales the epochs of every stage but of teachers, for the same
comparison with a smaller budget.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from compress.recipe.graph import teacher_of
from compress.recipe.load import load_recipe
from compress.recipe.schema import Recipe
from compress.recipe.stage import StageSection


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="distillation_cifar10")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--share", type=float, default=1.0, help="factor for the epochs of each stage")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    args = parser.parse_args()

    stages = students(load_recipe(args.recipe, args.changes))
    found: dict[str, list[dict[str, Any]]] = {}
    for seed in args.seeds:
        changes = [*args.changes, *(change for stage in stages for change in of_seed(stage, seed, args.share))]
        command = [sys.executable, "-m", "compress", "run", args.recipe, "--runs", str(args.runs), "--json"]
        words = [word for change in changes for word in ("--set", change)]
        done = subprocess.run([*command, *words], stdout=subprocess.PIPE, text=True, check=True)
        for variant in json.loads(done.stdout)["variants"]:
            found.setdefault(variant["id"], []).append(variant)
    print(table(found))


def students(recipe: Recipe) -> list[StageSection]:
    """Return the stages of a recipe whose networks teach no other."""
    teachers = {teacher.id for stage in recipe.stages if (teacher := teacher_of(recipe, stage.id))}
    return [stage for stage in recipe.stages if stage.id not in teachers]


def of_seed(stage: StageSection, seed: int, share: float) -> Iterator[str]:
    """Return the `--set` values of a stage that trains a network."""
    fit, path = getattr(stage, "repair", stage), f"stages.{stage.id}"
    path += ".repair" if fit is not stage else ""
    if hasattr(fit, "seed"):
        yield f"{path}.seed={seed}"
    if hasattr(fit, "epochs"):  # a shrink stage derives its epochs from its compute
        yield f"{path}.epochs={max(1, round(fit.epochs * share)) if fit.epochs else 0}"


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    """Return a row per variant: test top-1, as mean and sample deviation over the seeds, and training compute."""
    rows = ["| variant | top-1 on test | training MACs |", "|---|---|---|"]
    for name, variants in found.items():
        tops = [100 * variant["accuracy"]["top1"] for variant in variants]
        spread = f" ± {stdev(tops):.2f}" if len(tops) > 1 else ""
        compute = mean(variant["training"]["macs"] for variant in variants)
        rows.append(f"| {name} | {mean(tops):.2f}%{spread} | {compute / 1e12:.1f} T |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
