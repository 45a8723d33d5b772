"""Which keyword arguments a model takes, found out by building it without memory for its weights."""

from __future__ import annotations

import inspect
import json
import re

import torch
from torch import nn

from compress.models.factory import create_model
from compress.models.input_size import fixed_side
from compress.utils.errors import UsageError
from compress.utils.messages import did_you_mean

SIDE = 224  # pixels, of models that are not built for one size


def option_problem(library: str, name: str, options: str) -> str:
    """Say which option of JSON text the model does not take; empty if it takes them, or cannot be built in this way."""
    side = fixed_side(library, name) or SIDE
    try:
        with torch.device("meta"):
            create_model(library, name, 2, side, options=json.loads(options))
    except UsageError as error:
        unexpected = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if not unexpected:
            return str(error)
        with torch.device("meta"):
            known = _arguments(create_model(library, name, 2, side))
        hint = did_you_mean(unexpected[1], known, most=3, limit=None) or "; remove it"
        return f"`options`: {library}'s {name} takes no {unexpected[1]!r}{hint}"
    except Exception:  # whatever else fails, and it may only fail here, is reported when the network is built
        return ""
    return ""


def print_option_problem(library: str, name: str, options: str) -> None:
    """Print `option_problem` as JSON."""
    print(json.dumps(option_problem(library, name, options)))


def _arguments(model: nn.Module) -> list[str]:
    """List the arguments of the constructors of a network's classes."""
    own = [kind for kind in type(model).__mro__ if issubclass(kind, nn.Module) and kind is not nn.Module]
    names = [name for kind in own for name in inspect.signature(kind.__init__).parameters]
    return sorted({*names} - {"self", "args", "kwargs"})
