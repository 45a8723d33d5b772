"""The command line: one module per group of verbs, each of which parses, calls and prints."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from compress.cli import (
    artifacts,
    catalog,
    classes,
    compare,
    doctor,
    gap,
    gate,
    init,
    manifest,
    push,
    report,
    run,
    store,
    sweep,
    work,
)
from compress.cli.errors import exit_interrupted, raise_on_signals, report_error
from compress.cli.options import escape_other_letters, refuse_empty
from compress.utils.errors import is_interruption
from compress.utils.user_cache import give_caches_a_place

app = typer.Typer(
    name="compress-model",
    help="Distil, prune, quantize, export and measure an image classifier from one recipe.",
    epilog="Example: compress-model run quickstart",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def options(debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False) -> None:
    """Distil, prune, quantize, export and measure an image classifier from one recipe."""


for group in (
    init,
    manifest,
    run,
    work,
    sweep,
    report,
    artifacts,
    classes,
    compare,
    gate,
    push,
    gap,
    catalog,
    doctor,
    store,
):
    group.register(app)


def main() -> None:
    """Run the command line. Exit status: 0 done, 1 the work failed, 2 the call or the recipe is wrong.

    Of a gate also 3 failed and 4 cannot tell.
    """
    escape_other_letters()
    debug = "--debug" in sys.argv  # anywhere, not only before the verb as the parser would have it
    received = raise_on_signals()
    try:
        refuse_empty(sys.argv)
        give_caches_a_place()
        app([argument for argument in sys.argv[1:] if argument != "--debug"])
    except KeyboardInterrupt:
        exit_interrupted(received)
    except SystemExit as ended:
        if ended.code == 130:  # typer ends an interrupted command without a message
            exit_interrupted(received)
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if is_interruption(error):
            exit_interrupted(received)
        if debug:
            raise
        sys.exit(report_error(error))
