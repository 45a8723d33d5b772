"""The Ray cluster that stages are made on, and on whose nodes is timed. Ray is imported on use: it is an extra."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from compress.utils.console import say
from compress.utils.errors import CompressError, UsageError, first_line
from compress.utils.system import version_of

QUIET = "quiet"
"""Resource of the nodes on which is timed; each offers one, so that one thing is timed at a time."""
SOON_S = 2.0  # that a machine may take to be free before it is said


def require_ray() -> None:
    """Check that Ray is installed. Raises a `UsageError` with the command that installs it."""
    if version_of("ray") is None:
        raise UsageError("Ray is not installed: pip install 'compress-model[ray]'")


@contextmanager
def connected(address: str | None = None, variables: Mapping[str, str] | None = None) -> Iterator[None]:
    """Connect to a cluster in this block, unless the process is connected.

    Args:
        address: `ray://HOST:PORT`; None is the cluster of `RAY_ADDRESS`, or else a new one on this machine.
        variables: Environment variables of the processes that run tasks.

    Raises:
        CompressError: there is no cluster at the address.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        ray.init(address, log_to_driver=False, logging_level="error", runtime_env={"env_vars": dict(variables or {})})
    except Exception as error:
        raise CompressError(f"{address or 'ray'}: cannot connect to Ray ({first_line(error)})") from error
    try:
        yield
    finally:
        ray.shutdown()


def living_nodes() -> list[dict[str, Any]]:
    """Return the nodes of the cluster as Ray describes them."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


@contextmanager
def holding_this_machine() -> Iterator[None]:
    """Hold all cores of this machine in this block, and its `quiet`, so that the cluster runs nothing else on it.

    A machine that is no node of the cluster has nothing to hold.
    """
    import ray
    from ray.util import placement_group, remove_placement_group

    mine = [node for node in living_nodes() if node["NodeManagerHostname"] == socket.gethostname()]
    own = ray.get_runtime_context().get_node_id()
    node = next((node for node in mine if node["NodeID"] == own), mine[0] if mine else None)
    held = {name: node["Resources"].get(name, 0.0) for name in ("CPU", QUIET)} if node else {}
    if node is None or not any(held.values()):
        yield
        return
    bundle = {name: 1.0 if name == QUIET else amount for name, amount in held.items() if amount}
    group = placement_group([bundle], bundle_label_selector=[{"ray.io/node-id": node["NodeID"]}])
    try:
        if not group.wait(SOON_S):
            say("waiting until the Ray cluster runs nothing else on this machine")
            ray.get(group.ready())
        yield
    finally:
        remove_placement_group(group)
