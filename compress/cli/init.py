"""The verb `init`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from compress.cli.options import AsJson, Runs, command_line, print_json, print_rich
from compress.utils.errors import UsageError

MAX_CHECKPOINTS = 3  # that are mentioned
MAX_TIMED = 20_000  # images up to which `init` hashes the data set to estimate the run


def init(
    data: Annotated[
        str,
        typer.Argument(
            help="Your images: a folder, a CSV, Parquet or tar files, or a saved dataset.",
            metavar="DATA",
            show_default=False,
        ),
    ],
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="FILE", help="Weights of your own trained model: compress it, train nothing."),
    ] = None,
    arch: Annotated[
        str | None,
        typer.Option("--arch", metavar="NAME", help="Its architecture: a model of timm or torchvision."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Recipe to write.")] = Path("recipe.yaml"),
    runs: Runs = Path("runs"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing recipe.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a recipe for your images. Its settings fit them and this machine.

    With --json: {recipe, seen, chosen, checkpoints, estimate}, where checkpoints are weights files that lie there, and
    estimate has the rows of `plan --json`, or is null for a data set that is too large to hash for an estimate.
    """
    from compress.pipeline.cost_model import estimate, plan_table
    from compress.recipe.load import load_recipe
    from compress.scaffold.choices import choose, this_machine
    from compress.scaffold.detect import detect_source
    from compress.scaffold.own_model import find_checkpoints, recognise, require_classes
    from compress.scaffold.recipe import recipe_text, require_writable, write_recipe
    from compress.scaffold.summary import choices_record, model_line, survey_lines, survey_record
    from compress.scaffold.survey import survey_images

    if arch and not model:
        raise UsageError(f"--arch {arch} is the architecture of --model; add --model FILE")
    progress = (lambda text: None) if as_json else print
    require_writable(output, force=force)
    settings = detect_source(data)
    own = recognise(model, arch) if model else None
    survey = survey_images(settings)
    progress("\n".join(survey_lines(settings, survey)))
    if own:
        require_classes(own, survey.classes)
    machine = this_machine(runs)
    choices = choose(survey, machine, own)
    progress(model_line(own) if own else f"teacher: {choices.reason}")
    checkpoints = [] if own else find_checkpoints(Path(data), Path())
    for file in checkpoints[:MAX_CHECKPOINTS]:
        command = command_line(["", "init", data, "--model", str(file), "--output", str(output)])
        progress(f"{file}: to compress this model instead, {command}")
    write_recipe(output, recipe_text(settings, survey, machine, choices, own))
    recipe = load_recipe(output)
    stages = " -> ".join(stage.kind for stage in recipe.stages)
    effort = "no training" if own else f"{choices.epochs} epochs"
    progress(f"{output}: {stages}, {choices.resolution} pixels, {effort}\n")
    plan = command_line(["", "plan", str(output)])
    try:
        rows = estimate(recipe, runs) if survey.total <= MAX_TIMED else None
    except BaseException:
        print(f"{output} is written, and not estimated: {plan}", file=sys.stderr)
        raise
    if as_json:
        record = {
            "recipe": str(output),
            "seen": survey_record(settings, survey),
            "chosen": choices_record(choices, own),
        }
        planned = None if rows is None else [vars(row) for row in rows]
        print_json({**record, "checkpoints": list(map(str, checkpoints)), "estimate": planned})
        return
    if rows is None:
        print(f"to estimate the time and the space of {survey.total:,} images: {plan}")
    else:
        print_rich(plan_table(rows))
    print(f"\n{command_line(['', 'run', str(output)])}")


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(epilog="Example: compress-model init photos --output photos.yaml")(init)
