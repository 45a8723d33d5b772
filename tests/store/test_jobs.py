"""Temporary files of jobs."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from multiprocessing.util import get_temp_dir
from pathlib import Path

import pytest

from compress.store.jobs import Job

ENDS = """
import sys
from multiprocessing.util import get_temp_dir
from pathlib import Path
from compress.store.jobs import Job
with Job(Path(sys.argv[1])).temporary():
    print(get_temp_dir())
"""


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_sockets_of_workers_have_short_names_below_a_long_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.delitem(multiprocessing.current_process()._config, "tempdir", raising=False)  # type: ignore[attr-defined]
    root = tmp_path / ("long" * 25)
    root.mkdir()
    with Job(root).temporary(), multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(get_temp_dir) == get_temp_dir()
        assert not get_temp_dir().startswith(str(root)) and len(get_temp_dir()) < 75


def test_the_folder_of_sockets_is_removed_at_exit(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", ENDS, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() and not Path(done.stdout.strip()).exists()
