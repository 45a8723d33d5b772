"""Read weights that were trained elsewhere, in whatever form they were saved, and say what was taken.

`read_checkpoint` finds the network in a file, `load_into` fits it to a model. Variants of the store have one form and
are read by `compress.models.checkpoints`. The table of forms: configs/README.md#checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor, nn

from compress.models.checkpoint_metadata import StoredPreprocess, metadata_beside, stored_classes, stored_preprocess
from compress.models.class_names import IMAGENET, imagenet_classes, other_classes, output_rows
from compress.models.heads import classifiers, take_rows
from compress.models.packed_weights import unpack
from compress.models.pickled_networks import AVERAGED, choose_network, find_networks
from compress.models.restore import restore_weights
from compress.models.safe_pickle import NotACheckpoint, plain, read_pickle, tensor_of
from compress.models.weight_names import fit_names
from compress.utils.errors import CompressError, first_line
from compress.utils.messages import one_line, truncate_list
from compress.utils.resources import expand

CONVERT = "convert it where it was made: torch.save(model.state_dict(), 'weights.pth')"
_OTHER_FILES = {  # first bytes -> what it is, and what to do
    b"version https://git-lfs": "a Git LFS pointer, not the weights; run `git lfs pull`",
    b"<": "a web page or XML file; download the weights themselves",
    b"\x89HDF": f"an HDF5 file of Keras; {CONVERT}",
    b"\x93NUMPY": f"a NumPy array; {CONVERT}",
}


@dataclass(frozen=True)
class Checkpoint:
    """The network in a weights file, and what the file says about it."""

    weights: dict[str, Tensor]  # named as in the file
    notes: tuple[str, ...] = ()  # what was taken of the file
    classes: tuple[str, ...] | None = None  # names of the outputs, in their order
    preprocess: StoredPreprocess = field(default_factory=StoredPreprocess)
    stated: bool = False  # whether `classes` were stated by the user, and not by the file
    ema: bool | None = None  # EMA weights, or not, where `weights` holds both under two prefixes


def read_checkpoint(path: Path, *, ema: bool | None = None) -> Checkpoint:
    """Read the network in a weights file, without running code from it.

    Args:
        path: File of safetensors, `torch.save` (of any age: state dict, training checkpoint or module) or TorchScript;
            `{assets}` stands for the folder of embedded files.
        ema: Whether to take EMA weights; by default they are taken where the file has them, as timm does.

    Raises:
        CompressError: the file is missing, damaged, of another kind, or holds no network, several, or none with EMA.
    """
    path = Path(expand(str(path)))
    if not path.is_file():
        raise CompressError(
            f"{path} is a folder; name the weights file in it" if path.is_dir() else f"weights file {path} not found"
        )
    with path.open("rb") as file:
        start = file.read(64)
    kind = next((text for first, text in _OTHER_FILES.items() if start.startswith(first)), None)
    if kind or not start:
        raise CompressError(f"{path} is {kind or 'empty; copy it again'}")
    try:
        return _safetensors(path, ema) if start[8:9] == b"{" else _pickled(path, ema)
    except CompressError:
        raise
    except NotACheckpoint as error:
        raise CompressError(f"{path} is {error}; {CONVERT}") from error
    except Exception as error:  # the readers raise a dozen kinds on damaged bytes, MemoryError among them
        raise CompressError(
            f"{path} is not a weights file, or is damaged ({first_line(error, 100)}); copy it again, or {CONVERT}"
        ) from error


def _safetensors(path: Path, ema: bool | None) -> Checkpoint:
    with safe_open(path, "pt") as file:
        weights = unpack({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118, not a mapping
        about = metadata_beside(path, file.metadata() or {})
    return _checkpoint(path, weights, (), about, ema)


def _pickled(path: Path, ema: bool | None) -> Checkpoint:
    value = read_pickle(path)
    networks = find_networks(value)
    if not networks:
        raise CompressError(f"{path} holds no network with named weights; {CONVERT}")
    taken, rest = choose_network(path, networks, ema)
    records = networks[taken]
    notes = [f"took '{one_line(taken)}'" + (f", not {truncate_list(rest)}" if rest else "")] if taken else []
    if AVERAGED.search(taken):
        ema = None  # done
        notes[0] += " (EMA weights; `ema: false` takes the others)"
        whole = next((networks[name] for name in rest if networks[taken].keys() < networks[name].keys()), None)
        if whole:
            records = {**whole, **records}
            notes.append("the EMA has no buffers; took those of the other weights")
    weights = {name: tensor for name, record in records.items() if (tensor := tensor_of(record)) is not None}
    return _checkpoint(path, weights, tuple(notes), metadata_beside(path, plain(value), value), ema)


def _checkpoint(
    path: Path, weights: dict[str, Tensor], notes: tuple[str, ...], about: Sequence[Mapping[str, Any]], ema: bool | None
) -> Checkpoint:
    if ema and not any(AVERAGED.search(name) for name in weights):
        raise CompressError(f"{path} holds no EMA weights; remove `ema: true`")
    return Checkpoint(weights, notes, stored_classes(about), stored_preprocess(about), ema=ema)


def load_into(
    model: nn.Module, checkpoint: Checkpoint, where: str, *, new_head: bool, classes: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Load a checkpoint into a model, in place.

    Args:
        model: Model of the checkpoint's architecture, with outputs for `classes`.
        checkpoint: What `read_checkpoint` read.
        where: The file, for messages.
        new_head: Whether a head for other classes may be replaced by the model's own, as initialised: only where the
            model is trained afterwards.
        classes: Class names of the data, which the head's rows are put in the order of where the file names its own.

    Returns:
        What was taken of the file, taken off its names and left out, one note each.

    Raises:
        CompressError: the weights are of another architecture or for other classes; the message has the remedy.
    """
    heads = tuple(classifiers(model))
    weights, notes = fit_names(model, checkpoint.weights, where, ema=checkpoint.ema, new_head=new_head)
    head = [name for name in weights if name.rpartition(".")[0] in heads]
    counts = {weights[name].shape[0] for name in head}
    if checkpoint.stated and checkpoint.classes and counts - {len(checkpoint.classes)}:
        raise CompressError(
            f"{where} has {min(counts)} outputs, and `classes` names {len(checkpoint.classes)}; correct `classes`"
        )
    notes += _fit_head(model, weights, head, where, new_head, checkpoint.classes, classes)
    restore_weights(model, weights, strict=False)
    return (*checkpoint.notes, *notes)


