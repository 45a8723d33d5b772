"""The tiny job as fixtures."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

# Before torch is imported: tests run in as many processes as there are cores.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
from filelock import FileLock
from hypothesis import settings
from object_stores import SERVICES, ObjectStore, in_memory, object_store
from onnx_exports import remember_signatures
from support import Job, photographs, without_plugins

# The processes take whole files in this order; a long one that is begun last would leave the other processes idle. The
# first makes the tiny job, which the second does not need meanwhile.
LONGEST = (
    "pipeline/test_run.py",
    "quantization/test_quantizer_contract.py",
    "pipeline/test_dry_run.py",
    "stages/test_contract.py",
    "stages/test_model_stage.py",
    "training/test_fit.py",
    "quantization/test_onnx_methods.py",
    "deployment/test_contract.py",
    "test_docs.py",
    "stages/test_onnx_model.py",
    "training/test_loss_contract.py",
    "models/test_families.py",
)

settings.register_profile("untimed", deadline=None)  # other work on the machine must not fail a test
settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST)}
    here = Path(__file__).parent
    items.sort(key=lambda item: places.get(os.path.relpath(item.path, here), len(places)))


@pytest.fixture(autouse=True)
def _bits_stay() -> Iterator[None]:
    """Restore after each test whatever decides the bits of a network's outputs."""
    before = _numerics() if "torch" in sys.modules else None
    yield
    assert before is None or _numerics() == before


@pytest.fixture(autouse=True)
def _quick_exports() -> None:
    if "onnxscript" in sys.modules:
        remember_signatures()


@pytest.fixture(autouse=True)
def _no_dry_runs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run takes as long as a tiny job; tests that are marked `dry_run` have it."""
    if "dry_run" not in request.keywords:
        for module in ("job", "cost_model"):
            monkeypatch.setattr(f"compress.pipeline.{module}.dry_run", lambda plan, store, data, **_: None)


def _numerics() -> dict[str, object]:
    import torch

    return {
        "threads": torch.get_num_threads(),
        "float32": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "denormals": float(torch.tensor(1e-40) * 0.5) > 0,
    }


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], ObjectStore]]:
    """Gives the emulator of an object store, which is started once; the test is skipped where it is not installed."""
    with ExitStack() as running:
        yield cache(lambda scheme: running.enter_context(object_store(scheme, tmp_path_factory.mktemp(scheme))))


@pytest.fixture(params=["memory", *SERVICES])
def bucket_url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty bucket, on each kind of object store."""
    if request.param == "memory":
        return in_memory(monkeypatch)
    store: ObjectStore = request.getfixturevalue("emulator")(request.param)
    store.use(monkeypatch)
    return store.new_bucket()


@pytest.fixture(scope="session")
def make_job(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Job]:
    """Gives a new job in a folder of its own each time."""

    def make() -> Job:
        import torch
        from safetensors.torch import save_file

        from compress.models.factory import create_model

        root = tmp_path_factory.mktemp("job")
        for part, count in (("train", 16), ("val", 6), ("test", 40)):
            photographs(root / "images" / part, count, seed=len(part))
        photographs(root / "images" / "unlabeled", 16, seed=99)
        torch.manual_seed(0)
        save_file(create_model("timm", "test_resnet", 3, 32).state_dict(), root / "teacher.safetensors")
        job = Job(root)
        job.write()
        return job

    return make


@pytest.fixture(scope="session")
def job(make_job: Callable[[], Job], tmp_path_factory: pytest.TempPathFactory) -> Job:
    """One job that has been run, the same for all test processes; tests that read it leave it as it is."""
    base = tmp_path_factory.getbasetemp()
    shared = base if "PYTEST_XDIST_WORKER" not in os.environ else base.parent
    with FileLock(shared / "job.lock"):
        if (shared / "job").exists():
            return Job(Path((shared / "job").read_text()))
        made = make_job()
        done = made.run()
        assert done.returncode == 0, done.stderr
        (shared / "job").write_text(str(made.root))
    return made


@pytest.fixture
def done_job(job: Job, tmp_path: Path) -> Callable[[], Job]:
    """Gives a copy, in another place, of the job that has been run; the test may change it."""

    def copy() -> Job:
        shutil.copytree(job.root, tmp_path / "copy")
        copied = Job(tmp_path / "copy")
        copied.write()
        return copied

    return copy


@pytest.fixture
def no_plugins() -> Iterator[None]:
    """Nothing of a plugin outlives its test."""
    with without_plugins():
        yield
