"""Read what `torch.save` writes without running code from it, whatever objects it holds.

Nothing that a file names is imported or called. Every global becomes an `Inert` type, whose instances only record what
the file would have called them with, and tensors are made from the records of PyTorch's own functions (`_REBUILD`).
Argument parsers, configurations, optimizers and whole modules can therefore be read as data.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NoReturn

import torch
from torch import Tensor

MAGIC = 0x1950A86A20F9469CFC6C  # first value in files older than PyTorch 1.6 (torch/serialization.py)
DTYPES = {
    **{"Float": torch.float32, "Double": torch.float64, "Half": torch.float16, "BFloat16": torch.bfloat16},
    **{"Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8},
    **{"Bool": torch.bool, "Untyped": torch.uint8},
}
_NAMED = {str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)}
_REBUILD = frozenset(
    {
        *("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3"),
        *("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"),
        "torch._tensor._rebuild_from_type_v2",
    }
)


class NotACheckpoint(ValueError):
    """The file is something else; the message says what, and what to do."""


class _Frozen(type):
    """A type that a pickle cannot change."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise pickle.UnpicklingError("a type cannot be changed")


class Inert(metaclass=_Frozen):
    """Stand-in for an object of any type: its arguments, state and contents, as the file has them."""

    path: ClassVar[str] = ""  # module and name of the type or function in the file
    arguments: tuple[Any, ...]
    state: Any
    mapping: dict[Any, Any]
    sequence: list[Any]

    def __new__(cls, *arguments: Any, **_: Any) -> Inert:
        self = object.__new__(cls)
        self.arguments, self.state, self.mapping, self.sequence = arguments, None, {}, []
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.mapping[key] = value

    def append(self, value: Any) -> None:
        self.sequence.append(value)

    def extend(self, values: Iterable[Any]) -> None:
        self.sequence.extend(values)

    add = append


@dataclass(frozen=True)
class _Storage:
    """The numbers behind tensors, read when the first tensor is made of them."""

    dtype: torch.dtype
    read: Callable[[], bytearray]


class _Reader(pickle._Unpickler):
    """The unpickler written in Python, whose memory does not grow with the largest index in a hostile file."""

    def __init__(self, file: BinaryIO, read: Callable[[str], bytes] | None = None) -> None:
        super().__init__(file, encoding="latin1")
        self._read = read
        self._types: dict[str, type[Inert]] = {}
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> type[Inert]:
        path = f"{module}.{name}"
        if path not in self._types:
            self._types[path] = _Frozen("Inert", (Inert,), {"path": path})  # type: ignore[assignment]
        return self._types[path]

    def get_extension(self, code: int) -> NoReturn:
        """Refuse codes of `copyreg`, which stand for objects of this process."""
        raise pickle.UnpicklingError(f"extension code {code}")

    def persistent_load(self, pid: Any) -> Any:
        # ("storage", type, key, device, elements); in old files with the view of another storage, and
        # ("module", type, name of its source file, source)
        if isinstance(pid, tuple) and len(pid) == 4 and pid[0] == "module":
            return pid[1]
        if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage" and self._read):
            raise pickle.UnpicklingError("a persistent id that PyTorch does not write")
        kind, key = pid[1], pid[2]
        name = kind.path.rpartition(".")[2] if isinstance(kind, type) and issubclass(kind, Inert) else ""
        dtype = DTYPES.get(name.removesuffix("Storage"))
        if dtype is None or not isinstance(key, str) or any(pid[5:]):
            raise pickle.UnpicklingError(f"a storage of type {name or 'unknown'}")
        if key not in self.storages:
            read = partial(self._read, key)
            self.storages[key] = _Storage(dtype, cache(lambda: bytearray(read())))
        return self.storages[key]


