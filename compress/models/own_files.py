"""The files of an own model, and what identifies its weights in store keys. Imports no torch."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from compress.models.class_list import CLASSES
from compress.models.class_names import ARCHITECTURE
from compress.models.fingerprint import folder_files, local_files, weights_files
from compress.models.names import LOCAL
from compress.models.onnx_export import EMBEDDING
from compress.recipe.models import OpenClipTeacher, OwnModel
from compress.results.read import RESULTS, read_run
from compress.utils.errors import CompressError
from compress.utils.hashing import file_digest
from compress.utils.messages import did_you_mean, join_words
from compress.utils.resources import expand

if TYPE_CHECKING:
    from onnx import GraphProto

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")  # that read, change and run ONNX files
PREPROCESS = "preprocess.json"  # beside the files of an export
QUANTIZED = (
    "QuantizeLinear",
    "DequantizeLinear",
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
    "MatMulNBits",
)
"""Operators of quantized ONNX files."""


def as_teacher(settings: OwnModel) -> OpenClipTeacher:
    """Return an OpenCLIP model in the form in which a teacher is given."""
    return OpenClipTeacher(
        source="open_clip",
        model=settings.model,
        pretrained=settings.pretrained,
        checkpoint=settings.checkpoint,
        batch=settings.batch,
    )


def own_model_id(settings: OwnModel) -> str:
    """Identify the weights: by the digests of local files, or by the name of published ones.

    Raises:
        CompressError: a file is missing or cannot be read.
    """
    files = own_model_files(settings)
    try:
        digests = "+".join(file_digest(path) for path in files)
    except OSError as error:
        raise CompressError(f"{error.filename} cannot be read: {error.strerror}; correct `model`") from error
    return digests or f"{settings.source}:{settings.model}:{settings.pretrained or 'published'}"


def own_model_files(settings: OwnModel) -> list[Path]:
    """List the local files that determine the network, none if its weights are downloaded.

    Raises:
        CompressError: one is missing.
    """
    if onnx := onnx_file(settings):
        return _onnx_files(onnx)
    if settings.source == "variant":
        folder = variant_folder(model_path(settings))
        names = (ARCHITECTURE, "model.safetensors", "model.onnx", CLASSES)
        return [folder / name for name in names if (folder / name).is_file()]
    if settings.source == "open_clip":
        return local_files(as_teacher(settings))
    files = []
    if settings.checkpoint:
        files += weights_files(settings.checkpoint)
    if settings.model.startswith(LOCAL):
        files += folder_files(settings.model, weights=not settings.checkpoint)
    for path in files:
        _require(path)
    return files


def model_path(settings: OwnModel) -> Path:
    """Return the file or folder of a stored variant or an ONNX file."""
    return Path(expand(settings.model))


def onnx_file(settings: OwnModel) -> Path | None:
    """Return the ONNX file that a model is: the one that is named, or that of an artifact; None for other models.

    Raises:
        CompressError: it is an artifact of another format.
    """
    path = model_path(settings)
    if settings.source == "onnx":
        return path
    folder = path if path.is_dir() else path.parent
    if settings.source != "variant" or not (folder / PREPROCESS).is_file():
        return None
    files = [path] if path.is_file() else sorted(folder.glob("*.onnx"))
    if len(files) != 1 or files[0].suffix != ".onnx":
        raise CompressError(f"{path} is an artifact without an ONNX file; name its variant as RUN/VARIANT instead")
    return files[0]


def is_onnx(settings: OwnModel) -> bool:
    """Return whether the network of a model is an ONNX file; False where it cannot be read."""
    try:
        if onnx_file(settings):
            return True
        return settings.source == "variant" and _stored_architecture(settings).get("library") == "onnx"
    except CompressError:  # reported when its key is computed
        return False


def _require(path: Path) -> None:
    if path.is_dir():
        raise CompressError(f"{path} is a folder; name the file in it")
    if not path.is_file():
        raise CompressError(f"{path} not found; correct the path in `model`")


def _onnx_files(path: Path) -> list[Path]:
    """List an ONNX file, its external data, and the `preprocess.json` beside it.

    A `CompressError` if it is missing or gives embeddings.
    """
    _require(path)
    if _states_embeddings(path.parent / PREPROCESS):
        raise CompressError(f"{path} gives embeddings; name its variant as RUN/VARIANT, with `source: variant`")
    absent = [package for package in ONNX_PACKAGES if importlib.util.find_spec(package) is None]
    if absent:
        raise CompressError(f"{path} needs {join_words(absent, 'and')}: pip install 'compress-model[deploy]'")
    import onnx

    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception:  # reported when the network is loaded
        return [path]
    external = {entry.value for t in graph.initializer for entry in t.external_data if entry.key == "location"}
    beside = [path.parent / name for name in (*sorted(external), PREPROCESS)]
    return [path, *(file for file in beside if file.is_file())]


def _states_embeddings(file: Path) -> bool:
    """Return whether a `preprocess.json` is of an embedding student; False where it cannot be read."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # reported when the network is loaded
        return False
    return isinstance(values, dict) and values.get("output") == EMBEDDING


