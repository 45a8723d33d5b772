"""What an ONNX file does not say itself: its preprocessing, in a file beside it, and which output is which class."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from compress.data.preprocess import Preprocess
from compress.data.stated import EMBEDDING, require_stated
from compress.models.class_names import other_classes, output_rows
from compress.models.onnx_model import OnnxFile
from compress.models.onnx_network import OnnxClassifier
from compress.models.onnx_rewrite import select_outputs
from compress.models.own_files import PREPROCESS
from compress.utils.errors import CompressError, first_line
from compress.utils.schema_version import PREPROCESS_VERSION, require_version

_PREPROCESS = TypeAdapter(Preprocess)
_CLASSES = TypeAdapter(tuple[str, ...])


def preprocess_beside(path: Path) -> tuple[Preprocess | None, tuple[str, ...] | None]:
    """Read the preprocessing and the class names from the `preprocess.json` beside a file; None for what is absent.

    Raises:
        CompressError: it is damaged.
    """
    file = path.parent / PREPROCESS
    if not file.is_file():
        return None, None
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        require_version(values, PREPROCESS_VERSION, file)
        require_stated(values, EMBEDDING)
        known = {field.name: values[field.name] for field in fields(Preprocess) if field.name in values}
        names, preprocess = values.get("classes"), _PREPROCESS.validate_python(known)
        if min(preprocess.std) <= 0:
            raise ValueError("std must be positive")
        return preprocess, None if names is None else _CLASSES.validate_python(names)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise CompressError(f"{file}: {where}: {first['msg']}; correct it, or set it in `model`") from error
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CompressError(f"{file} is damaged: {first_line(error)}; copy it again, or remove it") from error


def classifier_for(
    file: OnnxFile, names: Sequence[str] | None, classes: Sequence[str], path: Path
) -> tuple[OnnxClassifier, tuple[str, ...]]:
    """Put the outputs of a file into the order of the data's classes.

    Args:
        file: The file, which may be changed.
        names: Names of its outputs, in their order; None for those in the file's metadata.
        classes: Names of the data's classes.
        path: Where it is from, for messages.

    Returns:
        The network, and what was changed of the file.

    Raises:
        CompressError: it is for other classes, or says of none of its outputs which it is.
    """
    own = tuple(names or file.classes or ())
    if own and len(own) != file.outputs:
        raise CompressError(f"{path} has {file.outputs} outputs, and {len(own)} class names are stated; correct them")
    rows = output_rows(own, classes) if own else list(range(file.outputs))
    if rows is None:
        raise CompressError(other_classes(str(path), own, classes))
    if len(rows) != len(classes):
        raise CompressError(
            f"{path} has {file.outputs} outputs, and the data has {len(classes)} classes; "
            "set `classes` to its classes in the order of its outputs"
        )
    if rows != list(range(file.outputs)):
        select_outputs(file.proto, rows)
        kept = f"{len(rows)} of its {file.outputs}" if len(rows) < file.outputs else "its"
        file = replace(
            file, changed=True, notes=(*file.notes, f"{kept} outputs, put into the order of the data's classes")
        )
    data = path.read_bytes()
    if file.changed or len(data) < file.proto.ByteSize():  # its external data come in
        data = file.proto.SerializeToString(deterministic=True)
    return OnnxClassifier(data), file.notes
