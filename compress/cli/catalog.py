"""The verbs `list` and `schema`: the names that a recipe can use, and its keys."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, get_args

import typer

from compress.cli.options import AsJson, Plugins, print_json
from compress.utils.errors import UsageError

CONFIGS = ("teachers", "students", "data", "views", "trends", "deployments")


def complete_kind(incomplete: str) -> list[str]:
    """Complete the kind of names to list."""
    return [kind for kind in KINDS if kind.startswith(incomplete)]


def list_names(
    what: Annotated[
        str,
        typer.Argument(
            help="One of " + ", ".join((*CONFIGS, "stages", "sources", "losses", "pruners", "quantizers", "runtimes")),
            autocompletion=complete_kind,
        ),
    ],
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """List the names that a recipe can use."""
    descriptions = names(what)
    if as_json:
        print_json(descriptions)
        return
    for name, description in descriptions.items():
        print(f"{name:<28} {description}".rstrip())


def schema(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown tables of a recipe's keys.")] = False,
    results: Annotated[bool, typer.Option("--results", help="Print the schema of results.json.")] = False,
    plugins: Plugins = None,
) -> None:
    """Print the JSON Schema of recipes, or of results.json."""
    if results and markdown:
        raise UsageError("--markdown and --results exclude each other: the tables describe recipes only")
    if results:
        from compress.results.schema import results_schema

        print_json(results_schema())
    elif markdown:
        from compress.recipe.reference import reference

        print(reference())
    else:
        from compress.recipe.json_schema import recipe_schema

        print_json(recipe_schema())


def names(kind: str) -> dict[str, str]:
    """Return the names of one kind, each with a line of description; another kind is a `UsageError`."""
    from compress.utils.messages import choices
    from compress.utils.resources import config_names

    if kind in CONFIGS:
        return {name: _config_comment(kind, name) for name in config_names(kind)}
    if kind in OTHER_KINDS:
        return OTHER_KINDS[kind]()
    raise UsageError(f"cannot list {kind!r}{choices(kind, KINDS)}")


def _config_comment(kind: str, name: str) -> str:
    """Return the first comment of a shipped config."""
    import yaml

    from compress.utils.resources import shipped

    text = (shipped("configs") / kind / f"{name}.yaml").read_text()
    comments = [line.lstrip("# ").strip() for line in text.splitlines() if line.startswith("#")]
    settings = yaml.safe_load(text)
    return comments[0] if comments else str(settings.get("basis", settings))


def _stages() -> dict[str, str]:
    from compress.recipe.stage import stage_sections

    return {kind: _first_line(section) for kind, section in stage_sections().items()}


def _sources() -> dict[str, str]:
    from compress.registry import SOURCES, source

    return {name: source(name).about for name in SOURCES}


def _first_line(documented: object) -> str:
    return (inspect.getdoc(documented) or "").split("\n")[0].rstrip(".")


def _losses() -> dict[str, str]:
    """Describe each loss by its field's description, or else by the first line of its section's docstring."""
    from compress.recipe.losses import Losses
    from compress.registry import PLUGIN_LOSSES

    lines = {}
    for name, field in Losses.model_fields.items():
        section = next(kind for kind in get_args(field.annotation) if kind is not type(None))
        lines[name] = field.description or _first_line(section)
    own = {f"own: {name}": _first_line(function) for name, function in PLUGIN_LOSSES.items()}
    return {name: line for name, line in lines.items() if name != "own"} | own


def _pruners() -> dict[str, str]:
    from compress.recipe.stage import stage_sections
    from compress.stages.kind import StageKind

    kinds = {name: section for name, section in stage_sections().items() if issubclass(section, StageKind)}
    return {name: kind.pruner for name, kind in kinds.items() if kind.pruner}


def _quantizers() -> dict[str, str]:
    from compress.registry import quantizers

    return {name: method.about for name, method in quantizers().items()}


def _runtimes() -> dict[str, str]:
    from compress.registry import RUNTIMES

    return {name: _runtime_state(name) for name in RUNTIMES}


def _runtime_state(name: str) -> str:
    """Describe whether and where a runtime runs, and what it needs."""
    from compress.deployment.runtimes import find_runtime, missing

    runtime, absent = find_runtime(name), missing(name)
    where = f"its files run {runtime.runs_on}" if runtime.runs_on else "runs here"
    state = f"not here: no {', '.join(absent)}" if absent else where
    state += f"; writes {', '.join(runtime.precisions)}" if runtime.precisions[1:] else ""
    limits = "" if runtime.quantizers else "; takes float networks only"
    limits += "; experimental: our tests have never run it" if runtime.experimental else ""
    return f"{state}; needs {', '.join((*runtime.packages, *runtime.programs))}{limits}"


OTHER_KINDS: dict[str, Callable[[], dict[str, str]]] = {
    "stages": _stages,
    "sources": _sources,
    "losses": _losses,
    "pruners": _pruners,
    "quantizers": _quantizers,
    "runtimes": _runtimes,
}
KINDS = (*CONFIGS, *OTHER_KINDS)


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command("list", epilog="Example: compress-model list students --json")(list_names)
    app.command(epilog="Example: compress-model schema > recipe.schema.json")(schema)
