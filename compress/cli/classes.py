"""The verb `classes`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compress.cli.options import AsJson, print_json
from compress.utils.errors import UsageError


def classes(
    artifact: Annotated[
        Path,
        typer.Argument(help="Artifact of an embedding student: its file or folder.", metavar="ARTIFACT"),
    ],
    names: Annotated[
        Path,
        typer.Option("--names", metavar="FILE", help="Class names, one per line: name, or name: words in prompts."),
    ],
    templates: Annotated[
        list[str] | None,
        typer.Option(
            "--templates",
            metavar="TEXT|FILE",
            help="Prompt with {} for the class, or a file of them. Repeatable; default: those of the present classes.",
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option("--teacher", metavar="NAME|FILE|local-dir:DIR", help="Teacher whose text tower embeds the names."),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option("--text", metavar="DIR", help="Exported text tower; default: text/ beside the artifact's folder."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="DIR",
            help="Write a copy; default: change the artifact, which no run may hold.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Give an embedding student other classes, by name and without training."""
    from compress.deployment.classes import read_names, read_templates, replace_classes, text_folder

    if teacher and text:
        raise UsageError("--teacher and --text exclude each other; remove one")
    listed, prompts = read_names(names), read_templates(templates or ())
    beside = None if teacher or text else text_folder(artifact)
    if not (teacher or text or beside):
        raise UsageError(f"no text/ beside {artifact}; name the teacher with --teacher, or its text tower with --text")
    from compress.models.text_tower import load_text, read_teacher, text_of_teacher

    tower = text_of_teacher(read_teacher(teacher)) if teacher else load_text(text or beside or Path())
    folder = replace_classes(artifact, listed, prompts, tower, output)
    if as_json:
        print_json({"artifact": str(folder), "classes": listed.names})
        return
    print(f"{folder}: {len(listed.names)} {'class' if len(listed.names) == 1 else 'classes'}")


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    run = "runs/embedding_student/20261123-120000/artifacts"
    app.command(epilog=f"Example: compress-model classes {run}/int8/onnx --names words.txt --output int8-words")(
        classes
    )