def is_quantized(settings: OwnModel) -> bool:
    """Return whether a model is a quantized variant or ONNX file; False where it cannot be read."""
    try:
        file = onnx_file(settings)
    except CompressError:  # reported when its key is computed
        return False
    if file:
        return file.is_file() and _has_integers(file, file.stat().st_mtime_ns)
    if settings.source != "variant":
        return False
    return bool(_stored_architecture(settings).get("quantization"))


def gives_embeddings(settings: OwnModel) -> bool:
    """Return whether a model is a stored embedding student; False where it cannot be read."""
    return settings.source == "variant" and bool(_stored_architecture(settings).get("embedding"))


def _stored_architecture(settings: OwnModel) -> dict[str, object]:
    """Read the `architecture.json` of a stored variant; empty where it cannot be read."""
    try:
        stored = json.loads((variant_folder(model_path(settings)) / ARCHITECTURE).read_text())
    except (CompressError, OSError, ValueError):  # reported when its key is computed
        return {}
    return stored if isinstance(stored, dict) else {}


@cache
def _has_integers(file: Path, changed: int) -> bool:
    """Return whether an ONNX file, `changed` at a time, has activations in integers; False where it cannot be read.

    One that stores its weights in integers and computes with them in float does not.
    """
    try:
        import onnx

        graph = onnx.load(file, load_external_data=False).graph
    except Exception:  # protobuf raises types of its own; reported when the network is loaded
        return False
    return has_integer_activations(graph)


def has_integer_activations(graph: GraphProto) -> bool:
    """Return whether an ONNX graph rounds activations to integers; one that only stores its weights so does not."""
    stored = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if stored.issuperset(node.input):  # a constant, or a weight that is rounded
            stored.update(node.output)
        elif node.op_type in QUANTIZED:
            return True
    return False


def variant_folder(path: Path) -> Path:
    """Find the folder of a stored variant: the store entry itself, or that of RUN/VARIANT.

    Raises:
        CompressError: there is no variant; the message says what there is.
    """
    if (path / ARCHITECTURE).is_file():
        return path
    run, name = (path, "") if (path / RESULTS).is_file() else (path.parent, path.name)
    if not (run / RESULTS).is_file():
        raise CompressError(f"{path} is neither a store entry ({ARCHITECTURE} not found) nor RUN/VARIANT of a run")
    keys = {variant.id: variant.stage_key for variant in read_run(run).variants}
    if name not in keys:
        what = f"{run} has no variant {name!r}{did_you_mean(name, keys) or ';'}" if name else f"{run} is a run;"
        raise CompressError(f"{what} name one of its variants, as RUN/VARIANT: {join_words(keys)}")
    stores = (run / "store", run.parent.parent / "store")
    found = [store / str(keys[name]) for store in stores if (store / str(keys[name]) / ARCHITECTURE).is_file()]
    if not found:
        raise CompressError(
            f"{path}: its network is no longer in {stores[1]}, or it is a teacher, which the store holds no copy of; "
            "run its recipe again, or name the teacher's own files"
        )
    return found[0]
