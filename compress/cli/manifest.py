"""The verb `manifest`."""

from __future__ import annotations

from typing import Annotated

import typer

from compress.cli.options import AsJson, print_json


def manifest(
    shards: Annotated[
        str, typer.Argument(help="Tars or Parquet files: a folder, a pattern or a URL.", metavar="SHARDS")
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE|URL", help="Manifest to write, in a folder above the shards.")
    ],
    as_json: AsJson = False,
) -> None:
    """Write a manifest of shards: images, bytes, digest and split of each.

    As `path` of a recipe's data, it lets `plan` count units, bytes and hours without opening a shard.
    """
    from compress.data.write_manifest import write_manifest

    records = write_manifest(shards, output)
    images, size = sum(record.images for record in records), sum(record.bytes for record in records)
    if as_json:
        print_json({"manifest": output, "shards": len(records), "images": images, "bytes": size})
    else:
        print(f"{output}: {len(records):,} shards, {images:,} images, {size / 1e9:,.2f} GB")


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(epilog="Example: compress-model manifest s3://bucket/birds -o s3://bucket/birds/manifest.jsonl")(
        manifest
    )
