from __future__ import annotations

from pathlib import Path

import pytest
from own_photographs import SIX, make_photographs


@pytest.fixture(scope="session")
def six(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes of uneven size; tests leave it as it is."""
    root = tmp_path_factory.mktemp("six") / "my photos"
    few = {name: (cifar, max(6, count // 6)) for name, (cifar, count) in SIX.items()}
    make_photographs(root, few, largest=90, huge=(700, 400))
    return root
