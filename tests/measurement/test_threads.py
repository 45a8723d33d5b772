from __future__ import annotations

import pytest
import torch

from compress.measurement.threads import torch_threads
from compress.utils import system
from compress.utils.system import cores, thread_count


def test_the_number_of_threads_is_restored_whatever_happens() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="not today"), torch_threads(before + 2):
        assert torch.get_num_threads() == before + 2
        torch.set_num_threads(before + 1)
        raise ValueError("not today")
    assert torch.get_num_threads() == before


def test_the_default_is_the_cores_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert thread_count(None) == cores() >= 1 and thread_count(3) == 3
    monkeypatch.setattr(system.os, "sched_getaffinity", lambda process: {4, 7}, raising=False)
    assert thread_count(None) == cores() == 2
    monkeypatch.delattr(system.os, "sched_getaffinity")
    monkeypatch.setattr(system.os, "cpu_count", lambda: None)
    assert cores() == 1
