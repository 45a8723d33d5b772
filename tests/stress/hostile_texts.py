"""Text targets of `fuzz_campaign.py`: recipes, tables of published points, manifests of the store."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from random import Random

from hostile_inputs import CANARY, CHECKOUT, TOKENS, VALUES, Finding, bomb, changed, damaged, of_schema


def recipe(rng: Random, folder: Path) -> None:
    """Load a recipe: bytes, tricks, changed shipped recipes, values of the schema."""
    from compress.recipe import load_recipe
    from compress.recipe.schema import Recipe

    shipped = sorted((CHECKOUT / "recipes").glob("*.yaml"))
    match rng.randrange(4):
        case 0:
            content = bomb(rng, folder / CANARY)
        case 1:
            content = damaged(rng.choice(shipped).read_bytes(), rng)
        case 2:
            import yaml

            content = json.dumps(
                changed(yaml.safe_load(rng.choice(shipped).read_text()), rng, rng.choice((0, 1, 2, 5)))
            ).encode()
        case _:
            schema = Recipe.model_json_schema(by_alias=True)
            content = json.dumps(of_schema(schema, schema, rng)).encode()
    file = folder / "it.yaml"
    file.write_bytes(content)
    loaded = load_recipe(file)
    for name in (loaded.name, *(stage.id for stage in loaded.stages)):
        if name in (".", "..") or Path(name).name != name or name.startswith("-"):
            raise Finding(f"the name {name!r} leads out of the run folder")
    json.dumps(loaded.resolved())


def table(rng: Random, folder: Path) -> None:
    """Read a table of published points, as `gap --models` and `--hardware` do."""
    from compress.gap import gap_record, to_dict

    points = CHECKOUT / "configs" / "trends" / "points"
    kind, name = rng.choice((("models", "ai-and-compute.csv"), ("hardware", "hardware.csv")))
    rows = list(csv.reader((points / name).read_text().splitlines()))
    for _ in range(rng.randrange(6)):
        row = rng.choice(rows)
        row[rng.randrange(len(row))] = str(rng.choice(VALUES))
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    data = out.getvalue().encode("utf-8", "surrogatepass")
    (folder / "it.csv").write_bytes(damaged(data, rng) if rng.random() < 0.5 else data)
    record = gap_record((), 2012, 2024, **{kind: folder / "it.csv"})
    json.dumps(to_dict(record), allow_nan=False)


def store(rng: Random, folder: Path) -> None:
    """Read an entry of the store with a hostile manifest or digest."""
    from compress.data.digests import digests
    from compress.store.store import Store

    entry = folder / "store" / "aaaa"
    entry.mkdir(parents=True)
    (entry / "metrics.json").write_text("{}")
    manifest = {
        "what": "x",
        "files": {"metrics.json": {"bytes": 2, "sha256": "0" * 64}, "b/c": {"bytes": 1, "sha256": ""}},
    }
    text = json.dumps(changed(manifest, rng, rng.randrange(1, 4))).encode()
    (entry / "entry.json").write_bytes(damaged(text, rng) if rng.random() < 0.4 else text)
    if Store(folder / "store").has("aaaa"):
        listed = json.loads((entry / "entry.json").read_text())["files"]
        if any(name in listed for name in manifest["files"]):
            raise Finding("an entry whose digests are wrong counts as whole")
    cache = {str(entry / "metrics.json"): [2, 5, "x"], "b": [1, 2, rng.choice(TOKENS)]}
    (folder / "fingerprints.json").write_text(json.dumps(changed(cache, rng, 2)))
    digests([entry / "metrics.json"], folder / "fingerprints.json", "it")
