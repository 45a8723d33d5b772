"""torchvision's own layouts, written tiny. Its MD5 tables are patched to the tiny files, so its checks still run."""

from __future__ import annotations

import gzip
import json
import pickle
import struct
import tarfile
import tracemalloc
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image
from support import md5, write_stl10
from torchvision.datasets import CIFAR10, STL10, FashionMNIST

from compress.data.prepared import prepare
from compress.data.sources import data_key
from compress.data.torchvision_sets import DownloadedData
from compress.utils.errors import CompressError

RNG = np.random.default_rng(0)


def section(source: str, root: Path, **settings) -> DownloadedData:
    return DownloadedData(source=source, root=str(root), **{"download": False, **settings})


def pixels(count: int, *shape: int) -> np.ndarray:
    return RNG.integers(0, 256, (count, *shape), np.uint8)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


@pytest.fixture
def cifar10(tmp_path, monkeypatch):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    batches = {}
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
        batches[name] = {"data": pixels(20, 3072), "labels": (np.arange(20) % 10).tolist()}
        (folder / name).write_bytes(pickle.dumps(batches[name]))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    monkeypatch.setattr(CIFAR10, "train_list", [[n, md5(folder / n)] for n in batches if n != "test_batch"])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5(folder / "test_batch")]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5(folder / "batches.meta")})
    return tmp_path, batches


def test_cifar10(cifar10, store):
    root, batches = cifar10
    data = prepare(section("cifar10", root, labeled=30), store, 0)
    assert data.classes[:2] == ("airplane", "automobile") and data.resolution == 32
    assert [len(s) for s in (data.train, data.unlabeled, data.validation, data.test)] == [30, 60, 10, 20]
    assert np.bincount(data.train.labels).tolist() == [3] * 10
    assert np.array_equal(data.test.images, batches["test_batch"]["data"].reshape(-1, 3, 32, 32))
    assert data.test.labels.tolist() == batches["test_batch"]["labels"]


def test_damaged_files_are_said(cifar10, store):
    root, _ = cifar10
    (root / "cifar-10-batches-py" / "data_batch_3").write_bytes(b"damaged")
    with pytest.raises(CompressError, match=r"incomplete in .*batches-py .*cifar-10-python.tar.gz, put it into"):
        prepare(section("cifar10", root), store, 0)


def test_an_error_without_a_message_is_said_by_its_type(cifar10, store, monkeypatch):
    root, _ = cifar10

    def fails(*_, **__):
        raise AssertionError

    monkeypatch.setattr("torchvision.datasets.CIFAR10", fails)
    with pytest.raises(CompressError, match=r"was not downloaded \(AssertionError\); fetch"):
        prepare(section("cifar10", root, download=True), store, 0)


def test_an_archive_that_a_person_put_there_is_unpacked(cifar10, store, monkeypatch):
    root, _ = cifar10
    before = data_key(section("cifar10", root), 0)
    folder, archive = root / "cifar-10-batches-py", root / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    for file in folder.iterdir():
        file.unlink()
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(archive))
    assert data_key(section("cifar10", root), 0) == before


def test_cifar10_as_sheets(tmp_path, store):
    sheets = {}
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
        sheets[name] = pixels(20, 32, 32, 3)
        Image.fromarray(sheets[name].reshape(20, 1024, 3)).save(tmp_path / f"{name}.png")
    (tmp_path / "train_lables.json").write_text(json.dumps((np.arange(100) % 10).tolist()))
    (tmp_path / "test_lables.json").write_text(json.dumps((np.arange(20) % 10).tolist()))
    data = prepare(section("cifar10", tmp_path), store, 0)
    assert np.array_equal(data.test.images, sheets["test_batch"].transpose(0, 3, 1, 2))
    assert (len(data.train), len(data.validation), len(data.unlabeled)) == (90, 10, 0)
    (tmp_path / "test_lables.json").write_text("[1]")
    with pytest.raises(CompressError, match=r"test_lables.json has 1 labels for 20 images"):
        prepare(section("cifar10", tmp_path), store, 0)
    (tmp_path / "test_lables.json").write_text("{")
    with pytest.raises(CompressError, match=r"the labels of the CIFAR-10 sheets in .* cannot be read: Expecting"):
        prepare(section("cifar10", tmp_path), store, 0)
    (tmp_path / "test_batch.png").write_bytes(b"no image")
    with pytest.raises(CompressError, match=r"test_batch.png is not a sheet of CIFAR-10 images: cannot identify"):
        prepare(section("cifar10", tmp_path), store, 0)
    (tmp_path / "test_batch.png").unlink()
    with pytest.raises(CompressError, match=r"test_batch.png cannot be read: No such file"):
        prepare(section("cifar10", tmp_path), store, 0)


