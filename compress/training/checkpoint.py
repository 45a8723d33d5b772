"""The checkpoint of a fit: written once, hashed on the way, and read back only if it is what was written."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from compress.training.formats import Format
from compress.utils.hashing import file_digest

DIGESTS = ".sha256"


class _HashedFile:
    """A file whose digest is computed while it is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.hash = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


class HashedCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints to local disk at once; Lightning's own are put together in memory and copied twice."""

    digest = ""  # SHA-256 of the last checkpoint that was written

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        with Path(path).open("wb") as file:
            hashed = _HashedFile(file)
            torch.save(checkpoint, hashed)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        self.digest = hashed.hash.hexdigest()


@dataclass(frozen=True)
class SavedEpoch:
    """Epochs, digest and number format of a checkpoint."""

    epochs: int  # that are complete
    digest: str  # of the file
    format: Format | None  # of the fit's steps; None in checkpoints of earlier versions


def read_checkpoint(path: Path) -> SavedEpoch | None:
    """Read what a checkpoint is of; None if it cannot be resumed from, whatever is wrong with it."""
    try:
        digest = file_digest(path)
        if digest not in path.with_suffix(DIGESTS).read_text().split():
            return None
        stored = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        known = stored.get("format")
        return SavedEpoch(int(stored["epoch"]) + 1, digest, Format.parse(known) if known else None)
    except Exception:
        return None
