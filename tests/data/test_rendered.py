"""Evaluation pixels are those of the network's own eval transform, in the run and in its artifacts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets, models, transforms

from compress.data.folder import FolderData
from compress.data.originals import FileImages
from compress.data.prepared import SPLITS, prepare
from compress.data.preprocess import Preprocess
from compress.data.rendered import rendered
from compress.data.sample import SampleData
from compress.deployment.preprocess_file import preprocess_file, read_inputs
from compress.measurement.predict import predict_split
from compress.store.store import Store
from compress.utils.errors import CompressError
from tests.data.packing import WRITERS, packer, rows_of

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OWN = Preprocess(128, MEAN, STD, "bilinear", 146)
SMALL = Preprocess(12, MEAN, STD, "bicubic", 14)


def as_torchvision(image: Image.Image, preprocess: Preprocess) -> np.ndarray:
    mode = transforms.InterpolationMode[preprocess.interpolation.upper()]
    steps = [transforms.Resize(preprocess.resize, mode), transforms.CenterCrop(preprocess.resolution)]
    return transforms.Compose([*steps, transforms.PILToTensor()])(image.convert("RGB")).numpy()


@pytest.mark.parametrize("form", WRITERS)
def test_every_source_of_files_is_rendered_from_the_originals(
    photos: Path, store: Store, tmp_path: Path, form: str
) -> None:
    data = prepare(packer(form)(rows_of(photos), tmp_path / "packed"), store, 0)
    assert data.originals
    for split in SPLITS:
        found, left = rendered(data, store, split, SMALL)
        stored = getattr(data, split)
        assert found.labels is stored.labels and left == Preprocess(12, MEAN, STD, "bicubic")
        assert isinstance(found.images, np.memmap) and not found.images.flags.writeable
        files = list(data.originals.read(split, np.arange(len(stored))))
        assert len(found) == len(files) == len(stored)
        for image, file in zip(found.images, files, strict=True):
            opened = Image.open(BytesIO(file) if isinstance(file, bytes) else file)
            assert np.array_equal(image, as_torchvision(opened, SMALL))


def test_stored_images_stay_where_nothing_else_is_asked_for(photos: Path, store: Store, tmp_path: Path) -> None:
    data = prepare(FolderData(source="image-folder", path=str(photos), resolution=16), store, 0)
    plain = Preprocess(12, MEAN, STD)
    assert rendered(data, store, "test", plain) == (data.test, plain)
    arrays = prepare(SampleData(source="cifar10-sample"), store, 0)
    assert rendered(arrays, store, "test", SMALL) == (arrays.test, SMALL)


def test_stored_images_are_not_decoded_where_originals_are_rendered(
    photos: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = prepare(FolderData(source="image-folder", path=str(photos), resolution=16, images="files"), store, 0)
    rows = np.array([5, 0, 3])
    plain, _ = rendered(data, store, "test", Preprocess(12, MEAN, STD), rows)
    assert np.array_equal(plain.images, data.test.images[rows]) and np.array_equal(plain.labels, data.test.labels[rows])
    monkeypatch.setattr(FileImages, "_decode", lambda *_: pytest.fail("a stored image is decoded"))
    part, _ = rendered(data, store, "test", SMALL, rows)
    assert len(part) == 3 and np.array_equal(part.labels, data.test.labels[rows])


def test_pixels_are_rendered_once(photos: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    data = prepare(FolderData(source="image-folder", path=str(photos), resolution=16), store, 0)
    rows = np.array([5, 0, 3])
    whole, _ = rendered(data, store, "test", SMALL)
    part, _ = rendered(data, store, "test", SMALL, rows)
    assert np.array_equal(part.images, whole.images[rows]) and np.array_equal(part.labels, whole.labels[rows])
    monkeypatch.setattr("compress.data.rendered._render", None)
    again, _ = rendered(data, Store(store.root), "test", SMALL)
    assert np.array_equal(again.images, whole.images)
    with pytest.raises(TypeError):
        rendered(data, store, "test", Preprocess(12, MEAN, STD, "bilinear", 14))


def test_another_release_of_the_decoder_renders_again(
    photos: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = set()
    for version in ("13.0.0", "13.0.1", "13.1.0"):
        monkeypatch.setattr("compress.data.image_io.version_of", lambda package, version=version: version)
        data = prepare(FolderData(source="image-folder", path=str(photos), resolution=16), store, 0)
        folders.add(rendered(data, store, "test", SMALL)[0].images.filename)
    assert len(folders) == 2


def test_an_original_that_broke_since_is_named(photos: Path, store: Store) -> None:
    data = prepare(FolderData(source="image-folder", path=str(photos), resolution=16), store, 0)
    file = photos / "test" / "dog" / "01.png"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CompressError, match=r"dog/01.png is not a readable image \(.*\); restore it, or") as caught:
        rendered(data, store, "test", SMALL)
    assert "\n" not in str(caught.value)
    file.unlink()
    with pytest.raises(CompressError, match=r"01.png cannot be read: No such file"):
        rendered(data, store, "test", SMALL)


def write_photos(root: Path, count: int) -> None:
    """JPEGs of many sizes and aspects: waves with noise, the class decides the colour."""
    rng = np.random.default_rng(0)
    for split, images in (("train", 4), ("test", count)):
        for label, name in enumerate(("across", "both", "down", "none")):
            (root / split / name).mkdir(parents=True)
            for number in range(images):
                width, height = (int(side) for side in rng.integers(60, 420, 2))
                rows, columns = np.mgrid[:height, :width]
                waves = 70 * np.sin(rows * rng.uniform(0.02, 0.5))[..., None] * np.cos(columns[..., None] / (5, 9, 13))
                colour = 128 + 60 * np.eye(3)[label % 3] + waves + rng.normal(0, 12, waves.shape)
                image = Image.fromarray(colour.clip(0, 255).astype(np.uint8))
                image.save(root / split / name / f"{number:04}.jpg", quality=int(rng.integers(60, 96)))


def by_the_owner(photos: Path, network: models.ResNet) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and predictions of plain torch and torchvision, as most people write it; centres the network's logits."""
    steps = [transforms.Resize(146), transforms.CenterCrop(128), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    pixels = datasets.ImageFolder(str(photos / "test"), transforms.Compose([*steps[:2], transforms.PILToTensor()]))
    loader = torch.utils.data.DataLoader(
        datasets.ImageFolder(str(photos / "test"), transforms.Compose(steps)), batch_size=50
    )
    with torch.no_grad():
        network.fc.bias -= network(next(iter(loader))[0]).mean(0)  # random weights see the same class in everything
        predictions = torch.cat([network(images).argmax(1) for images, _ in loader])
    return np.stack([image.numpy() for image, _ in pixels]), predictions.numpy()


def check_the_owners_figures(photos: Path, store: Store) -> None:
    """The pixels to the bit and the predictions on every image: of the run, and of the artifact's preprocessing."""
    torch.manual_seed(0)
    network = models.resnet18(num_classes=4).eval()
    pixels, predictions = by_the_owner(photos, network)
    data = prepare(FolderData(source="image-folder", path=str(photos), resolution=96, validation=0.25), store, 0)
    split, left = rendered(data, store, "test", OWN)
    assert np.array_equal(split.images, pixels)
    assert np.array_equal(predict_split(network, left, split, 50).argmax(1), predictions)
    assert len(np.unique(predictions)) > 2
    folder = store.root.parent
    (folder / "preprocess.json").write_text(json.dumps(preprocess_file(OWN, data.resolution, data.classes)))
    inputs, classes = read_inputs(folder)
    assert classes == data.classes
    files = sorted((photos / "test").glob("*/*.jpg"))
    assert all(np.array_equal(inputs.pixels(file), image) for file, image in zip(files, pixels, strict=True))
    assert np.array_equal(inputs(files[:50]), left(torch.from_numpy(pixels[:50])).numpy())


def test_an_own_model_has_the_accuracy_of_its_owners_script(tmp_path: Path, store: Store) -> None:
    write_photos(tmp_path / "photos", 10)
    check_the_owners_figures(tmp_path / "photos", store)


@pytest.mark.slow
def test_a_thousand_photos_take_less_than_two_minutes(tmp_path: Path, store: Store) -> None:
    write_photos(tmp_path / "photos", 250)
    began = time.perf_counter()
    check_the_owners_figures(tmp_path / "photos", store)
    assert time.perf_counter() - began < 120


def test_only_the_exif_orientation_differs_from_torchvision(
    photos: Path, store: Store, paint: Callable[..., Path]
) -> None:
    upright = Image.open(paint(photos / "test" / "cat" / "99.png", 7, (30, 22)))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    upright.save(photos / "test" / "cat" / "99.png", exif=exif)
    data = prepare(FolderData(source="image-folder", path=str(photos), resolution=16), store, 0)
    found, _ = rendered(data, store, "test", SMALL)
    expected = as_torchvision(upright.transpose(Image.Transpose.ROTATE_270), SMALL)
    assert np.array_equal(found.images[3], expected)
