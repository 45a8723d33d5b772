"""Names of models, tags and weights, and the preprocessing that belongs to published weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from head_first import HeadFirst
from torch import nn
from torchvision.transforms import CenterCrop, Normalize, Resize

from compress.data.preprocess import Preprocess
from compress.models import catalog, checks
from compress.models.checks import model_problems
from compress.models.names import name_problem, open_clip_preprocess, published_preprocess, unpinned
from compress.recipe.models import Option
from compress.utils.errors import CompressError, UsageError
from compress.utils.resources import ASSETS

TIMM = [
    "resnet18",
    "resnet50.a1_in1k",
    "tf_efficientnet_b0_ns",
    "mobilenetv3_small_050.lamb_in1k",
    "convnext_tiny.fb_in22k_ft_in1k_384",
    "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    "swin_tiny_patch4_window7_224",
    "levit_128s",
    "vit_base_patch16_clip_224.openai",
    "regnety_002",
    "inception_v3.tv_in1k",
    "efficientnet_b0.ra4_e3600_r224_in1k",
    "vit_base_patch16_siglip_224.webli",
]
TORCHVISION = [
    "ResNet18_Weights.IMAGENET1K_V1",
    "ResNet50_Weights.IMAGENET1K_V1",
    "ResNet50_Weights.IMAGENET1K_V2",
    "ViT_B_16_Weights.IMAGENET1K_V1",
    "ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1",
    "EfficientNet_B1_Weights.IMAGENET1K_V2",
    "Inception_V3_Weights.IMAGENET1K_V1",
    "Swin_T_Weights.IMAGENET1K_V1",
    "RegNet_Y_16GF_Weights.IMAGENET1K_SWAG_LINEAR_V1",
    "MobileNet_V3_Large_Weights.IMAGENET1K_V2",
]
OPEN_CLIP = [
    ("ViT-B-32", "openai"),
    ("ViT-B-16-SigLIP", "webli"),
    ("RN50x4", "openai"),
    ("MobileCLIP-S1", "datacompdr"),
]


def parameters(transform: Any, mean: Any, std: Any) -> tuple[object, ...]:
    """What decides the pixels of torchvision's Resize, CenterCrop and Normalize."""
    resize, crop = transform
    size = resize.size if isinstance(resize.size, int) else tuple(resize.size)
    side = crop.size if isinstance(crop.size, int) else crop.size[0]
    values = [tuple(round(float(v), 5) for v in each) for each in (mean, std)]
    return resize.interpolation.value, size, side, *values


def own_parameters(preprocess: Preprocess) -> tuple[object, ...]:
    size = preprocess.resize or preprocess.resolution
    mean, std = (tuple(round(v, 5) for v in each) for each in (preprocess.mean, preprocess.std))
    resize = (size, size) if preprocess.crop_mode == "squash" else size
    return preprocess.interpolation, resize, preprocess.resolution, mean, std


def steps(transform: Any) -> tuple[list[Any], Any]:
    kinds = (Resize, CenterCrop)
    normalize = next(step for step in transform.transforms if isinstance(step, Normalize))
    return [next(s for s in transform.transforms if isinstance(s, kind)) for kind in kinds], normalize


@pytest.mark.parametrize("name", TIMM)
def test_preprocessing_is_that_of_timms_own_transform(name: str) -> None:
    import timm
    from timm.data import create_transform, resolve_data_config

    renamed = timm.models.get_deprecated_models().get(name, name)
    cfg = timm.get_pretrained_cfg(renamed).to_dict()
    transform, normalize = steps(create_transform(**resolve_data_config(pretrained_cfg=cfg)))
    found = published_preprocess("timm", name)
    assert found and own_parameters(found) == parameters(transform, normalize.mean, normalize.std)


def test_the_crop_of_timms_test_size_belongs_to_that_size() -> None:
    at_224, at_256 = (published_preprocess("timm", "efficientnet_b0.ra4_e3600_r224_in1k", s) for s in (None, 256))
    assert at_224 and at_224.resize == 248  # floor(224 / 0.9)
    assert at_256 and at_256.resize == 256  # its test_crop_pct is 1.0


