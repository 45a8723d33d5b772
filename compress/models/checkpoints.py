"""Variants on disk, without pickle: `architecture.json` says how to build the network, `model.safetensors` holds it.

`architecture.json` names the library and the model, and every size in which the network differs from what the library
builds, so that a pruned network is rebuilt from text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from compress.models.factory import create_model
from compress.utils.errors import CompressError, first_line

SIZES = (
    *("in_channels", "out_channels", "groups", "num_features", "in_features", "out_features", "normalized_shape"),
    *("head_dim", "attn_dim"),  # of timm's attention
)
Size = int | list[int]
ONNX = "model.onnx"
"""What a network that was quantized as a file lies in, instead of weights."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a weights file without running anything in it.

    Raises:
        CompressError: the file is missing, damaged, or holds more than tensors.
    """
    if not path.is_file():
        raise CompressError(f"there is no weights file {path}")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make the unpickler raise a dozen kinds, MemoryError among them
        reason = first_line(error, 150)
        raise CompressError(f"{path} is no weights file that can be read without running code: {reason}") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise CompressError(f"{path} holds no table of weights")
    return {name.removeprefix("module."): value for name, value in loaded.items()}


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], where: str, may_lack: set[str] | None = None) -> None:
    """Load `weights` into `model`; every name and shape must be the model's own.

    Raises:
        CompressError: the weights are of another architecture, with the first difference.
    """
    own = model.state_dict()
    missing = [name for name in own if name not in weights and name not in (may_lack or set())]
    unknown = [name for name in weights if name not in own]
    other = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    if missing or unknown or other:
        if other:
            name = other[0]
            first = f"{name} is {list(weights[name].shape)} instead of {list(own[name].shape)}"
        else:
            first = f"{missing[0]} is missing" if missing else f"{unknown[0]} is not part of the model"
        count = len(missing) + len(unknown) + len(other)
        raise CompressError(f"{where} is a checkpoint of another architecture: {first} ({count} differences in all)")
    model.load_state_dict(dict(weights), strict=False)


def changed_sizes(model: nn.Module, original: nn.Module) -> dict[str, dict[str, Size]]:
    """Sizes of layers (`SIZES`) in which `model` differs from `original`, by layer."""
    modules = dict(original.named_modules())
    changed = {}
    for name, module in model.named_modules():
        before = _sizes(modules[name]) if name in modules else {}
        differing = {key: value for key, value in _sizes(module).items() if before.get(key) != value}
        if differing:
            changed[name] = differing
    return changed


def _sizes(module: nn.Module) -> dict[str, Size]:
    """The sizes that a layer holds itself; blocks that only tell their layers' sizes have none."""
    held = {key: vars(module)[key] for key in SIZES if key in vars(module)}
    return {k: v if isinstance(v, int) else list(v) for k, v in held.items() if isinstance(v, int | tuple)}


def resize(model: nn.Module, sizes: Mapping[str, Mapping[str, Size]], weights: Mapping[str, Tensor]) -> None:
    """Give the layers of `model` the recorded `sizes`, and its parameters the shapes of `weights`."""
    for name, changed in sizes.items():
        module = model.get_submodule(name)
        for attribute, value in changed.items():
            setattr(module, attribute, value if isinstance(value, int) else tuple(value))
        if "head_dim" in changed:
            module.scale = module.head_dim**-0.5  # type: ignore[operator]
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        for table in (module._parameters, module._buffers):
            for key, value in table.items():
                stored = weights.get(prefix + key)
                if value is None or stored is None or value.shape == stored.shape:
                    continue
                empty = torch.empty(stored.shape, dtype=value.dtype)
                table[key] = nn.Parameter(empty) if table is module._parameters else empty


def save_variant(folder: Path, architecture: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Write `architecture.json` and `model.safetensors` into `folder`."""
    (folder / "architecture.json").write_text(json.dumps(architecture, indent=1))
    save_file(
        {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()},
        folder / "model.safetensors",
    )


def save_file_variant(folder: Path, architecture: Mapping[str, Any], file: bytes) -> None:
    """Write `architecture.json`, and an ONNX file in the place of weights."""
    (folder / "architecture.json").write_text(json.dumps(architecture, indent=1))
    (folder / ONNX).write_bytes(file)


def plain_network(architecture: Mapping[str, Any]) -> nn.Module:
    """The network of an `architecture.json` as its library builds it, before anything was pruned."""
    return create_model(
        architecture["library"],
        architecture["model"],
        len(architecture["classes"]),
        architecture["resolution"],
        options=architecture["options"],
    )


def load_variant(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Rebuild the network that `save_variant` wrote, in eval mode, and return it with its architecture.

    Raises:
        CompressError: the folder holds no variant, or one that this machine's libraries build otherwise.
    """
    try:
        architecture = json.loads((folder / "architecture.json").read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise CompressError(f"{folder} holds no variant: architecture.json cannot be read") from error
    try:
        return _built(architecture, folder), architecture
    except CompressError:
        raise
    except Exception as error:  # whatever a builder makes of values that no stage writes
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise CompressError(f"{folder} holds no variant: architecture.json describes no network ({reason})") from error


def _built(architecture: Mapping[str, Any], folder: Path) -> nn.Module:
    quantization = architecture.get("quantization")
    if quantization and quantization.get("file"):
        from compress.quantization.onnx_network import OnnxNetwork

        return OnnxNetwork.read(folder / ONNX)
    weights = read_weights(folder / "model.safetensors")
    model = plain_network(architecture).eval()
    if quantization:
        from compress.quantization.config import Scheme
        from compress.quantization.serialize import rebuild

        shapes = {name: torch.empty(shape) for name, shape in quantization["float_shapes"].items()}
        resize(model, architecture["sizes"], shapes)
        example = torch.zeros(2, 3, architecture["resolution"], architecture["resolution"])
        scheme = Scheme(
            reduce_range=quantization["reduce_range"],
            keep=tuple(quantization.get("keep", ())),
            aware=bool(quantization.get("aware")),
            target=quantization.get("target", "x86"),
        )
        return rebuild(model, example, weights, quantization["scales"], scheme)
    resize(model, architecture["sizes"], weights)
    load_weights(model, weights, str(folder))
    return model.eval()
