"""Networks under the names that people have, at the side of their weights, with one output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from head_first import HeadFirst
from safetensors.torch import save_file
from torch import nn

from compress.models.factory import create_model, input_side, recorded
from compress.models.features import FeatureTower
from compress.models.heads import check_output, classifier, classifiers, known_classifiers
from compress.models.input_size import fixed_side, resample_positions
from compress.utils.errors import CompressError, UsageError


def logits(model: nn.Module, side: int) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(
    ("library", "name"),
    [
        ("timm", "resnet18.a1_in1k"),
        ("timm", "tf_efficientnet_b0_ns"),
        ("torchvision", "shufflenet_v2_x0_5.IMAGENET1K_V1"),
        ("torchvision", "ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1"),
    ],
)
def test_names_that_people_have_are_built(library: str, name: str) -> None:
    assert logits(create_model(library, name, 7, 32), 32).shape == (2, 7)


def weights_of(weights: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Let torchvision's published weights be random ones, with auxiliary heads where the file has them."""
    from torchvision import models

    torch.manual_seed(0)
    name = next(n for n in models.list_models(module=models) if models.get_model_weights(n) is type(weights))
    auxiliary = {"aux_logits": True, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    state = models.get_model(name, weights=None, **auxiliary).state_dict()
    monkeypatch.setattr(type(weights), "get_state_dict", lambda *_, **__: state)
    return dict(state)


def test_weights_that_a_name_states_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import ResNet50_Weights

    asked = []
    state = weights_of(ResNet50_Weights.IMAGENET1K_V1, monkeypatch)
    monkeypatch.setattr(ResNet50_Weights, "get_state_dict", lambda self, *_, **__: asked.append(self.name) or state)
    for name in ("resnet50.IMAGENET1K_V1", "ResNet50_Weights.IMAGENET1K_V2", "resnet50"):
        model = create_model("torchvision", name, 10, 64, pretrained=True)
        assert torch.equal(model.state_dict()["conv1.weight"], state["conv1.weight"])
    assert asked == ["IMAGENET1K_V1", "IMAGENET1K_V2", "IMAGENET1K_V2"]


@pytest.mark.parametrize(("name", "side"), [("googlenet", 32), ("inception_v3", 75)])
def test_networks_have_no_auxiliary_heads(name: str, side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import get_model_weights

    model = create_model("torchvision", name, 5, side)
    assert isinstance(model.train()(torch.rand(2, 3, side, side)), torch.Tensor)
    assert not [key for key in model.state_dict() if key.startswith(("aux", "Aux"))]
    weights_of(get_model_weights(name).DEFAULT, monkeypatch)
    published = create_model("torchvision", name, 5, side, pretrained=True)
    model_name, options = recorded("torchvision", name, {}, pretrained=True)
    again = create_model("torchvision", model_name, 5, side, options=options)
    again.load_state_dict(published.state_dict())
    assert torch.equal(logits(again, side), logits(published, side))  # transform_input is not in the weights


def folder_of(root: Path, model: nn.Module, architecture: str, classes: int, **about: object) -> str:
    """Write a model as timm does for the hub."""
    cfg = {"input_size": [3, 64, 64], "fixed_input_size": False, "num_classes": classes, "classifier": "fc"}
    text = {"architecture": architecture, "num_classes": classes, "pretrained_cfg": cfg, **about}
    (root / "config.json").write_text(json.dumps(text))
    save_file(model.state_dict(), root / "model.safetensors")
    return f"local-dir:{root}"


def test_a_folder_of_timm_comes_with_its_weights(tmp_path: Path) -> None:
    source = create_model("timm", "resnet10t", 6, 64, options={"avg_down": False})
    name = folder_of(tmp_path, source, "resnet10t", 6, model_args={"avg_down": False})
    assert torch.equal(logits(create_model("timm", name, 6, 64), 64), logits(source, 64))
    assert logits(create_model("timm", name, 4, 64), 64).shape == (2, 4)
    assert recorded("timm", name, {"drop_rate": 0.1}, pretrained=True) == (
        "resnet10t",
        {"avg_down": False, "drop_rate": 0.1},
    )
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CompressError, match=r"^local-dir:.* cannot be loaded: No suitable checkpoints found"):
        create_model("timm", name, 6, 64)


def test_arguments_in_a_folder_that_a_recipe_cannot_hold_are_refused(tmp_path: Path) -> None:
    source = create_model("timm", "resnet10t", 6, 64)
    name = folder_of(tmp_path, source, "resnet10t", 6, model_args={"layers": [1, 1, 1, 1]})
    with pytest.raises(CompressError, match="has model_args that are not supported: layers"):
        recorded("timm", name, {}, pretrained=True)


def test_the_hub_without_a_network_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("timm.models.load_model_config_from_hf", no_network)
    with pytest.raises(CompressError, match=r"^hf-hub:owner/own cannot be downloaded here .*: local-dir:FOLDER$"):
        create_model("timm", "hf-hub:owner/own", 10, 32)


FIXED = [
    ("timm", "vit_tiny_patch16_224", 224),
    ("timm", "swin_tiny_patch4_window7_224", 224),
    ("timm", "levit_128s", 224),
    ("timm", "pit_ti_224", 224),
    ("timm", "gmlp_s16_224", 224),
    ("timm", "convit_tiny", 224),
    ("timm", "crossvit_tiny_240", 240),
    ("timm", "maxvit_pico_rw_256", 256),
    ("timm", "vit_base_patch16_clip_384.laion2b_ft_in1k", 384),
    ("torchvision", "vit_b_16", 224),
    ("torchvision", "vit_b_16.IMAGENET1K_SWAG_E2E_V1", 384),
    ("torchvision", "maxvit_t", 224),
    ("timm", "resnet18", None),
    ("torchvision", "swin_t", None),
]


@pytest.mark.parametrize(("library", "name", "side"), FIXED)
def test_a_network_of_a_fixed_size_takes_that_of_its_weights(library: str, name: str, side: int | None) -> None:
    assert fixed_side(library, name) == side
    assert input_side(library, name, 32, weights=True) == (side or 32)
    assert input_side(library, name, 32) == 32  # nothing says another size
    assert input_side(library, name, 32, 96, weights=True) == 96
    if side and side < 384:
        with torch.device("meta"):
            own = create_model(library, name, 3, side).state_dict()
        assert input_side(library, name, 32, weights={f"module.{key}": value for key, value in own.items()}) == side


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "levit_128s", "pit_ti_224", "gmlp_s16_224"])
def test_own_weights_of_small_images_are_not_enlarged(name: str) -> None:
    with torch.device("meta"):
        own = create_model("timm", name, 3, 64).state_dict()
    assert input_side("timm", name, 64, weights=own) == 64


