"""CPU quotas of control groups, on trees of files as kernels and container engines present them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from compress.utils.cpu_quota import cpu_quota

V1 = "30 25 0:26 {root} /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
V2 = "29 23 0:26 {root} /sys/fs/cgroup rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
OTHERS = (
    "23 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n31 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)


def system(root: Path, groups: str, mounts: str, files: dict[str, str]) -> Path:
    """Make `/proc` of a process, and the files of its control groups below `/sys/fs/cgroup`."""
    own = root / "proc" / "self"
    own.mkdir(parents=True)
    (own / "cgroup").write_text(groups)
    (own / "mountinfo").write_text(OTHERS + mounts)
    for name, text in files.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    return root


def v1(folder: str, quota: int, period: int = 100_000) -> dict[str, str]:
    return {f"{folder}/cpu.cfs_quota_us": str(quota), f"{folder}/cpu.cfs_period_us": str(period)}


CASES = {
    "version 2, in a container": ("0::/\n", V2.format(root="/"), {"cpu.max": "150000 100000"}, 1.5),
    "version 2, of a service": ("0::/a.slice/b\n", V2.format(root="/"), {"a.slice/b/cpu.max": "200000 100000"}, 2.0),
    "version 2, of a parent": (
        "0::/a/b\n",
        V2.format(root="/"),
        {"a/cpu.max": "50000 100000", "a/b/cpu.max": "max 100000"},
        0.5,
    ),
    "version 2, the smallest": (
        "0::/a/b\n",
        V2.format(root="/"),
        {"a/cpu.max": "300000 100000", "a/b/cpu.max": "200000 50000"},
        3.0,
    ),
    "version 2, no limit": ("0::/a\n", V2.format(root="/"), {"a/cpu.max": "max 100000"}, None),
    "version 2, the path of the host": ("0::/docker/77\n", V2.format(root="/docker/77"), {"cpu.max": "4000 2000"}, 2.0),
    "version 2, outside of the namespace": ("0::/../77\n", V2.format(root="/"), {"cpu.max": "4000 2000"}, 2.0),
    "version 1": (
        "5:memory:/m\n4:cpu,cpuacct:/job\n",
        V1.format(root="/"),
        {**v1("cpu,cpuacct/job", 250_000), **v1("cpu,cpuacct", -1)},
        2.5,
    ),
    "version 1, no limit": ("4:cpu,cpuacct:/job\n", V1.format(root="/"), v1("cpu,cpuacct/job", -1), None),
    "version 1, the path of the host": (
        "4:cpu,cpuacct:/docker/77\n",
        V1.format(root="/docker/77"),
        v1("cpu,cpuacct", 50_000, 25_000),
        2.0,
    ),
    "version 1, a path that the container lacks": (
        "4:cpu,cpuacct:/kubepods/pod1/77\n",
        V1.format(root="/"),
        v1("cpu,cpuacct", 100_000),
        1.0,
    ),
    "both, limited by version 1": (
        "4:cpu,cpuacct:/j\n0::/u\n",
        V1.format(root="/") + V2.format(root="/").replace("/cgroup rw", "/cgroup/unified rw"),
        {**v1("cpu,cpuacct/j", 100_000), "unified/u/cgroup.procs": "1"},
        1.0,
    ),
    "a damaged file": ("0::/\n", V2.format(root="/"), {"cpu.max": "much"}, None),
    "a period of zero": ("0::/\n", V2.format(root="/"), {"cpu.max": "100 0"}, None),
    "a damaged table": ("0::/\n", "29 23\n", {"cpu.max": "100000 100000"}, None),
    "no control groups": ("", "", {}, None),
}


@pytest.mark.parametrize(("groups", "mounts", "files", "quota"), CASES.values(), ids=CASES)
def test_quota(tmp_path: Path, groups: str, mounts: str, files: dict[str, str], quota: float | None) -> None:
    assert cpu_quota(system(tmp_path, groups, mounts, files)) == quota


def test_no_quota_is_known_without_proc(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None


def test_this_machine_is_read() -> None:
    limit = cpu_quota()
    assert limit is None or limit > 0


@pytest.fixture
def real_group() -> Iterator[Path]:
    """A control group of this machine that may use 1.5 cores; skipped where none can be made."""
    for point, limits in (
        (Path("/sys/fs/cgroup/cpu"), {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "150000"}),
        (Path("/sys/fs/cgroup"), {"cpu.max": "150000 100000"}),
    ):
        group = point / f"compress-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if all((group / name).exists() for name in limits):
                for name, text in limits.items():
                    (group / name).write_text(text)
                yield group
                return
        finally:
            group.rmdir()
    pytest.skip("no control group with a quota can be made here")


def test_a_real_control_group_limits_the_threads(real_group: Path) -> None:
    code = (
        "import os, pathlib, sys\n"
        "pathlib.Path(sys.argv[1], 'cgroup.procs').write_text(str(os.getpid()))\n"
        "from compress.utils.cpu_quota import cpu_quota\n"
        "from compress.utils.system import limit_threads, thread_count\n"
        "limit_threads()\n"
        "import torch\n"
        "print(cpu_quota(), thread_count(None), torch.get_num_threads())\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    call = [sys.executable, "-c", code, str(real_group)]
    done = subprocess.run(call, capture_output=True, text=True, check=True, env=environment)
    quota, *threads = done.stdout.split()
    assert float(quota) == 1.5
    assert [int(count) for count in threads] == [1, 1], (
        "threads beyond the quota would be stopped for a part of each period"
    )
