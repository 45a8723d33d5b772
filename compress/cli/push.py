"""The verb `push`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compress.cli.options import AsJson, Plugins, print_json


def push(
    run: Annotated[Path, typer.Argument(help="Folder of a run.", metavar="RUN")],
    variant: Annotated[str, typer.Argument(help="Id of a variant with a float network.", metavar="VARIANT")],
    repository: Annotated[str, typer.Argument(help="Repository on the hub: OWNER/NAME.", metavar="REPO")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder to write; default: RUN/hub/VARIANT.")
    ] = None,
    no_upload: Annotated[bool, typer.Option("--no-upload", help="Write the folder only.")] = False,
    public: Annotated[bool, typer.Option("--public", help="Make a new repository public.")] = False,
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Publish a variant on the Hugging Face Hub. timm loads it, or load_model.py beside it where it was changed."""
    from compress.pipeline.publish import push as push_variant

    done = push_variant(run, variant, repository, out, upload=not no_upload, private=not public)
    if as_json:
        print_json(vars(done))
        return
    loads = f'timm.create_model("local-dir:{done.folder}", pretrained=True)' if done.by_timm else "load_model.py in it"
    print(f"{done.folder}: {', '.join(done.files)}; loaded by {loads}")
    if done.url:
        print(done.url)


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    run = "runs/quickstart/20261123-120000"
    app.command(epilog=f"Example: compress-model push {run} distilled me/small")(push)
