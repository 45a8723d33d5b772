"""`classes.safetensors`: the classes of an embedding student, a linear layer that is kept apart and can be replaced.

Row c of the weight is the text embedding of class c, scaled to length 1, times the logit scale of the teacher. Reading
needs only numpy, as on a device that runs artifacts; imports no torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from compress.utils.atomic import write_atomic
from compress.utils.errors import CompressError, first_line

CLASSES = "classes.safetensors"
HEADER = 8  # bytes of a safetensors file that give the length of its header

Array: TypeAlias = "np.ndarray[Any, Any]"


@dataclass(frozen=True)
class ClassList:
    """A linear layer from embeddings `[b, width]` of length 1 to logits `[b, classes]`, with its classes."""

    names: tuple[str, ...]  # in the order of the rows
    weight: Array  # float32 `[classes, width]`
    bias: Array  # float32 `[classes]`
    words: tuple[str, ...]  # for each class in the prompts
    templates: tuple[str, ...]  # prompts; `{}` stands for the words

    @property
    def width(self) -> int:
        """Width of the embeddings."""
        return int(self.weight.shape[1])

    def logits(self, embeddings: Array) -> Array:
        """Return float32 `[b, classes]` of embeddings `[b, width]`."""
        return np.asarray(embeddings, np.float32) @ self.weight.T + self.bias

    def after(self, run: Callable[[Array], Array]) -> Callable[[Array], Array]:
        """Return the function from images to logits, given that from images to embeddings."""

        def logits(images: Array) -> Array:
            embeddings = run(images)
            if embeddings.shape[1:] != (self.width,):
                found = "x".join(map(str, embeddings.shape[1:]))
                raise CompressError(
                    f"its embeddings have width {found}, and {CLASSES} is for {self.width}; export it again"
                )
            return self.logits(embeddings)

        return logits

    def select(self, rows: Sequence[int], names: Sequence[str]) -> ClassList:
        """Keep only these rows, in this order, under these names."""
        kept = list(rows)
        words = tuple(self.words[row] for row in kept)
        return replace(self, names=tuple(names), weight=self.weight[kept], bias=self.bias[kept], words=words)

    @property
    def scale(self) -> float:
        """The logit scale: the length of the rows, divided by a temperature that was fitted."""
        return float(np.linalg.norm(self.weight, axis=1).mean())

    def write(self, folder: Path) -> None:
        """Write `classes.safetensors` into `folder`."""
        from safetensors.numpy import save

        about = {"names": self.names, "words": self.words, "templates": self.templates}
        metadata = {key: json.dumps(value, ensure_ascii=False) for key, value in about.items()}
        tensors = {"weight": np.ascontiguousarray(self.weight, np.float32), "bias": np.asarray(self.bias, np.float32)}
        write_atomic(folder / CLASSES, save(tensors, metadata))

    @classmethod
    def read(cls, folder: Path) -> ClassList:
        """Read the `classes.safetensors` in `folder`.

        Raises:
            CompressError: the file is missing, damaged or cannot be read.
        """
        path = folder / CLASSES
        try:
            found = cls._parse(path.read_bytes())
            found.check()
        except FileNotFoundError as error:
            raise CompressError(f"{folder} has no {CLASSES}, which the export writes beside the model") from error
        except OSError as error:
            raise CompressError(f"{path} cannot be read: {error.strerror}; correct that, or export it again") from error
        except (ValueError, TypeError, KeyError) as error:
            raise CompressError(f"{path} is damaged: {first_line(error, 150)}; export its variant again") from error
        return found

    @classmethod
    def _parse(cls, content: bytes) -> ClassList:
        """Parse a safetensors file: the length of the header in 8 bytes, the header as JSON, the tensors."""
        end = HEADER + int.from_bytes(content[:HEADER], "little")
        if not HEADER < end <= len(content):
            raise ValueError("its header is incomplete")
        header = json.loads(content[HEADER:end])
        if not isinstance(header, dict) or not isinstance(about := header.get("__metadata__"), dict):
            raise ValueError("it has no class names")
        texts = {key: tuple(map(str, json.loads(about[key]))) for key in ("names", "words", "templates")}
        return cls(
            weight=_tensor(header, "weight", content[end:]), bias=_tensor(header, "bias", content[end:]), **texts
        )

    def check(self) -> None:
        """Raise a `ValueError` if the parts do not fit together."""
        classes = len(self.names)
        if self.weight.ndim != 2 or self.weight.shape[0] != classes or self.bias.shape != (classes,):
            raise ValueError(f"{classes} names, weight {list(self.weight.shape)}, bias {list(self.bias.shape)}")
        if len(self.words) != classes or len(set(self.names)) < classes or not classes:
            raise ValueError("class names must be unique, with words for each")
        if not (np.isfinite(self.weight).all() and np.isfinite(self.bias).all()):
            raise ValueError("a weight is not finite")


def _tensor(header: Mapping[str, Any], name: str, content: bytes) -> Array:
    """Return a float32 tensor of a safetensors file, given the bytes behind its header."""
    entry = header[name]
    shape, (start, end) = tuple(map(int, entry["shape"])), map(int, entry["data_offsets"])
    if entry["dtype"] != "F32" or min(shape, default=0) < 0:
        raise ValueError(f"{name} is {entry['dtype']} of shape {list(shape)}")
    if not 0 <= start <= end <= len(content) or end - start != 4 * math.prod(shape):
        raise ValueError(f"{name} is incomplete")
    return np.frombuffer(content[start:end], "<f4").astype(np.float32).reshape(shape)


def beside(path: Path) -> ClassList | None:
    """Read the class list beside an artifact's file; None for a file that gives logits itself.

    Raises:
        CompressError: it is damaged.
    """
    return ClassList.read(path.parent) if (path.parent / CLASSES).is_file() else None
