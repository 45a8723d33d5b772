"""What a reader left out, by reason."""

from __future__ import annotations

from pydantic import Field

from compress.results.base import Count, Record


class LeftOutRecord(Record):
    """Files, folders, rows or members of one kind that were left out for one reason."""

    kind: str = Field(description="file, folder, row, member, image or image per epoch")
    reason: str = Field(description="Ending of the files, name of the folders, or why")
    count: Count = Field(description="How many")
    first: str = Field(description="The first of them")