@pytest.mark.parametrize("name", TORCHVISION)
def test_preprocessing_is_that_of_torchvisions_own_transform(name: str) -> None:
    from torchvision.models import get_weight

    own = get_weight(name).transforms()
    steps = Resize(own.resize_size[0], own.interpolation), CenterCrop(own.crop_size[0])
    found = published_preprocess("torchvision", name)
    assert found and own_parameters(found) == parameters(steps, own.mean, own.std)


@pytest.mark.parametrize(("model", "tag"), OPEN_CLIP)
def test_preprocessing_is_that_of_open_clips_own_transform(model: str, tag: str) -> None:
    from open_clip import get_model_config, get_pretrained_cfg
    from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict

    cfg = merge_preprocess_dict(PreprocessCfg(), get_pretrained_cfg(model, tag))
    cfg["size"] = get_model_config(model)["vision_cfg"]["image_size"]
    transform = image_transform_v2(PreprocessCfg(**cfg), is_train=False)
    normalize = next(step for step in transform.transforms if isinstance(step, Normalize))
    found = published_preprocess("open_clip", f"{model}:{tag}")
    resize = next(step for step in transform.transforms if isinstance(step, Resize))
    crop = next((step for step in transform.transforms if isinstance(step, CenterCrop)), CenterCrop(cfg["size"]))
    assert found and own_parameters(found) == parameters((resize, crop), normalize.mean, normalize.std)


def test_the_resize_follows_the_resolution() -> None:
    small, whole = (published_preprocess("torchvision", "resnet50.IMAGENET1K_V2", side) for side in (112, None))
    assert small and whole and (small.resolution, small.resize) == (112, 116)
    assert (whole.resolution, whole.resize) == (224, 232)
    timm = published_preprocess("timm", "resnet18.tv_in1k", 128)
    assert timm and (timm.resolution, timm.resize) == (128, 146)


@pytest.mark.parametrize(
    ("library", "name"),
    [
        ("timm", "resnet81"),
        ("timm", "resnet18.none"),
        ("timm", "hf-hub:nobody/none"),
        ("torchvision", "resnet81"),
        ("torchvision", "resnet18.IMAGENET1K_V2"),
        ("open_clip", "ViT-B-32:none"),
        ("open_clip", "none"),
    ],
)
def test_unknown_weights_have_no_preprocessing(library: str, name: str) -> None:
    assert published_preprocess(library, name) is None


def test_images_that_are_not_square_are_refused() -> None:
    with pytest.raises(UsageError, match=r"sapiens2 takes images of 1024 x 768 pixels; choose a model of square"):
        published_preprocess("timm", "vit_base_patch16_sapiens2")
    with pytest.raises(UsageError, match="open_clip's x takes 32 x 64 pixels; choose a model of square"):
        open_clip_preprocess("x", {}, (32, 64))


def test_a_folder_has_its_own_preprocessing(tmp_path: Path) -> None:
    folder = f"local-dir:{tmp_path}"
    with pytest.raises(CompressError, match=r"is not a model folder: config\.json not found"):
        published_preprocess("timm", folder)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(CompressError, match=r"config\.json is not a configuration of timm"):
        published_preprocess("timm", folder)
    cfg = {"input_size": [3, 96, 96], "crop_pct": 0.75, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet18", "pretrained_cfg": cfg}))
    assert published_preprocess("timm", folder) == Preprocess(96, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), resize=128)
    teacher = published_preprocess("open_clip", f"local-dir:{ASSETS}/teacher")
    assert teacher == Preprocess(128, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), resize=128)
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(CompressError, match=r"is not a configuration of open_clip"):
        published_preprocess("open_clip", folder)


