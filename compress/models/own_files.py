"""The files of an own model, and what identifies its weights in store keys. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path

from compress.models.class_names import ARCHITECTURE
from compress.models.fingerprint import local_files, weights_files
from compress.models.names import LOCAL
from compress.recipe.models import OpenClipTeacher, OwnModel
from compress.results.read import RESULTS, read_run
from compress.utils.errors import CompressError
from compress.utils.hashing import file_digest
from compress.utils.messages import did_you_mean, join_words


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
    if settings.source == "variant":
        folder = variant_folder(Path(settings.model))
        names = (ARCHITECTURE, "model.safetensors", "model.onnx")
        return [folder / name for name in names if (folder / name).is_file()]
    if settings.source == "open_clip":
        return local_files(as_teacher(settings))
    files = [Path(settings.model)] if settings.source == "onnx" else []
    if settings.checkpoint:
        files += weights_files(settings.checkpoint)
    elif settings.model.startswith(LOCAL):
        folder = Path(settings.model.removeprefix(LOCAL))
        files += sorted(path for path in folder.glob("*") if path.is_file())
    for path in files:
        if not path.is_file():
            raise CompressError(f"{path} not found; correct the path in `model`")
    return files


def is_quantized(settings: OwnModel) -> bool:
    """Return whether a model is a stored variant that is quantized; False where it cannot be read."""
    if settings.source != "variant":
        return False
    try:
        stored = json.loads((variant_folder(Path(settings.model)) / ARCHITECTURE).read_text())
    except (CompressError, OSError, ValueError):  # reported when its key is computed
        return False
    return isinstance(stored, dict) and bool(stored.get("quantization"))


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
        hint = did_you_mean(name, keys) if name else ";"
        raise CompressError(f"{run} is a run; name one of its variants{hint} {run}/VARIANT with {join_words(keys)}")
    stores = (run / "store", run.parent.parent / "store")
    found = [store / str(keys[name]) for store in stores if (store / str(keys[name]) / ARCHITECTURE).is_file()]
    if not found:
        raise CompressError(
            f"{path}: its network is no longer in {stores[1]}, or it is a teacher, which the store holds no copy of; "
            "run its recipe again, or name the teacher's own files"
        )
    return found[0]
