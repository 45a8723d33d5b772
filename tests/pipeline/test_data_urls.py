"""From shards at a URL to a trained student: the bits of a run on the same shards on the local disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from data.packing import rows_of, write_tars
from object_stores import PLANTED, SERVICES, ObjectStore, leaks
from support import Job, typed

from compress.data import lazy_shards, remote_shards
from compress.data.remote_shards import list_remote
from compress.pipeline.plan import make_plan
from compress.recipe.load import load_recipe
from compress.store.shared import SharedFolder
from compress.store.store import Store

RECIPE = """\
name: tiny
data: {{source: webdataset, path: "{path}", label: json.name, resolution: 32, images: {images}}}
stages:
  - id: teacher
    kind: teacher
    teacher: {{source: timm, model: test_resnet, checkpoint: {root}/teacher.safetensors}}
  - {{id: distilled, kind: distill, from: teacher, student: test_resnet, epochs: 1, batch: 16, views: 1}}
worth: {{references: [teacher]}}
"""


@pytest.fixture(scope="module")
def local(make_job: Callable[[], Job]) -> tuple[Job, bytes]:
    """A job whose images are in tars, and the weights of the student that a worker has made of them."""
    job = make_job()
    write_tars(rows_of(job.root / "images"), job.root / "tars")
    return job, worked(job, "runs", str(job.root / "tars"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(remote_shards, "cache_folder", lambda: tmp_path / "cache")
    for name in ("AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_KEY", "GOOGLE_API_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, PLANTED)
    list_remote.cache_clear()
    yield
    list_remote.cache_clear()


def worked(job: Job, runs: str, path: str, images: str = "pixels") -> bytes:
    """Make the stages of the job on shards at `path`, and return the student's weights."""
    file = job.root / f"{runs}.yaml"
    images += "" if "workers" in images else ", workers: 0"
    file.write_text(RECIPE.format(root=job.root, path=path, images=images).replace("name: tiny", f"name: {runs}"))
    done = typed("work", file, "--runs", job.root / runs, "--no-dry-run")
    assert done.returncode == 0, done.stderr
    assert PLANTED not in done.stderr + done.stdout
    store = Store(job.root / runs / "store")
    return (store.path(make_plan(load_recipe(file), store).stage("distilled").key) / "model.safetensors").read_bytes()


def upload(job: Job, url: str) -> None:
    for file in (job.root / "tars").iterdir():
        SharedFolder(url).upload(file, file.name)


@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_a_student_of_shards_at_a_url_has_the_bits_of_one_of_local_shards(
    scheme: str, local: tuple[Job, bytes], tmp_path: Path
) -> None:
    job, expected = local
    url = f"file://{job.root}/tars"
    if scheme == "memory":
        url = f"memory://{tmp_path.name}/tars"
        upload(job, url)
    assert worked(job, scheme, url) == expected
    assert len(list((tmp_path / "cache").rglob("*.tar"))) == (8 if scheme == "memory" else 0)
    assert leaks(job.root) == leaks(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SERVICES)
@pytest.mark.parametrize("images", ["pixels", "files", "files, order: shards"])
def test_a_student_of_shards_on_a_service_has_the_bits_of_one_of_local_shards(
    images: str,
    scheme: str,
    local: tuple[Job, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    emulator: Callable[[str], ObjectStore],
) -> None:
    job, _ = local
    service = emulator(scheme)
    service.use(monkeypatch)
    url = f"{service.new_bucket()}/tars"
    upload(job, url)
    done = typed("manifest", url, "-o", f"{url}/manifest.jsonl")
    assert done.returncode == 0 and "8 shards, 234 images" in done.stdout, done
    assert all(shard.version for shard in list_remote(url, (".tar",)).shards)
    kind = images.rpartition(" ")[2]
    expected = worked(job, f"{scheme}-local-{kind}", str(job.root / "tars"), images)
    if kind == "shards":  # of which the disk holds a part, read by two processes
        monkeypatch.setattr(lazy_shards, "MIN_SHARDS", 4)
        size = 4 * max(shard.bytes for shard in list_remote(url, (".tar",)).shards) + 1
        images += f", cache_gb: {size / 1e9}, workers: 2"
    for name, path in (("folder", url), ("listed", f"{url}/manifest.jsonl")):
        assert worked(job, f"{scheme}-{name}-{kind}", path, images) == expected
    absent = typed("manifest", url.replace("bucket-", "absent-"), "-o", "m.jsonl", cwd=tmp_path)
    assert absent.returncode == 2 and "found; check the bucket and the folder" in absent.stderr
    assert leaks(job.root) == leaks(tmp_path) == []