@pytest.mark.parametrize(
    ("library", "name", "words"),
    [
        ("timm", "resnet18.a1_in1k", None),
        ("timm", "tf_efficientnet_b0_ns", None),
        ("timm", "hf-hub:timm/resnet18.a1_in1k", None),
        ("torchvision", "resnet50.IMAGENET1K_V2", None),
        ("torchvision", "ResNet50_Weights.IMAGENET1K_V2", None),
        ("torchvision", "ResNet50_Weights.DEFAULT", None),
        ("open_clip", "ViT-B-32:laion2b_s34b_b79k", None),
        ("timm", "resnet81", "timm has no model 'resnet81'; did you mean 'resnet18'"),
        ("timm", "resnet18.a9_in1k", "timm has no weights 'a9_in1k' of resnet18; did you mean 'a3_in1k'"),
        ("timm", "local-dir:/nowhere", "/nowhere is not a model folder: config.json not found"),
        (
            "torchvision",
            "resnet18.IMAGENET1K_V2",
            "no weights 'IMAGENET1K_V2' of resnet18; did you mean 'IMAGENET1K_V1'?",
        ),
        ("torchvision", "fasterrcnn_resnet50_fpn", "torchvision has no model 'fasterrcnn_resnet50_fpn'"),
        ("open_clip", "ViT-B-32:none", "open_clip has no weights 'none' of ViT-B-32; it has openai"),
    ],
)
def test_names_are_checked(library: str, name: str, words: str | None) -> None:
    problem = name_problem(library, name)
    assert problem is None if words is None else words in str(problem)


@pytest.mark.parametrize(
    ("library", "name", "end"),
    [
        ("timm", "hf-hub:own/net", "(commit {commit} was read); pin it: hf-hub:own/net@{commit}"),
        ("timm", "hf-hub:own/other", "(its commit is not known); pin it: hf-hub:own/other@COMMIT"),
        (
            "open_clip",
            "hf-hub:own/net",
            "(commit {commit} was read); pin it: name the folder of a download, local-dir:",
        ),
        ("timm", "hf-hub:own/net@v1", None),
        ("timm", "resnet18", None),
        ("variant", "runs/store/abc", None),
    ],
)
def test_repositories_of_the_hub_without_a_revision_are_remarked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, name: str, end: str | None
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    commit, cached = "c" * 40, tmp_path / "models--own--net"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    (cached / "snapshots" / commit).mkdir(parents=True)
    for file in ("config.json", "open_clip_config.json"):
        (cached / "snapshots" / commit / file).write_text("{}")
    remark = unpinned(library, name)
    assert remark is None if end is None else end.format(commit=commit) in str(remark)


def test_models_of_plugins_are_known_at_once() -> None:
    import timm
    from timm.models import _registry

    assert name_problem("timm", "own_network_of_a_plugin")

    @timm.models.register_model
    def own_network_of_a_plugin(pretrained: bool = False, **_: object) -> nn.Module:
        return nn.Linear(1, 1)

    try:
        assert name_problem("timm", "own_network_of_a_plugin") is None
    finally:
        del _registry._model_entrypoints["own_network_of_a_plugin"]


CATALOG = {"tags": {"resnet18": ["V1"]}, "aliases": {}}


@pytest.fixture
def not_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """Let torchvision seem not to be loaded; gives the calls of other processes, of which all answer the same."""
    calls: list[str] = []

    def answer(call: str, *arguments: str) -> object:
        calls.append(call)
        return CATALOG if call.endswith("print_catalog") else {"options": "takes no 'x'", "features": ""}

    monkeypatch.delitem(sys.modules, "torchvision")
    monkeypatch.setattr(catalog, "run_python", answer)
    monkeypatch.setattr(checks, "run_python", answer)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for cached in (catalog._cached, checks._cached_structure):
        cached.cache_clear()
    yield calls
    for cached in (catalog._cached, checks._cached_structure):
        cached.cache_clear()


