"""No file runs code when it is read, whatever is in it."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from compress.models.safe_pickle import MAGIC, Inert, read_pickle, tensor_of
from compress.models.weights_file import read_checkpoint
from compress.utils.errors import CompressError


class Calls:
    """An object whose unpickling calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def call(module: str, name: str, *arguments: bytes) -> bytes:
    """The opcodes that call a global with arguments that are opcodes."""
    return f"c{module}\n{name}\n".encode() + b"(" + b"".join(arguments) + b"tR"


def attacks(canary: Path) -> dict[str, bytes]:
    """Pickles that create the file `canary` when an ordinary unpickler, or one with holes, reads them."""
    command = f"import pathlib; pathlib.Path({str(canary)!r}).touch()"
    path = text(str(canary))
    evil = text(command)
    state = {"weight": torch.zeros(2, 2).tolist()}
    return {
        "os.system": pickle.dumps(Calls(os.system, f"touch {canary}"), 2),
        "eval": pickle.dumps(Calls(eval, f"exec({command!r})"), 4),
        "exec in a state dict": pickle.dumps({"state_dict": {"fc.weight": Calls(exec, command)}, **state}, 5),
        "exec in protocol 0": pickle.dumps(Calls(exec, command), 0),
        "attribute of a module": call("builtins", "getattr", b"cos\n", text("system")) + b"(" + path + b"tR",
        "getattr of builtins": call("builtins", "getattr", b"cbuiltins\n__dict__\n", text("get")) + b".",
        "dotted name": b"\x80\x04" + text("builtins") + text("exec.__call__") + b"\x93(" + evil + b"tR.",
        "module of torch": call("torch.serialization", "os.system", text(f"touch {canary}")) + b".",
        "torch.load without weights_only": call("torch", "load", path) + b".",
        "torch's own loader of bytes": call("torch.storage", "_load_from_bytes", b"C\x04abcd") + b".",
        "instance of a class": b"(" + text(f"touch {canary}") + b"ios\nsystem\n.",
        "object": b"(" + b"cos\nsystem\n" + text(f"touch {canary}") + b"o.",
        "state of a function": b"ctorch._utils\n_rebuild_tensor_v2\n}" + text("__code__") + text("x") + b"sb.",
        "slots of a type": b"ctorch.nn.modules.linear\nLinear\n(N}" + text("forward") + b"cos\nsystem\nstb.",
        "setstate of a type": b"ccollections\nOrderedDict\n" + b"cbuiltins\nexec\nb.",
        "rebuilding by another function": call(
            "torch._tensor",
            "_rebuild_from_type_v2",
            b"cbuiltins\nexec\n",
            b"cbuiltins\nobject\n",
            b"(" + evil + b"t",
            b"N",
        )
        + b".",
        "extension registry": b"\x82\x01(" + evil + b"tR.",
        "persistent id that is called": b"(cos\nsystem\n" + path + b"tQ.",
        "items of a callable": b"cbuiltins\nexec\n(" + evil + b"Ns" + b".",
        "members of a callable": b"cos\nsystem\n(" + path + b"e.",
    }


NAMES = tuple(attacks(Path("canary")))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["zip", "legacy", "plain"])
def test_no_pickle_runs_code(name: str, form: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    attack = attacks(canary)[name]
    path = tmp_path / "weights.pth"
    if form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", attack)
    else:
        start = [pickle.dumps(each, 2) for each in (MAGIC, 1001, {})] if form == "legacy" else []
        path.write_bytes(b"".join(start) + attack + pickle.dumps([], 2))
    code = torch._utils._rebuild_tensor_v2.__code__
    with pytest.raises(CompressError, match=r"weights\.pth"):
        read_checkpoint(path)
    assert not canary.exists()
    assert torch._utils._rebuild_tensor_v2.__code__ is code and not hasattr(Inert, "forward")


def test_attacks_work_on_an_ordinary_unpickler(tmp_path: Path) -> None:
    """The test above would notice a reader that runs code."""
    for name in ("os.system", "eval", "exec in a state dict", "instance of a class", "object"):
        pickle.loads(attacks(tmp_path / "canary")[name])
        (tmp_path / "canary").unlink()


def zipped(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def test_types_of_a_pickle_cannot_be_changed() -> None:
    class Kind(Inert):
        pass

    with pytest.raises(pickle.UnpicklingError, match="a type cannot be changed"):
        Kind.path = "os.system"


def test_tensors_out_of_their_storage_and_of_unknown_types_are_refused(tmp_path: Path) -> None:
    record = read_pickle(zipped(tmp_path / "a.pth", torch.ones(2, 3)))
    assert tensor_of(record).equal(torch.ones(2, 3))  # type: ignore[union-attr]
    storage, *rest = record.arguments
    for offset, size, stride in ((1, (2, 3), (3, 1)), (0, (3, 3), (3, 1)), (0, (2, 3), (9, 1)), (0, (-2,), (1,))):
        record.arguments = (storage, offset, size, stride, *rest[3:])
        with pytest.raises(RuntimeError):
            tensor_of(record)
    assert tensor_of(read_pickle(zipped(tmp_path / "b.pth", {"a": 1}))) is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32, torch.bool, torch.uint16])
def test_tensors_are_as_saved(dtype: torch.dtype, tmp_path: Path) -> None:
    values = torch.arange(24).reshape(4, 6).to(dtype)
    saved = {"a": values.t(), "b": values[1:, 2:], "empty": values[:0], "one": values[0, 0]}
    for new in (True, False):
        torch.save(saved, tmp_path / "a.pth", _use_new_zipfile_serialization=new)
        read = read_pickle(tmp_path / "a.pth")
        for name, value in saved.items():
            made = tensor_of(read[name])
            assert made is not None and made.dtype == dtype and torch.equal(made, value), name


def test_storages_are_read_only_when_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "a.pth", {"model": torch.zeros(3), "optimizer": torch.zeros(1000)})
    read: list[str] = []
    plain = zipfile.ZipFile.read
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda self, name: (read.append(name), plain(self, name))[1])
    tensor_of(read_pickle(path)["model"])
    assert [name.rpartition("/")[2] for name in read if "/data/" in name] == ["0"]


@pytest.mark.parametrize("hostile", ["cycle", "laugh"])
def test_modules_without_end_are_refused(hostile: str, tmp_path: Path) -> None:
    inner: dict[str, Any] = {"_parameters": {}, "_buffers": {}, "_modules": {}}
    for _ in range(60):
        outer: dict[str, Any] = {"_parameters": {"w": torch.zeros(2, 2)}, "_buffers": {}, "_modules": {}}
        outer["_modules"] = {"a": Holder(inner), "b": Holder(inner)}
        inner = outer
    if hostile == "cycle":
        inner["_modules"]["a"] = Holder(inner)
    with pytest.raises(CompressError, match=r"more than 100000 modules|nested more than 100 levels deep"):
        read_checkpoint(zipped(tmp_path / "a.pth", Holder(inner)))


class Holder:
    """An object with a state, as a module has."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state


def test_random_damage_is_refused_or_read(tmp_path: Path) -> None:
    out = io.BytesIO()
    torch.save({"state_dict": {"fc.weight": torch.zeros(3, 4)}}, out)
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        data = bytearray(out.getvalue())
        for at in torch.randint(len(data), (5,), generator=generator).tolist():
            data[at] = int(torch.randint(256, (1,), generator=generator))
        (tmp_path / "a.pth").write_bytes(data)
        try:
            read_checkpoint(tmp_path / "a.pth")
        except CompressError as error:
            assert "\n" not in str(error)
