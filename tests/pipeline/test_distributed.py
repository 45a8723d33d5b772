"""Scripts of runs on several devices: a follower gets None, and what comes of it is one line."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Job, environment
from torch import distributed

from compress.pipeline.distributed import lost_follower
from compress.pipeline.runner import run
from compress.recipe.load import load_recipe
from compress.utils.errors import SeveralErrors

FAILS = """\
import sys
from compress.pipeline.distributed import explain_errors_after_follower
explain_errors_after_follower()
results = None
print(results.variants)
"""
TWICE = """\
import compress
if __name__ == "__main__":
    for epochs in (1, 2):
        results = compress.run({recipe!r}, {runs!r}, overrides=[*{changes!r}, f"stages.distilled.epochs={{epochs}}"])
        print("variants:", {test}sorted(results.variants))
"""


NODES = ("trainer.num_nodes=2", "trainer.strategy=ddp", "trainer.accelerator=cpu")


class Nodes:
    """Two nodes on loopback, each started by torchrun as on a cluster."""

    def __init__(self, job: Job, runs: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        launch = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--max-restarts=0"]
        launch += ["--master-addr=127.0.0.1", f"--master-port={port}"]
        changes = [part for change in NODES for part in ("--set", change)]
        command = ["-m", "compress", "run", str(job.recipe), "--runs", str(runs), "--no-dry-run", *changes]
        self.processes = [
            subprocess.Popen(
                [*launch, f"--node-rank={rank}", *command],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                env={**environment(), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "COMPRESS_LEASE_S": "5"},
            )
            for rank in (0, 1)
        ]

    def wait(self) -> list[tuple[int, str]]:
        """Return exit status and stderr of both."""
        errors = [process.communicate(timeout=600)[1] for process in self.processes]
        return [(process.returncode, error) for process, error in zip(self.processes, errors, strict=True)]


@pytest.mark.slow
def test_two_nodes_train_together_and_a_killed_one_resumes(make_job: Callable[[], Job], tmp_path: Path) -> None:
    job, runs = make_job(), tmp_path / "runs"
    job.write(epochs=12, deployed=False)
    nodes = Nodes(job, runs)
    until = time.monotonic() + 300
    while not list((runs / "store" / "partial").glob("*/scratch/*.ckpt")):  # an epoch of the first fit is done
        assert time.monotonic() < until and nodes.processes[0].poll() is None
        time.sleep(0.05)
    for child in Path(f"/proc/{nodes.processes[1].pid}/task/{nodes.processes[1].pid}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)  # the second node's process, which torchrun has started
    (status, error), _ = nodes.wait()
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert status != 0 and len(lines) == 1 and "another process of its training has ended" in lines[0], error
    ended = Nodes(job, runs).wait()
    assert [status for status, _ in ended] == [0, 0], ended
    assert "resum" in ended[0][1]
    made = list((runs / "store").glob("*/model.safetensors"))
    assert len(made) == 4 and not list((runs / "store" / "partial").iterdir())
    again = Nodes(job, runs).wait()
    assert [status for status, _ in again] == [0, 0] and "distilled: taken from the store" in again[0][1]


def test_a_follower_whose_script_fails_ends_with_one_line_and_stops_nobody() -> None:
    done = subprocess.run([sys.executable, "-c", FAILS], capture_output=True, text=True, env=environment())
    assert done.returncode == 0 and not done.stdout
    assert done.stderr == (
        "error: a follower process ended with AttributeError: 'NoneType' object has no attribute 'variants'; "
        "`compress.run` returns None in further processes of a run on several devices: test for it\n"
    )


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError("[/x/gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:38805"), True),
        (RuntimeError("[/x/gloo/transport/tcp/pair.cc:559] Read error [127.0.0.1]: Connection reset by peer"), True),
        (distributed.DistNetworkError("the client socket has failed"), True),
        (distributed.DistBackendError("NCCL error: remote process exited or there was a network error"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("gloo: peer"), False),
    ],
)
def test_the_loss_of_a_process_is_told_from_other_errors(error: Exception, lost: bool) -> None:
    assert lost_follower(error) == lost


@pytest.mark.parametrize("gpus", [0, 8])
def test_a_batch_that_is_too_small_for_all_devices_is_told_before_anything_is_made(
    make_job: Callable[[], Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int
) -> None:
    def prepares(*_: object) -> None:
        raise KeyError("prepared")

    monkeypatch.setattr("compress.measurement.device._count", lambda kind: gpus if kind == "cuda" else 0)
    monkeypatch.setattr("compress.measurement.device.describe", str)
    monkeypatch.setattr("compress.pipeline.job.prepare_data", prepares)
    changes = ("trainer.devices=auto", "stages.scratch.batch=12", "stages.pruned.repair.batch=15")
    recipe = load_recipe(make_job().recipe, changes)
    with pytest.raises(SeveralErrors if gpus else KeyError) as error:
        run(recipe, tmp_path)
    where = "test_resnet has batch norm, which needs two or more images on each of 8 devices; set `batch` to 16 or more"
    lines = [f"stages.scratch.batch: {where}", f"stages.pruned.repair: {where}"]
    assert str(error.value).splitlines() == (lines if gpus else ["'prepared'"])


@pytest.mark.slow
@pytest.mark.parametrize("test", ["", "results and "])
def test_a_script_with_two_runs_on_two_devices(make_job: Callable[[], Job], tmp_path: Path, test: str) -> None:
    job = make_job()
    job.write(deployed=False)
    changes = ["trainer.devices=2", "trainer.strategy=ddp", "trainer.accelerator=cpu"]
    script = tmp_path / "script.py"
    script.write_text(TWICE.format(recipe=str(job.recipe), runs=str(job.runs), changes=changes, test=test))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=job.root, env=environment())
    if test:
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("distilled") == 2
    else:
        assert done.returncode == 1 and "error: a follower process ended with AttributeError" in done.stderr
        assert "another process of its training has ended; `compress.run` returns None in further" in done.stderr
