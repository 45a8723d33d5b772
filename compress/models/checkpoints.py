"""Variants on disk, without pickle: `architecture.json` describes the network, `model.safetensors` has its weights.

`architecture.json` names the library and the model, and every size in which the network differs from what the library
builds, so that a pruned network is rebuilt from text.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from compress import registry
from compress.models.architecture import Architecture, Network
from compress.models.class_list import ClassList
from compress.models.clip_classifier import build_clip_classifier
from compress.models.embedding import Encoder
from compress.models.factory import create_model
from compress.models.hub_loader import Size, resize
from compress.models.onnx_network import ONNX, OnnxClassifier, OnnxNetwork
from compress.models.restore import restore_weights
from compress.utils.errors import CompressError, first_line

SIZES = (
    *("in_channels", "out_channels", "groups", "num_features", "in_features", "out_features", "normalized_shape"),
    *("head_dim", "attn_dim"),  # of timm's attention
)
WEIGHTS = "model.safetensors"


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a variant's `model.safetensors` by name; `weights_file` reads what others wrote.

    Raises:
        CompressError: the file is missing or damaged.
    """
    try:
        return dict(load_file(path))
    except Exception as error:  # safetensors raises several kinds on damaged bytes
        raise CompressError(f"{path} is missing or damaged ({first_line(error, 150)}); run its recipe again") from error


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Load `weights` into `model`; names and shapes must match.

    Raises:
        CompressError: the weights are of another architecture; the message has the first difference.
    """
    own = model.state_dict()
    missing = [name for name in own if name not in weights]
    unknown = [name for name in weights if name not in own]
    other = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    if missing or unknown or other:
        if other:
            name = other[0]
            first = f"{name} is {list(weights[name].shape)} instead of {list(own[name].shape)}"
        else:
            first = f"{missing[0]} is missing" if missing else f"{unknown[0]} is not in the model"
        count = len(missing) + len(unknown) + len(other)
        raise CompressError(f"{where} is a checkpoint of another architecture: {first} ({count} differences in all)")
    restore_weights(model, weights)


def changed_sizes(model: nn.Module, original: nn.Module) -> dict[str, dict[str, Size]]:
    """Find the sizes (`SIZES`) of layers in which `model` differs from `original`, by layer."""
    modules = dict(original.named_modules())
    changed = {}
    for name, module in model.named_modules():
        before = _sizes(modules[name]) if name in modules else {}
        differing = {key: value for key, value in _sizes(module).items() if before.get(key) != value}
        if differing:
            changed[name] = differing
    return changed


def _sizes(module: nn.Module) -> dict[str, Size]:
    """Sizes that a layer stores itself; properties of blocks that report the sizes of their layers do not count."""
    own = {key: vars(module)[key] for key in SIZES if key in vars(module)}
    return {k: v if isinstance(v, int) else list(v) for k, v in own.items() if isinstance(v, int | tuple)}


def save_variant(folder: Path, network: Network, weights: Mapping[str, Tensor] | None = None) -> None:
    """Write `architecture.json` and `model.safetensors` into `folder`; `weights` replace those of the network."""
    network.architecture.write(folder)
    if network.classes:
        network.classes.write(folder)
    if isinstance(network.model, OnnxNetwork):
        (folder / ONNX).write_bytes(network.model.file)
        return
    save_weights(network.model.state_dict() if weights is None else weights, folder / WEIGHTS)


def save_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors, each on its own, also those that share memory."""
    save_file({name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}, path)


def load_variant(folder: Path) -> Network:
    """Rebuild the network that a stage stored in `folder`, in eval mode.

    Raises:
        CompressError: the folder holds no variant, or one that this machine's libraries build otherwise.
    """
    architecture = Architecture.read(folder)
    try:
        classes = ClassList.read(folder) if architecture.embedding else None
        if architecture.quantization:
            method = registry.quantizer(architecture.quantization.method)
            assert method.restore
            return Network(method.restore(folder, architecture), architecture, classes)
        return Network(_float_network(folder, architecture), architecture, classes)
    except CompressError:
        raise
    except Exception as error:  # whatever a factory makes of values that no stage writes
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise CompressError(f"{folder} holds no variant: architecture.json describes no network ({reason})") from error


def unpruned_network(architecture: Architecture) -> nn.Module:
    """Build the network of `architecture` as its library does, before anything was pruned."""
    if architecture.config is not None:
        return build_clip_classifier(architecture.config, len(architecture.classes))
    model = create_model(
        architecture.library,
        architecture.model,
        architecture.outputs,
        architecture.resolution,
        options=architecture.options,
    )
    return Encoder(model) if architecture.embedding else model


def _float_network(folder: Path, architecture: Architecture) -> nn.Module:
    if architecture.library == "onnx":
        return OnnxClassifier.read(folder / ONNX)
    weights = read_weights(folder / WEIGHTS)
    model = unpruned_network(architecture)
    resize(model, architecture.sizes, weights)
    load_weights(model, weights, str(folder))
    return model.eval()
