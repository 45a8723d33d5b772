"""Ray as the engine: stages are made on a cluster of two nodes, one of which is lost in the middle of a stage."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from naps import PLUGIN, write_naps
from support import Job, environment, typed

from compress.deployment.remote.measure import missing_on
from compress.pipeline.on_ray import check_engine
from compress.utils.errors import CompressError, UsageError
from compress.utils.hosts import parse_host
from compress.utils.ray_cluster import connected, holding_this_machine


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


def run(root: Path, address: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "compress", "run", str(root / "recipe.yaml"), "--runs", str(root / "ray")]
    return subprocess.Popen(
        [*command, "--no-dry-run", "--engine", "ray", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment(), "RAY_ADDRESS": address},
    )


@pytest.mark.slow
def test_a_job_on_a_cluster_has_the_bits_of_one_on_this_machine(
    cluster: Any, job: Job, done_job: Callable[[], Job]
) -> None:
    copied = done_job()
    (copied.root / "recipe.yaml").write_text(copied.recipe.read_text())
    output, error = run(copied.root, cluster.address).communicate(timeout=900)
    assert "error" not in error and "made on " in error, error + output
    stores = [job.runs / "store", copied.root / "ray" / "store"]
    keys = {path.parent.name for path in stores[1].glob("*/model.safetensors")}
    assert len(keys) >= 3
    for key in keys:
        assert len({(store / key / "model.safetensors").read_bytes() for store in stores}) == 1


@pytest.mark.slow
def test_a_lost_node_is_survived(cluster: Any, make_job: Callable[[], Job]) -> None:
    root = make_job().root
    write_naps(root / "recipe.yaml", root, (f"seconds: {nap}" for nap in (5.0, 5.1, 5.2, 5.3)))
    node = cluster.add_node(num_cpus=1)
    running = run(root, cluster.address, "--plugin", str(PLUGIN))
    locks, until = root / "ray" / "store" / "locks", time.monotonic() + 300
    while len(list(locks.glob("*.lease"))) < 2:  # both nodes make a nap
        assert time.monotonic() < until and running.poll() is None
        time.sleep(0.05)
    cluster.remove_node(node, allow_graceful=False)
    output, error = running.communicate(timeout=600)
    assert error.count("made on ") == 5, error + output
    store = root / "ray" / "store"
    made = {path.parent.name for path in store.glob("*/nap.txt")}
    left = {path.name.split(".")[0] for name in ("partial", "locks") for path in (store / name).iterdir()}
    assert len(made) == 4 and not made & left  # a nap is no file that can be timed: the run ends after the stages


@pytest.mark.slow
def test_a_board_is_a_resource_of_the_cluster(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    board = cluster.add_node(num_cpus=0, resources={"pi5": 1, "quiet": 1})
    try:
        assert missing_on(parse_host("ray:pi5"), ["onnxruntime", "tensorrt"]).keys() == {"tensorrt"}
        with pytest.raises(CompressError, match=r"^ray:pi5/no/python: ray cannot be started \(No such file"):
            missing_on(parse_host("ray:pi5/no/python"), ["onnxruntime"])
    finally:
        cluster.remove_node(board)
    with pytest.raises(
        CompressError, match=r"^ray:pi5: no node of the Ray cluster offers 'pi5'; join it by `ray start"
    ):
        missing_on(parse_host("ray:pi5"), ["onnxruntime"])


@pytest.mark.slow
def test_nothing_runs_on_a_machine_that_is_held(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    with connected():
        task = ray.remote(num_cpus=1)(lambda: time.time())
        with holding_this_machine():
            begun = task.remote()
            assert ray.wait([begun], timeout=3)[0] == []
            left = time.time()
        assert ray.get(begun, timeout=60) > left


def test_other_engines_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for engine, words in (("slurm", "must be local, ray or ray://HOST:PORT, not 'slurm'"), ("rays://x", "must be")):
        with pytest.raises(UsageError, match=words):
            check_engine(engine, False)
    monkeypatch.setattr("compress.utils.ray_cluster.version_of", lambda name: None)
    with pytest.raises(UsageError, match=r"Ray is not installed: pip install 'compress-model\[ray\]'"):
        check_engine("ray", False)
    monkeypatch.setattr("compress.utils.ray_cluster.version_of", lambda name: "2.60.0")
    with pytest.raises(UsageError, match=r"set `trainer\.devices: 1`"):
        check_engine("ray://host:10001", True)
    check_engine("local", True)
    done = typed("run", "quickstart", "--engine", "slurm", "--runs", tmp_path / "runs")
    assert done.returncode == 2 and "--engine must be local, ray" in done.stderr
    assert not (tmp_path / "runs").exists()
