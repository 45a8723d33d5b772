"""Ray as the engine of a run: ready stages become Ray tasks, which make them in the shared store under the run's keys.

Ray places tasks, tries those of lost nodes again, and knows the GPUs; what is made once, resumed and verified is the
store's business, as without Ray. A stage takes a whole node, or the share of one of its GPUs. Latency and energy are
measured by the run itself, on its own machine, which takes no stages meanwhile.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from compress.pipeline.failures import Failures
from compress.pipeline.job import Job
from compress.pipeline.making import Making
from compress.pipeline.work import installed_for, make_unit
from compress.plugins import VARIABLE, load_installed
from compress.recipe.load import parse_recipe
from compress.stages.planned import PlannedStage
from compress.store.leases import VARIABLE as LEASE
from compress.store.origin import local_runs, shared_runs
from compress.utils.errors import CompressError, UsageError, first_line
from compress.utils.ray_cluster import connected, living_nodes, require_ray

RETRIES = 3  # of a task whose process or node was lost
ENGINE = "ray"


def check_engine(engine: str, several_processes: bool) -> None:
    """Refuse an engine that is unknown or not installed.

    Raises:
        UsageError: the engine is neither `local`, `ray` nor `ray://HOST:PORT`, or Ray is missing.
    """
    if engine == "local":
        return
    if engine != ENGINE and not engine.startswith("ray://"):
        raise UsageError(f"--engine must be local, ray or ray://HOST:PORT, not {engine!r}")
    require_ray()
    if several_processes:
        raise UsageError("--engine ray places whole stages; set `trainer.devices: 1`")


@contextmanager
def cluster_of(engine: str) -> Iterator[None]:
    """Connect to the cluster of an engine in this block; without Ray, do nothing.

    `ray` is the cluster of `RAY_ADDRESS`, or one on this machine.
    """
    if engine == "local":
        yield
        return
    variables = {name: os.environ[name] for name in (VARIABLE, LEASE) if name in os.environ}
    with connected(engine if "://" in engine else None, variables):
        yield


def make_all_on_ray(job: Job, runs: Path) -> tuple[list[str], Failures]:
    """Make the stages that the store lacks as tasks of the connected cluster; see `making.make_all`.

    The nodes share the folder or URL of `runs`.
    """
    return _OnRay(job, None, runs=runs).all()


@dataclass
class _OnRay(Making):
    """Making whose stages are Ray tasks."""

    runs: Path = Path("runs")
    pending: dict[str, Any] = field(default_factory=dict)  # Ray's references by stage

    def say_waiting(self) -> None:
        """Say nothing: the stages are this run's own."""

    def _settle(self, planned: PlannedStage) -> bool:
        return self._collect(planned) if planned.id in self.pending else super()._settle(planned)

    def _offer(self, planned: PlannedStage) -> bool:
        """Submit a stage; it is settled when its task has ended."""
        shared = shared_runs(self.runs)
        where = shared.url if shared else str(self.runs.absolute())
        recipe = yaml.safe_dump(self.job.plan.recipe.resolved())
        task = _remote().options(max_retries=RETRIES, name=planned.id, **_resources())
        wanted = planned.key, installed_for(planned)
        self.pending[planned.id] = task.remote(recipe, where, planned.id, *wanted, str(Path.cwd()))
        self._say(planned, f"{planned.stage.progress()} (submitted to Ray)")
        self.job.log.write("start", unit=planned.id, key=planned.key)
        return False

    def _collect(self, planned: PlannedStage) -> bool:
        """Return whether the task of a stage has ended."""
        import ray

        reference = self.pending[planned.id]
        if not ray.wait([reference], timeout=0)[0]:
            return False
        del self.pending[planned.id]
        try:
            host, seconds = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, CompressError) else CompressError(first_line(error.cause))
            self._add_failure(planned, cause)
        except ray.exceptions.RayError as error:
            self._add_failure(planned, CompressError(f"lost by Ray after {RETRIES} retries ({first_line(error)})"))
        else:
            if not self.job.store.has(planned.key):
                raise CompressError(
                    f"{host} does not see the store of this machine; give a shared folder or URL to --runs"
                )
            self._say(planned, f"made on {host}")
            self._made(planned, seconds)
        return True


def _remote() -> Any:
    import ray

    return ray.remote(_task)


def _task(recipe: str, runs: str, unit: str, key: str, there: dict[str, str], folder: str) -> tuple[str, float]:
    """Make one stage; returns the name of the node and the seconds that it took."""
    if Path(folder).is_dir():  # relative paths of the recipe
        os.chdir(folder)
    load_installed()
    return socket.gethostname(), make_unit(parse_recipe(recipe), local_runs(runs), unit, key, there)


def _resources() -> dict[str, float]:
    """Return what a stage takes: a GPU where the cluster has some, and its share of a node's cores."""
    nodes = [node["Resources"] for node in living_nodes() if node["Resources"].get("CPU", 0) > 0]
    if not nodes:
        raise CompressError("no node of the Ray cluster has CPUs to offer; start one with --num-cpus")
    cpus = min(node["CPU"] for node in nodes)
    gpus = max(node.get("GPU", 0) for node in nodes)
    return {"num_cpus": max(cpus // gpus, 1), "num_gpus": 1} if gpus else {"num_cpus": cpus}