def test_stl10(tmp_path, store, monkeypatch):
    images = write_stl10(tmp_path, monkeypatch, train=20, test=10, unlabeled=7)
    data = prepare(section("stl10", tmp_path), store, 0)
    assert data.classes[2] == "car" and data.resolution == 96
    assert [len(s) for s in (data.train, data.unlabeled, data.validation, data.test)] == [10, 7, 10, 10]
    assert np.array_equal(data.unlabeled.images, images["unlabeled"])
    assert np.array_equal(data.test.images, images["test"]) and data.test.labels.tolist() == list(range(10))


@pytest.mark.slow
def test_unlabelled_images_of_stl10_are_not_read_into_memory(tmp_path, store, monkeypatch):
    write_stl10(tmp_path, monkeypatch, train=20, test=10, unlabeled=2000)
    tracemalloc.start()
    data = prepare(section("stl10", tmp_path), store, 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(data.unlabeled) == 2000 and peak < data.unlabeled.images.nbytes / 2


def write_fashion(root: Path) -> np.ndarray:
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for part, count in (("train", 40), ("t10k", 10)):
        images, labels = pixels(count, 28, 28), (np.arange(count) % 10).astype(np.uint8)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, count, 28, 28) + images.tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, count) + labels.tobytes())
    return images


def test_fashion_mnist(tmp_path, store):
    test = write_fashion(tmp_path)
    data = prepare(section("fashion-mnist", tmp_path), store, 0)
    assert data.classes == tuple(FashionMNIST.classes) and data.resolution == 28
    assert (len(data.train), len(data.validation), len(data.test)) == (30, 10, 10)
    assert np.array_equal(data.test.images, np.repeat(test[:, None], 3, 1))


def test_fashion_mnist_cut_short(tmp_path, store):
    write_fashion(tmp_path)
    file = tmp_path / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(CompressError, match=r"fashion-mnist is incomplete in .*FashionMNIST/raw"):
        prepare(section("fashion-mnist", tmp_path), store, 0)


def test_fashion_mnist_archives_are_unpacked(tmp_path, monkeypatch):
    write_fashion(tmp_path)
    folder = tmp_path / "FashionMNIST" / "raw"
    before = data_key(section("fashion-mnist", tmp_path), 0)
    resources = []
    for file in sorted(folder.iterdir()):
        archive = file.with_name(f"{file.name}.gz")
        archive.write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
        resources.append((archive.name, md5(archive)))
    monkeypatch.setattr(FashionMNIST, "resources", resources)
    assert data_key(section("fashion-mnist", tmp_path), 0) == before


@pytest.mark.parametrize(
    ("source", "file", "folder"),
    [
        ("cifar10", "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", ""),
        ("stl10", "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz", ""),
        ("fashion-mnist", "eu-central-1.amazonaws.com/t10k-labels-idx1-ubyte.gz", "/FashionMNIST/raw"),
    ],
)
@pytest.mark.parametrize(("download", "reason"), [(False, "download: false"), (True, "no network")])
def test_without_a_network_the_line_says_what_to_fetch_and_where_to_put_it(
    source, file, folder, download, reason, tmp_path, store
):
    root = tmp_path / "sets"
    with pytest.raises(CompressError) as caught:
        prepare(section(source, root, download=download), store, 0)
    text = str(caught.value)
    assert file in text and f"put it into {root}{folder}," in text and reason in text and "\n" not in text


def test_urls_are_torchvisions_own():
    from compress.data.torchvision_sets import PUBLISHED

    assert PUBLISHED["cifar10"].url + PUBLISHED["cifar10"].archives[0] == CIFAR10.url
    assert PUBLISHED["stl10"].url + PUBLISHED["stl10"].archives[0] == STL10.url
    assert set(PUBLISHED["fashion-mnist"].archives) == {name for name, _ in FashionMNIST.resources}
    assert PUBLISHED["fashion-mnist"].classes == tuple(FashionMNIST.classes)