def _fit_head(
    model: nn.Module,
    weights: dict[str, Tensor],
    head: Sequence[str],
    where: str,
    new_head: bool,
    own: Sequence[str] | None,
    classes: Sequence[str] | None,
) -> list[str]:
    """Put the rows of a head into the order of `classes`, or leave it out of `weights`; return what was done."""
    if not head:
        return []
    outputs = {name: weights[name].shape[0] for name in head}
    expected = model.state_dict()
    fits = all(weights[name].shape == expected[name].shape for name in head)
    if not own and classes and set(outputs.values()) == {IMAGENET}:
        own = imagenet_classes(classes)  # published weights do not name their classes
    if not own or not classes or set(outputs.values()) != {len(own)}:
        if fits:
            return _order_note(classes)
        counts = f"{next(iter(outputs.values()))} outputs, not {expected[head[0]].shape[0]}"
        if not new_head:
            raise CompressError(
                f"{where} has {counts}: its head does not fit the classes; name its own in `classes` if the data's are "
                "among them, or fine-tune it first with a `train` stage"
            )
        return _left_out(weights, head, f"has {counts}")
    rows = output_rows(own, classes)
    if rows is None:
        if not new_head:
            raise CompressError(
                f"{other_classes(where, own, classes)}; name its own in `classes` if these are not, or fine-tune it "
                "first with a `train` stage"
            )
        return _left_out(weights, head, "is for other classes")
    if rows == list(range(len(own))):
        return []
    return [take_rows(weights, head, rows)]


def _left_out(weights: dict[str, Tensor], head: Sequence[str], reason: str) -> list[str]:
    for name in head:
        del weights[name]
    return [f"its head {reason}; it starts from a new one"]


def _order_note(classes: Sequence[str] | None) -> list[str]:
    """Say which order is assumed of numbers: ours is numerical, and torchvision's `ImageFolder` sorts them as text."""
    if classes and all(name.isdecimal() for name in classes) and sorted(classes) != sorted(classes, key=int):
        return [f"the file does not name its classes; its outputs are taken to be {truncate_list(classes)}"]
    return []