def read_pickle(path: Path) -> Any:
    """Read the value in a file of `torch.save`: containers, `Inert` objects, and tensors that `tensor_of` makes.

    Raises:
        NotACheckpoint: the file is not of `torch.save` or `torch.jit.save`.
        Exception: the unpickler raises a dozen kinds on damaged bytes.
    """
    if zipfile.is_zipfile(path):
        return _read_zip(path)
    with path.open("rb") as file:
        return _read_legacy(path, file)


def _read_zip(path: Path) -> Any:
    archive = zipfile.ZipFile(path)  # open as long as storages may be read
    files = {info.filename: info for info in archive.infolist()}
    pickled = next((name for name in files if name.count("/") == 1 and name.endswith("/data.pkl")), None)
    if pickled is None:
        raise NotACheckpoint("an archive without data.pkl, not one of torch.save")
    root = pickled.removesuffix("data.pkl")

    def read(name: str) -> bytes:
        if files[root + name].compress_type != zipfile.ZIP_STORED:
            raise NotACheckpoint("compressed, which torch.save does not do; unpack it, or save it again")
        return archive.read(root + name)

    if f"{root}byteorder" in files and read("byteorder") == b"big":
        raise NotACheckpoint("from a big-endian machine; convert it to .safetensors there")
    return _Reader(io.BytesIO(read("data.pkl")), lambda key: read(f"data/{key}")).load()


def _read_legacy(path: Path, file: BinaryIO) -> Any:
    """Read the layout before PyTorch 1.6: five pickles, then the storages, each with its length in front."""
    if _Reader(file).load() != MAGIC:
        raise NotACheckpoint("a plain pickle, not a file of torch.save")
    for _ in ("version", "system"):
        _Reader(file).load()
    offsets: dict[str, tuple[int, int]] = {}  # by storage, where its bytes are and how many

    def read(key: str) -> bytes:
        start, length = offsets[key]
        with path.open("rb") as again:
            again.seek(start)
            return again.read(length)

    reader = _Reader(file, read)
    value = reader.load()
    for key in _Reader(file).load():
        length = int.from_bytes(file.read(8), "little") * reader.storages[key].dtype.itemsize
        offsets[key] = file.tell(), length
        file.seek(length, io.SEEK_CUR)
    return value


def tensor_of(value: Any) -> Tensor | None:
    """Make the tensor that a record of PyTorch's functions describes; None if it is not one.

    Raises:
        Exception: of several kinds, if the record is damaged.
    """
    if not is_tensor(value):
        return None
    first = value.arguments[0]
    if isinstance(first, Inert):
        return tensor_of(first)  # a parameter is made of its tensor
    if isinstance(first, type):  # a subclass of Tensor: function, type, arguments, state
        return tensor_of(first(*value.arguments[2]))
    storage, offset, size, stride = value.arguments[:4]
    dtype = storage.dtype
    if value.path.endswith("_v3"):  # an untyped storage, whose type comes with the tensor
        dtype = _NAMED[value.arguments[6].path]
    data = storage.read()
    flat = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
    return flat.as_strided(tuple(size), tuple(stride), offset)


def is_tensor(value: Any) -> bool:
    """Return whether a value is the record of a tensor."""
    return isinstance(value, Inert) and value.path in _REBUILD and bool(value.arguments)


def plain(value: Any) -> Any:
    """Turn the stand-in of a dictionary, a namespace or an OmegaConf container into a dictionary, list or value."""
    if not isinstance(value, Inert) or is_tensor(value):
        return value
    state = value.state
    if isinstance(state, dict) and "_val" in state:  # a node of OmegaConf
        return plain(state["_val"])
    if isinstance(state, dict) and "_content" in state:  # a container of OmegaConf
        content = plain(state["_content"])
        if isinstance(content, dict):
            return {key: plain(each) for key, each in content.items()}
        return [plain(each) for each in content] if isinstance(content, list) else content
    if value.mapping or value.path.lower().endswith("dict"):
        return value.mapping
    return state if isinstance(state, dict) else value.sequence or value