def test_a_library_is_listed_once_for_a_version_of_both(
    not_loaded: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for calls in (2, 2, 4):
        if calls == 4:
            monkeypatch.setattr(catalog, "_own_sources", lambda: "changed")
        assert list(model_problems("torchvision", "resnet18.V1", {"x": 1})) == ["takes no 'x'"]
        assert not list(model_problems("torchvision", "resnet18"))
        catalog._cached.cache_clear()  # as in a new process
        checks._cached_structure.cache_clear()
        assert len(not_loaded) == len(list((tmp_path / "compress-model").glob("*-torchvision-*.json"))) == calls


def test_names_are_checked_without_a_home(not_loaded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    assert list(model_problems("torchvision", "resnet81")) == [
        "torchvision has no model 'resnet81'; did you mean 'resnet18'?"
    ]
    assert not list(model_problems("torchvision", "resnet18"))
    assert len(not_loaded) == 1


def test_a_library_that_cannot_be_loaded_is_not_checked(not_loaded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "run_python", lambda *_: None)
    assert not list(model_problems("torchvision", "resnet81"))


@pytest.mark.slow
def test_another_process_prints_the_catalog() -> None:
    names = catalog.run_python("compress.models.catalog:print_catalog", "torchvision")
    assert names["tags"]["resnet50"] == ["IMAGENET1K_V1", "IMAGENET1K_V2"]
    assert names["aliases"]["ResNet50_Weights"] == "resnet50"
    assert catalog.run_python("compress.models.catalog:print_catalog", "none") is None


@pytest.mark.parametrize(
    ("library", "name", "options", "words"),
    [
        ("timm", "resnet18", {"zero_init_last": False, "drop_rate": 0.1}, None),
        ("timm", "efficientnet_b0", {"bn_eps": 1e-3}, None),  # taken out on the way to the constructor
        (
            "timm",
            "resnet18",
            {"zero_init": False},
            "timm's resnet18 takes no 'zero_init'; did you mean 'zero_init_last'?",
        ),
        ("timm", "resnet18", {"img_size": 32}, "must not set img_size, which the recipe controls"),
        ("timm", "cifar_resnet8", {"widht": 2}, "timm's cifar_resnet8 takes no 'widht'; did you mean 'width'?"),
        ("timm", "cifar_mobilenetv2", {"in_chans": 1}, "timm's cifar_mobilenetv2 takes no 'in_chans'; remove it"),
        ("torchvision", "googlenet", {"dropout": 0.1}, None),
        ("torchvision", "resnet50", {"zero_init_last": False}, "did you mean 'zero_init_residual'?"),
        ("torchvision", "vit_b_16", {"dropout": "much"}, "vit_b_16 does not take `options` {'dropout': 'much'}"),
    ],
)
def test_options_are_checked_by_the_library(
    library: str, name: str, options: dict[str, Option], words: str | None
) -> None:
    problems = list(model_problems(library, name, options))
    assert not problems if words is None else [words in problem for problem in problems] == [True]


@pytest.mark.parametrize(
    ("library", "name", "words"),
    [
        ("timm", "resnet18", None),
        ("torchvision", "squeezenet1_1", "a convolution as its classifier (classifier.1)"),
        ("timm", "levit_128s", "2 classifiers (head.linear, head_dist.linear)"),
    ],
)
def test_losses_on_features_are_checked_against_the_classifier(library: str, name: str, words: str | None) -> None:
    problems = list(model_problems(library, name, features=True))
    assert not problems if words is None else [words in problem for problem in problems] == [True]
    assert not list(model_problems(library, name))


@pytest.mark.parametrize("after", [nn.Identity(), nn.Flatten(99)], ids=["executed", "not executable"])
def test_a_model_whose_classifier_is_registered_first_is_not_refused(
    monkeypatch: pytest.MonkeyPatch, after: nn.Module
) -> None:
    from timm.models import _registry, register_model

    for name in ("_model_entrypoints", "_model_to_module", "_model_default_cfgs"):
        monkeypatch.setattr(_registry, name, dict(getattr(_registry, name)))

    def head_first(**_: object) -> nn.Module:
        return HeadFirst(after)

    register_model(head_first)
    checks._structure.cache_clear()
    assert not list(model_problems("timm", "head_first", features=True))


def test_a_model_that_replaces_another_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of models stays the same."""
    from timm.models import _registry, register_model

    from compress.models.catalog import catalog

    for name in ("_model_entrypoints", "_model_to_module", "_model_default_cfgs"):
        monkeypatch.setattr(_registry, name, dict(getattr(_registry, name)))

    def first_net(**_: object) -> None: ...
    def second_net(**_: object) -> None: ...

    for build, other in ((first_net, "second_net"), (second_net, "first_net")):
        register_model(build)
        listed = catalog("timm")
        assert listed and build.__name__ in listed.tags and other not in listed.tags
        del _registry._model_entrypoints[build.__name__]