@pytest.mark.parametrize(("library", "name"), [("timm", "vit_tiny_patch16_224"), ("torchvision", "vit_b_32")])
def test_position_embeddings_are_resampled_to_another_size(library: str, name: str) -> None:
    source = create_model(library, name, 3, 96).state_dict()
    model = create_model(library, name, 3, 64)
    weights = resample_positions(model, source)
    model.load_state_dict(weights)
    positions = next(key for key in weights if "pos_embed" in key)
    changed = [key for key in source if not torch.equal(weights[key], source[key])]
    assert changed == [positions]
    assert resample_positions(create_model(library, name, 3, 96), source).keys() == source.keys()


def test_a_size_that_a_network_is_not_built_for_names_the_remedy() -> None:
    with pytest.raises(
        UsageError, match=r"vit_b_16 cannot be built for images of 40 pixels: .*; set `resolution: 224`"
    ):
        create_model("torchvision", "vit_b_16", 10, 40)


def test_outputs_that_are_no_logits_are_refused() -> None:
    class Two(nn.Module):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return images.mean((1, 2)), images

    with pytest.raises(UsageError, match=r"own gives a tuple instead of logits \[1, 3\]; choose a model with one"):
        check_output(Two(), "own", 3, 32)
    with pytest.raises(UsageError, match=r"own gives maps \[1, 3, 32, 32\] instead of logits \[1, 3\]"):
        check_output(nn.Identity(), "own", 3, 32)


