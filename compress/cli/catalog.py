"""The verbs `list` and `schema`: the names that a recipe can use, and its keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, get_args

import typer

from compress.cli.options import AsJson, Plugins, print_json

CONFIGS = ("teachers", "students", "data", "trends", "deployments")
PRUNERS = {
    "prune": "whole channels by norm, scale, Taylor or chance, to a share of cost or latency (arXiv 2301.12900)",
    "shrink": "the control: the same network made narrow before training, for as much compute as prune took",
    "sparsify": "single weights to zero, anywhere (arXiv 1710.01878) or 2:4 (arXiv 2104.08378); the shapes stay",
}


def complete_kind(incomplete: str) -> list[str]:
    """Complete the kind of names to list."""
    return [kind for kind in KINDS if kind.startswith(incomplete)]


def list_names(
    what: Annotated[
        str,
        typer.Argument(
            help="teachers, students, data, trends, deployments, losses, pruners, quantizers, runtimes",
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
    if results:
        from compress.report.schema import results_schema

        print_json(results_schema())
    elif markdown:
        from compress.recipe.reference import reference

        print(reference())
    else:
        from compress.recipe.json_schema import recipe_schema

        print_json(recipe_schema())


def names(kind: str) -> dict[str, str]:
    """Return the names of one kind, each with a line of description.

    Raises:
        UsageError: there is no such kind.
    """
    from compress.utils.errors import UsageError
    from compress.utils.messages import did_you_mean
    from compress.utils.resources import config_names

    if kind in CONFIGS:
        return {name: _config_comment(kind, name) for name in config_names(kind)}
    if kind in OTHER_KINDS:
        return OTHER_KINDS[kind]()
    raise UsageError(f"cannot list {kind!r}{did_you_mean(kind, KINDS) or ';'} choose one of {', '.join(KINDS)}")


def _config_comment(kind: str, name: str) -> str:
    """Return the first comment of a shipped config."""
    import yaml

    from compress.utils.resources import shipped

    text = (shipped("configs") / kind / f"{name}.yaml").read_text()
    comments = [line.lstrip("# ").strip() for line in text.splitlines() if line.startswith("#")]
    settings = yaml.safe_load(text)
    return comments[0] if comments else str(settings.get("basis", settings))


def _losses() -> dict[str, str]:
    """Describe each loss by its field's description, or else by the first line of its section's docstring."""
    import inspect

    from compress.recipe.losses import Losses
    from compress.registry import PLUGIN_LOSSES

    lines = {}
    for name, field in Losses.model_fields.items():
        section = next(kind for kind in get_args(field.annotation) if kind is not type(None))
        lines[name] = field.description or (inspect.getdoc(section) or "").split("\n")[0].rstrip(".")
    own = {f"own: {name}": (inspect.getdoc(function) or "").split("\n")[0] for name, function in PLUGIN_LOSSES.items()}
    return {name: line for name, line in lines.items() if name != "own"} | own


def _quantizers() -> dict[str, str]:
    from compress.quantization.methods import METHODS

    return {name: method.about for name, method in METHODS.items()}


def _runtimes() -> dict[str, str]:
    from compress.registry import RUNTIMES

    return {name: _runtime_state(name) for name in RUNTIMES}


def _runtime_state(name: str) -> str:
    """Describe whether and where a runtime runs, and what it needs."""
    from compress.deployment.runtimes import elsewhere, find_runtime, missing

    runtime, absent, where = find_runtime(name), missing(name), elsewhere(name)
    state = f"not here: no {', '.join(absent)}" if absent else f"its files run {where}" if where else "runs here"
    needed = ", ".join((*runtime.PACKAGES, *runtime.PROGRAMS))
    return f"{state}; needs {needed}" + ("" if runtime.QUANTIZED else "; takes float networks only")


OTHER_KINDS: dict[str, Callable[[], dict[str, str]]] = {
    "losses": _losses,
    "pruners": lambda: PRUNERS,
    "quantizers": _quantizers,
    "runtimes": _runtimes,
}
KINDS = (*CONFIGS, *OTHER_KINDS)


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command("list", epilog="Example: compress-model list students --json")(list_names)
    app.command(epilog="Example: compress-model schema > recipe.schema.json")(schema)
