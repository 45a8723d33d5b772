"""The verb with which a person starts: it looks, writes a recipe, and says what to expect of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from compress.cli.options import AsJson, print_json

MAX_TIMED = 20_000  # images that are decoded for an estimate without being asked


def init(
    data: Annotated[
        str,
        typer.Argument(
            help="Your images: a folder, a CSV, Parquet or tar files, or a saved dataset.",
            metavar="DATA",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The recipe to write.")] = Path("recipe.yaml"),
    runs: Annotated[Path, typer.Option("--runs", help="Folder of the runs and of the store that they share.")] = Path(
        "runs"
    ),
    force: Annotated[bool, typer.Option("--force", help="Write over a recipe that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look at your images and write a recipe that fits them and this machine.

    With --json: {recipe, seen, chosen, estimate}, where estimate has the rows of `plan --json`, or is null of more
    images than are decoded unasked.
    """
    from compress.recipe.load import load_recipe
    from compress.scaffold.detect import guess
    from compress.scaffold.recipe import check_free, choose, recipe_text, this_machine, write_recipe
    from compress.scaffold.summary import survey_lines, survey_record
    from compress.scaffold.survey import look

    check_free(output, force=force)
    say: Callable[[str], None] = (lambda text: None) if as_json else print
    settings = guess(data)
    survey = look(settings)
    say("\n".join(survey_lines(settings, survey)))
    machine = this_machine()
    choices = choose(survey, machine)
    say(f"teacher: {choices.why}")
    write_recipe(output, recipe_text(settings, survey, machine, choices))
    recipe = load_recipe(output)
    steps = " -> ".join(stage.kind for stage in recipe.stages)
    say(f"{output}: {steps}, at {choices.side} pixels, {choices.epochs} epochs\n")
    rows = None
    if survey.total <= MAX_TIMED:
        from compress.pipeline.cost_model import estimate

        rows = estimate(recipe, runs)
    if as_json:
        planned = None if rows is None else [vars(row) for row in rows]
        chosen = {"resolution": choices.side, "epochs": choices.epochs, "teacher": choices.why}
        print_json(
            {"recipe": str(output), "seen": survey_record(settings, survey), "chosen": chosen, "estimate": planned}
        )
        return
    if rows is None:
        print(f"{survey.total:,} images take a while to decode: `compress-model plan {output}` says the time to expect")
    else:
        from rich.console import Console

        from compress.pipeline.cost_model import plan_table

        Console(highlight=False).print(plan_table(rows))
    print(f"\ncompress-model run {output}")


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(epilog="Example: compress-model init photos --output photos.yaml")(init)
