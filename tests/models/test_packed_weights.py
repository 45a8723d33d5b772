"""INT8 weights that come with the package: those that students start from, and a teacher's."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from compress.data.prepared import prepare
from compress.models.packed_weights import SCALE, pack, unpack
from compress.models.teachers import load_teacher
from compress.models.weights_file import read_checkpoint
from compress.recipe.load import parse_recipe
from compress.store.store import Store
from compress.utils.resources import ASSETS

RECIPE = "{{name: a, data: cifar10-sample, stages: [{{id: a, kind: train, student: {}-imagenet}}]}}"


def test_packed_weights_differ_by_at_most_a_rounding_step_where_nothing_is_clipped() -> None:
    weight = torch.randn(8, 16, 3, 3, generator=torch.Generator().manual_seed(0))
    packed = pack({"conv.weight": weight})
    restored = unpack(packed)["conv.weight"]
    step = packed["conv.weight" + SCALE].view(-1, 1, 1, 1)
    inside = weight.abs() <= 127 * step
    assert ((restored - weight).abs() <= step / 2 + 1e-7)[inside].all()
    assert (restored - weight).norm() < 0.01 * weight.norm()


def test_vectors_and_integers_are_kept_exactly() -> None:
    tensors = {"bias": torch.randn(3), "steps": torch.tensor(7), "index": torch.ones(2, 2, dtype=torch.int64)}
    restored = unpack(pack(tensors))
    assert restored.keys() == tensors.keys()
    assert all(torch.equal(restored[name], value) for name, value in tensors.items())


@pytest.mark.parametrize("weight", [torch.zeros(2, 3), torch.full((2, 3), 1e-40), torch.tensor([[3e38, -3e38]])])
def test_channels_of_zeros_and_of_extreme_values_stay_finite(weight: torch.Tensor) -> None:
    restored = unpack(pack({"w": weight}))["w"]
    assert torch.isfinite(restored).all()
    assert torch.allclose(restored, weight, rtol=0.01, atol=1e-37)


@pytest.mark.parametrize(
    ("weight", "scale"),
    [(torch.ones(4, 4), torch.ones(4)), (torch.ones(4, 4, dtype=torch.int8), torch.ones(1, 4))],
    ids=["float", "a scale per input"],
)
def test_tensors_that_were_not_packed_are_left_as_they_are(weight: torch.Tensor, scale: torch.Tensor) -> None:
    restored = unpack({"w": weight, "w" + SCALE: scale})
    assert restored["w"] is weight and restored["w" + SCALE] is scale


def test_a_packed_file_is_read_as_float_weights(tmp_path: Path) -> None:
    weight = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    save_file(pack({"fc.weight": weight, "fc.bias": torch.ones(4)}), tmp_path / "w.safetensors")
    weights = read_checkpoint(tmp_path / "w.safetensors").weights
    assert set(weights) == {"fc.weight", "fc.bias"}
    assert weights["fc.weight"].dtype == torch.float32


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2"])
def test_embedded_weights_are_complete_small_and_state_their_normalisation(name: str) -> None:
    student = parse_recipe(RECIPE.format(name)).stages[0].student
    checkpoint = read_checkpoint(Path(student.checkpoint))
    library = {"timm": timm.create_model, "torchvision": torchvision.models.get_model}[student.library]
    missing, unexpected = library(student.model).load_state_dict(checkpoint.weights, strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    assert checkpoint.preprocess.mean == (0.485, 0.456, 0.406)
    assert (ASSETS / name / "imagenet.int8.safetensors").stat().st_size <= 12e6


def test_the_embedded_classifier_recognises_test_images_at_its_own_size(tmp_path: Path) -> None:
    recipe = parse_recipe(
        "{name: a, data: cifar10-sample, stages: [{id: a, kind: teacher, teacher: cifar10-resnet18}]}"
    )
    data = prepare(recipe.data, Store(tmp_path), 0)
    loaded = load_teacher(recipe.stages[0].teacher, recipe.data, data.classes, data.resolution)
    assert loaded.preprocess.resolution == 128
    with torch.no_grad():
        found = loaded.classifier()(loaded.preprocess(torch.from_numpy(np.array(data.test.images[:200])))).argmax(1)
    assert (found.numpy() == data.test.labels[:200]).mean() > 0.93
