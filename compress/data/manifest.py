"""Manifests: JSON lines that list the shards of a data set with what each has, so that plans need not open any."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from compress.data.patterns import parts_of
from compress.store.shared import SharedFolder
from compress.utils.errors import CompressError, UsageError
from compress.utils.messages import located
from compress.utils.resources import expand
from compress.utils.urls import is_url

ENDING = ".jsonl"
MAX_IMAGES = 10**12  # of a manifest; plans count in steps of shards of embeddings
_CREATE = "write it with `compress-model manifest`"


def _below(name: str) -> str:
    if "\\" in name or ":" in name or not {"", ".", ".."}.isdisjoint(name.split("/")):
        raise ValueError("must be a path below the folder of the manifest")
    return name


_Count = Annotated[int, Field(ge=0, lt=2**53, strict=True)]  # whole in every JSON reader


class ShardRecord(BaseModel):
    """A line of a manifest: one shard."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Annotated[str, AfterValidator(_below)]  # relative to the folder of the manifest
    images: _Count
    bytes: _Count
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    etag: str | None = None  # as the service states it, of a shard at a URL
    split: Literal["train", "validation", "test", "unlabeled"] | None = None  # default: a word in its name


def is_manifest(path: str) -> bool:
    """Whether the path or URL of a data set is one of a manifest."""
    return path.lower().endswith(ENDING)


def read_manifest(path: str) -> list[tuple[ShardRecord, str]]:
    """Read a local manifest, or one at a URL: its shards in order, each with its split.

    Raises:
        CompressError: the manifest cannot be read.
        UsageError: there is no such manifest, or a line of it is wrong.
    """
    records = list(_records(path, _text(path)))
    if not records:
        raise UsageError(f"data.path: {path} lists no shards; {_CREATE}")
    names = [record.file for record in records]
    if doubled := next((name for name, count in Counter(names).items() if count > 1), None):
        raise UsageError(f"data.path: {path}: {doubled} is listed twice; remove a line")
    if sum(record.images for record in records) > MAX_IMAGES:
        raise UsageError(f"data.path: {path} lists more than {MAX_IMAGES:,} images; {_CREATE}")
    if all(record.split for record in records):
        return [(record, str(record.split)) for record in records]
    named = parts_of([record.file for record in records if not record.split], path)
    others = iter(named)
    return [(record, record.split or next(others)) for record in records]


def _text(path: str) -> bytes:
    if is_url(path):
        folder, _, name = path.rpartition("/")
        text = SharedFolder(folder).read(name)
        if text is None:
            raise UsageError(f"data.path: {path} not found; {_CREATE}, and upload it beside the shards")
        return text
    file = Path(expand(path))
    try:
        return file.read_bytes()
    except (FileNotFoundError, ValueError) as error:  # or a name that no file can have
        raise UsageError(f"data.path: file {located(file)} not found; {_CREATE}") from error
    except OSError as error:
        raise CompressError(f"{file} cannot be read: {error.strerror}") from error


def _records(path: str, text: bytes) -> Iterator[ShardRecord]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield ShardRecord.model_validate_json(line)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field, what = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
            raise UsageError(
                f"{path}:{number}: {field + ': ' if field else ''}{what}; fix the line, or {_CREATE}"
            ) from error
