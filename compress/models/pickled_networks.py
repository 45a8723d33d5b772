"""Find the networks in what `safe_pickle` read: state dicts, nested in training checkpoints, and whole modules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compress.models.safe_pickle import Inert, is_tensor, plain
from compress.utils.errors import CompressError
from compress.utils.messages import truncate_list

NETWORKS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "params", "weights", "module"),
    *("net_state_dict", "network_state_dict", "model_weights", "classifier", "student"),
)
"""Names under which training scripts keep the network, the most usual first."""
AVERAGED = re.compile(r"(^|[^a-z])(swa|averaged|shadow)([^a-z]|$)|(^|[^a-z])ema|ema([^a-z]|$)", re.IGNORECASE)
_TRAINING = re.compile(r"optim|sched|scaler|criterion|loss|loops|args|hyper|metric|history|rng|grad", re.IGNORECASE)
MAX_MODULES = 100_000  # of one network; a hostile file can refer to the same module many times
MAX_DEPTH = 4  # of nests
MAX_NESTED = 100  # levels of modules in modules; a hostile module can contain itself


def find_networks(
    value: Any, path: str = "", depth: int = MAX_DEPTH, seen: set[int] | None = None
) -> dict[str, dict[str, Any]]:
    """Find the state dicts and modules in a value: the records of their tensors by name, by the path to them."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return {}
    seen.add(id(value))
    records = _records(value)
    own = _matrices(records)
    if own and _is_module(value):
        return {path: records}
    content = plain(value)
    found: dict[str, dict[str, Any]] = {}
    if depth and isinstance(content, Mapping):
        for key, inner in content.items():
            if isinstance(key, str) and not _TRAINING.search(key):
                found |= find_networks(inner, f"{path}.{key}".removeprefix("."), depth - 1, seen)
    # Those beside a larger network, such as a confusion matrix, are none.
    return {path: records} if own and own >= max(map(_matrices, found.values()), default=0) else found


def _matrices(records: Mapping[str, Any]) -> int:
    """Count the tensors of two and more dimensions."""
    return sum(len(_shape(record)) > 1 for record in records.values())


def choose_network(path: Path, networks: Mapping[str, object], ema: bool | None) -> tuple[str, list[str]]:
    """Return the name of the network to take, and the names of the others."""
    averaged = [name for name in networks if AVERAGED.search(name)]
    usual = [name for name in networks if name not in averaged]
    if "current_model_state" in usual and "state_dict" in usual:  # Lightning's WeightAveraging swaps them
        averaged, usual = ["state_dict"], ["current_model_state"]
    if ema is False and averaged and not usual:
        raise CompressError(f"{path} holds only EMA weights ({truncate_list(averaged)}); remove `ema: false`")
    group = averaged if averaged and ema is not False else usual
    known = sorted(group, key=lambda name: _rank(name))
    if len(known) > 1 and _rank(known[0]) == _rank(known[1]):
        raise CompressError(
            f"{path} holds several networks ({truncate_list(known)}); save the one to use: "
            f"torch.save(checkpoint[{known[0].split('.')[0]!r}], 'weights.pth')"
        )
    return known[0], [name for name in networks if name != known[0]]


def _rank(name: str) -> int:
    first = name.split(".")[0]
    return NETWORKS.index(first) if first in NETWORKS else len(NETWORKS)


def _records(value: Any) -> dict[str, Any]:
    """Return the records of tensors by name: of a state dict, a module or a TorchScript module."""
    if _is_module(value):
        return _module(value.state)
    content = plain(value)
    if not isinstance(content, Mapping):
        return {}
    return {name: record for name, record in content.items() if isinstance(name, str) and is_tensor(record)}


def _is_module(value: Any) -> bool:
    state = value.state if isinstance(value, Inert) else None
    return isinstance(state, Mapping) and ("_parameters" in state or value.path.startswith("__torch__."))


def _module(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the records of the tensors of a module with this state, as its `state_dict` names them."""
    records: dict[str, Any] = {}
    modules = [("", state)]
    for _ in range(MAX_MODULES):
        if not modules:
            return records
        prefix, state = modules.pop()
        if prefix.count(".") > MAX_NESTED:
            raise ValueError(f"modules nested more than {MAX_NESTED} levels deep")
        tables = [state]  # TorchScript keeps tensors and modules as attributes
        if "_parameters" in state:
            tables = [plain(state.get(name)) or {} for name in ("_parameters", "_buffers", "_modules")]
        inner = []
        hidden = _members(state.get("_non_persistent_buffers_set"))
        for name, value in (item for table in tables for item in table.items()):
            if is_tensor(value) and name not in hidden:
                records[f"{prefix}{name}"] = value
            elif isinstance(value, Inert) and isinstance(value.state, Mapping):
                inner.append((f"{prefix}{name}.", value.state))
        modules += reversed(inner)
    raise ValueError(f"more than {MAX_MODULES} modules")


def _members(value: Any) -> Any:
    """Return the members of a set in a pickle, which old protocols write as a call of `set` with a list."""
    return (value.arguments[0] if isinstance(value, Inert) and value.arguments else value) or ()


def _shape(record: Any) -> tuple[int, ...]:
    while isinstance(record.arguments[0], Inert):
        record = record.arguments[0]
    arguments = record.arguments[2] if isinstance(record.arguments[0], type) else record.arguments
    return tuple(arguments[2])
