"""`classes.safetensors`: the classes of an embedding student, a linear layer that is kept apart and can be replaced.

Row c of the weight is the text embedding of class c, scaled to length 1, times the logit scale of the teacher. Needs
numpy and safetensors; imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from compress.utils.errors import CompressError, first_line

CLASSES = "classes.safetensors"

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
        return lambda images: self.logits(run(images))

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
        from safetensors.numpy import save_file

        about = {"names": self.names, "words": self.words, "templates": self.templates}
        metadata = {key: json.dumps(value, ensure_ascii=False) for key, value in about.items()}
        tensors = {"weight": np.ascontiguousarray(self.weight, np.float32), "bias": np.asarray(self.bias, np.float32)}
        save_file(tensors, folder / CLASSES, metadata)

    @classmethod
    def read(cls, folder: Path) -> ClassList:
        """Read the `classes.safetensors` in `folder`.

        Raises:
            CompressError: the file is missing or damaged.
        """
        from safetensors import safe_open

        path = folder / CLASSES
        try:
            with safe_open(path, "np") as file:
                about = {key: tuple(json.loads(value)) for key, value in (file.metadata() or {}).items()}
                found = cls(weight=file.get_tensor("weight"), bias=file.get_tensor("bias"), **about)
            found.check()
        except FileNotFoundError as error:
            raise CompressError(f"{folder} has no {CLASSES}, which the export writes beside the model") from error
        except Exception as error:  # safetensors raises several kinds on damaged bytes
            raise CompressError(f"{path} is damaged: {first_line(error, 150)}; export its variant again") from error
        return found

    def check(self) -> None:
        """Raise a `ValueError` if the parts do not fit together."""
        classes = len(self.names)
        if self.weight.ndim != 2 or self.weight.shape[0] != classes or self.bias.shape != (classes,):
            raise ValueError(f"{classes} names, weight {list(self.weight.shape)}, bias {list(self.bias.shape)}")
        if len(self.words) != classes or len(set(self.names)) < classes or not classes:
            raise ValueError("class names must be unique, with words for each")
        if not (np.isfinite(self.weight).all() and np.isfinite(self.bias).all()):
            raise ValueError("a weight is not finite")


def beside(path: Path) -> ClassList | None:
    """Read the class list beside an artifact's file; None for a file that gives logits itself.

    Raises:
        CompressError: it is damaged.
    """
    return ClassList.read(path.parent) if (path.parent / CLASSES).is_file() else None
