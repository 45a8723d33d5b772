"""Scripts of runs on several devices: a follower gets None, and what comes of it is one line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Job, environment
from torch import distributed

from compress.pipeline.distributed import lost_follower

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
