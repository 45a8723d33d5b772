"""Stages that are given other ids: nothing is made again, and nothing that is reported has the old ones."""

from __future__ import annotations

from collections.abc import Callable

import yaml
from support import Job

NAMES = {"teacher": "guide", "distilled": "small", "pruned": "slim", "int8": "bytes", "files": "deployed"}


def rename(job: Job) -> None:
    """Give all stages that start from the teacher other ids, and the teacher."""

    def renamed(value: object) -> object:
        if isinstance(value, list):
            return [renamed(each) for each in value]
        return NAMES.get(value, value) if isinstance(value, str) else value

    recipe = yaml.safe_load(job.recipe.read_text())
    for stage in recipe["stages"]:
        stage |= {key: renamed(stage[key]) for key in ("id", "from") if key in stage}
    recipe["measure"]["energy"] = "off"  # which YAML 1.1 reads as false
    recipe["worth"]["references"] = renamed(recipe["worth"]["references"])
    job.recipe.write_text(yaml.safe_dump(recipe, sort_keys=False))


def test_ledgers_and_paths_do_not_depend_on_the_recipe_that_came_first(done_job: Callable[[], Job]) -> None:
    job = done_job()
    job.recipe.write_text(job.recipe.read_text().replace(", triton: true", ""))  # files of Triton state their name
    assert job.run_here().returncode == 0
    first = {variant["id"]: variant for variant in job.results()["variants"]}
    (job.runs / "store" / first["pruned"]["stage_key"]).rename(job.root / "pruned")
    rename(job)
    done = job.run_here()
    assert done.returncode == 0, done.stderr
    results = job.results()
    assert results["run"]["made"] == ["slim"]
    second = {variant["id"]: variant for variant in results["variants"]}
    for old, new in NAMES.items():
        if old in first:
            before, after = first[old]["training"], second[new]["training"]
            assert (before["macs"], before["parts"]) == (after["macs"], after["parts"])
    folder = max((job.runs / "tiny").glob("*/results.json"), key=lambda path: path.stat().st_mtime_ns).parent
    files = [file["path"] for variant in second.values() for file in variant["artifacts"]]
    assert len(files) == 4 and all((folder / path).exists() for path in files)
