"""Which keyword arguments a model takes and what its classifier is: it is built without memory for its weights."""

from __future__ import annotations

import inspect
import json
import re
from contextlib import suppress

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from compress.models.factory import create_model, recorded
from compress.models.heads import known_classifiers, single_linear
from compress.models.input_size import fixed_side
from compress.utils.errors import UsageError
from compress.utils.messages import did_you_mean

SIDE = 224  # pixels, of models that are not built for one size


def structure_problems(library: str, name: str, options: str) -> dict[str, str]:
    """Say what is wrong with a model, as far as it can be built in this way; empty texts where nothing is.

    Args:
        library: `timm` or `torchvision`.
        name: Any name of the model.
        options: Keyword arguments of its builder, as JSON.

    Returns:
        `options`: which one it does not take. `features`: why losses on features cannot read its classifier.
        `batch_norm`: not empty if it has batch norm.
    """
    found = {"options": "", "features": "", "batch_norm": ""}
    side = fixed_side(library, name) or SIDE
    with (
        suppress(Exception),
        torch.device("meta"),
    ):  # what fails here may only fail here, and is reported when it is built
        try:
            model = create_model(library, name, 2, side, options=json.loads(options))
            found["batch_norm"] = "yes" if any(isinstance(module, _BatchNorm) for module in model.modules()) else ""
            if heads := known_classifiers(model, side):  # a network that cannot be run here, `make_objective` refuses
                single_linear(model, heads)
        except UsageError as error:
            unexpected = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            found["options" if "`options`" in str(error) else "features"] = str(error)
            if unexpected:
                hint = did_you_mean(unexpected[1], _arguments(library, name, side), most=3, limit=None)
                found["options"] = f"`options`: {library}'s {name} takes no {unexpected[1]!r}{hint or '; remove it'}"
    return found


def print_structure_problems(library: str, name: str, options: str) -> None:
    """Print `structure_problems` as JSON."""
    print(json.dumps(structure_problems(library, name, options)))


def _arguments(library: str, name: str, side: int) -> list[str]:
    """List the arguments of a model's builder; if it passes others on, those of the network's classes."""
    if library == "timm":
        from timm.models import model_entrypoint

        parameters = inspect.signature(model_entrypoint(recorded(library, name, {}, pretrained=False)[0])).parameters
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return sorted({*parameters} - {"num_classes"})
    kinds = type(create_model(library, name, 2, side)).__mro__
    own = [kind for kind in kinds if issubclass(kind, nn.Module) and kind is not nn.Module]
    names = [name for kind in own for name in inspect.signature(kind.__init__).parameters]
    return sorted({*names} - {"self", "args", "kwargs"})