HEADS = [
    ("timm", "resnet18", 32, ["fc"]),
    ("timm", "mobilenetv3_small_050", 32, ["classifier"]),
    ("timm", "convnext_atto", 32, ["head.fc"]),
    ("timm", "dla34", 32, ["fc"]),
    ("timm", "dpn48b", 64, ["classifier"]),
    ("timm", "resnetv2_18", 32, ["head.fc"]),
    ("timm", "levit_128s", 64, ["head.linear", "head_dist.linear"]),
    ("timm", "efficientformer_l1", 224, ["head", "head_dist"]),
    ("timm", "crossvit_tiny_240", 240, ["head.0", "head.1"]),
    ("timm", "deit_tiny_distilled_patch16_224", 64, ["head", "head_dist"]),
    ("timm", "vit_tiny_patch16_224", 64, ["head"]),
    ("timm", "ghostnet_050", 32, ["classifier"]),
    ("torchvision", "squeezenet1_1", 32, ["classifier.1"]),
    ("torchvision", "googlenet", 32, ["fc"]),
    ("torchvision", "mnasnet0_5", 32, ["classifier.1"]),
    ("torchvision", "densenet121", 32, ["classifier"]),
]


@pytest.mark.parametrize(("library", "name", "side", "names"), HEADS)
def test_classifiers_are_the_layers_that_make_the_logits(library: str, name: str, side: int, names: list[str]) -> None:
    model = create_model(library, name, 5, side)
    found = classifiers(model)
    assert list(found) == list(classifiers(model, side)) == names
    assert logits(model, side).any()
    for layer in found.values():
        nn.init.zeros_(layer.weight)
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
    assert not logits(model, side).any()


@pytest.mark.parametrize("after", [(), (nn.Flatten(),), (nn.ReLU(inplace=True),), (nn.Hardtanh(),)])
def test_a_classifier_without_a_name_is_found_by_running_the_network(after: tuple[nn.Module, ...]) -> None:
    model = HeadFirst(*after).train()
    assert list(classifiers(model, 8)) == ["head"]
    assert model.training and not model.head._forward_hooks
    assert list(classifiers(model)) == list(classifiers(model, 2)) == ["trunk"]  # 2 pixels are too few to run it
    assert not known_classifiers(model, 2) and not known_classifiers(model, None)
    assert FeatureTower(model, 8).path == "head", "a probe replaces the same layer"


class Auxiliary(HeadFirst):
    """Computes a second head after the classifier, as networks with auxiliary losses do."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Linear(6, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.trunk(images).mean((2, 3))
        output: torch.Tensor = self.head(features)
        self.second(features)
        return output


def test_a_classifier_is_found_without_memory_for_its_weights() -> None:
    """There all tensors have the same address, and an activation after a layer in the middle would be the output."""
    with torch.device("meta"):
        model = Auxiliary()
        assert list(classifiers(model, 8)) == ["head"]
    assert list(classifiers(model, 8)) == list(classifiers(Auxiliary(), 8)) == ["head"]


def test_losses_on_features_need_one_linear_layer() -> None:
    with pytest.raises(UsageError, match=r"SqueezeNet has a convolution as its classifier \(classifier\.1\)"):
        classifier(create_model("torchvision", "squeezenet1_1", 5, 32))
    with pytest.raises(UsageError, match=r"LevitDistilled has 2 classifiers \(head\.linear, head_dist\.linear\)"):
        classifier(create_model("timm", "levit_128s", 5, 64))
    with pytest.raises(CompressError, match="Identity has no linear layer or convolution to serve as its classifier"):
        classifiers(nn.Identity())


def test_a_published_head_for_other_classes_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import SqueezeNet1_1_Weights

    weights_of(SqueezeNet1_1_Weights.DEFAULT, monkeypatch)
    model = create_model("torchvision", "squeezenet1_1", 7, 64, pretrained=True)
    assert logits(model, 64).shape == (2, 7)
