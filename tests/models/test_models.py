from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Literal
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import environment, write_open_clip
from torch import nn

from compress.data.preprocess import Preprocess
from compress.data.sample import SampleData
from compress.models.architecture import Architecture, Network
from compress.models.checkpoints import changed_sizes, load_variant, save_variant
from compress.models.factory import create_model
from compress.models.fingerprint import OTHER_PREPROCESS, local_files, teacher_weights_id
from compress.models.names import published_preprocess
from compress.models.students import load_student
from compress.models.teachers import load_teacher, open_clip_model, published_preprocess_of
from compress.models.tokenizers import tokenizer_of
from compress.pruning.search import prune_channels
from compress.recipe.channels import Channels
from compress.recipe.models import ClassifierTeacher, OpenClipTeacher, Student
from compress.utils.errors import CompressError, UsageError
from compress.utils.resources import ASSETS

EMBEDDED = OpenClipTeacher(source="open_clip", model="local-dir:{assets}/teacher")
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def create_student(student: Student, classes: int, side: int) -> nn.Module:
    return load_student(student, [f"class {number}" for number in range(classes)], side)[0].model


@pytest.mark.parametrize(
    "student", [Student(model="test_resnet"), Student(library="torchvision", model="shufflenet_v2_x0_5")]
)
def test_the_head_is_fitted_to_the_classes(student: Student) -> None:
    assert create_student(student, 7, 64)(torch.zeros(2, 3, 64, 64)).shape == (2, 7)


def test_an_unknown_model_is_refused_with_similar_names() -> None:
    with pytest.raises(UsageError, match=r"did you mean.*resnet18"):
        create_student(Student(model="resnet_18"), 10, 32)


def test_images_too_small_for_the_model_are_refused() -> None:
    with pytest.raises(UsageError, match="does not take images of 16 pixels"):
        create_student(Student(library="torchvision", model="vgg11"), 10, 16)


def test_options_reach_the_model_factory() -> None:
    torch.manual_seed(0)
    last = "layer1.0.bn2.weight"
    assert not create_student(Student(model="resnet18"), 10, 32).state_dict()[last].any()
    assert create_student(Student(model="resnet18", options={"zero_init_last": False}), 10, 32).state_dict()[last].all()


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_options_that_the_model_does_not_take_are_refused(library: Literal["timm", "torchvision"]) -> None:
    with pytest.raises(UsageError, match=r"resnet18 does not take `options` .*colour"):
        create_student(Student(library=library, model="resnet18", options={"colour": "red"}), 10, 32)


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path: Path) -> None:
    save_file(create_model("timm", "test_resnet", 10, 32).state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(
        CompressError, match=r"other.safetensors is a checkpoint of another architecture: .* differences"
    ):
        create_student(Student(model="resnet10t", checkpoint=str(tmp_path / "other.safetensors")), 10, 32)


def test_a_student_starts_from_a_checkpoint_with_another_head(tmp_path: Path) -> None:
    source = create_model("timm", "test_resnet", 100, 32)
    save_file(source.state_dict(), tmp_path / "start.safetensors")
    student = create_student(Student(model="test_resnet", checkpoint=str(tmp_path / "start.safetensors")), 10, 32)
    first = next(iter(source.state_dict()))
    assert torch.equal(student.state_dict()[first], source.state_dict()[first])


def test_published_weights_without_a_network_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", no_network)
    with pytest.raises(
        CompressError, match=r"torchvision's weights of resnet18 cannot be downloaded here .*`checkpoint`"
    ):
        create_model("torchvision", "resnet18", 1000, 32, pretrained=True)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("invalid hash value (expected 'a', got 'b')"), "cannot be downloaded here"),
        (
            RuntimeError("size mismatch"),
            "resnet18 cannot be built with its weights for images of 32 pixels: size mismatch",
        ),
    ],
)
def test_only_failed_downloads_are_called_so(monkeypatch: pytest.MonkeyPatch, error: Exception, words: str) -> None:
    monkeypatch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", Mock(side_effect=error))
    with pytest.raises(CompressError, match=words):
        create_model("torchvision", "resnet18", 1000, 32, pretrained=True)


def test_published_weights_that_do_not_fit_the_size_are_not_called_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", Mock(side_effect=AssertionError))
    with pytest.raises(UsageError, match=r"vit_b_16 cannot be built with its weights for images of 100 .*: 224`"):
        create_model("torchvision", "vit_b_16", 1000, 100, pretrained=True)


def test_an_incomplete_open_clip_folder_is_refused(tmp_path: Path) -> None:
    settings = OpenClipTeacher(source="open_clip", model=f"local-dir:{tmp_path}")
    with pytest.raises(CompressError, match=r"is not an OpenCLIP folder: open_clip_config\.json not found"):
        local_files(settings)
    (tmp_path / "open_clip_config.json").write_text("{}")
    (tmp_path / "open_clip_model.pt").touch()  # which open_clip does not look for
    with pytest.raises(CompressError, match=r"has no weights: open_clip_model\.safetensors not found"):
        local_files(settings)
    for name in ("README.md", "open_clip_model.safetensors", "tokenizer.json", "merges.txt"):
        (tmp_path / name).touch()
    names = ["merges.txt", "open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json"]
    assert sorted(path.name for path in local_files(settings)) == names, "the tokenizer decides embeddings of prompts"


def variant(folder: Path) -> tuple[nn.Module, torch.Tensor]:
    """A pruned resnet10t on disk, and what it answers to seeded images."""
    torch.manual_seed(0)
    dense = create_model("timm", "resnet10t", 10, 32)
    model = prune_channels(dense, 32, Channels(target_macs=0.4))
    architecture = Architecture(
        library="timm",
        model="resnet10t",
        classes=tuple(CLASSES),
        resolution=32,
        preprocess=Preprocess(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        sizes=changed_sizes(model, dense),
    )
    save_variant(folder, Network(model, architecture))
    torch.manual_seed(1)
    with torch.no_grad():
        return model, model(torch.randn(4, 3, 32, 32))


@pytest.mark.slow
def test_a_pruned_network_is_rebuilt_from_text_in_another_process(tmp_path: Path) -> None:
    _, expected = variant(tmp_path)
    code = (
        "import sys, json, torch; from pathlib import Path; from compress.models.checkpoints import load_variant\n"
        f"model = load_variant(Path({str(tmp_path)!r})).model; torch.manual_seed(1)\n"
        "with torch.no_grad(): print(json.dumps(model(torch.randn(4, 3, 32, 32)).tolist()))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert torch.equal(torch.tensor(json.loads(out.stdout)), expected)


def test_a_damaged_variant_is_refused(tmp_path: Path) -> None:
    variant(tmp_path)
    text = (tmp_path / "architecture.json").read_text()
    (tmp_path / "architecture.json").write_text(text.replace("resnet10t", "resnet14t"))
    with pytest.raises(CompressError, match="another architecture"):
        load_variant(tmp_path)
    (tmp_path / "architecture.json").unlink()
    with pytest.raises(CompressError, match="holds no variant"):
        load_variant(tmp_path)


def test_a_classifier_teaches_with_its_own_logits(tmp_path: Path) -> None:
    source = create_model("timm", "test_resnet", 3, 32)
    save_file(source.state_dict(), tmp_path / "t.safetensors")
    settings = ClassifierTeacher(
        source="timm", model="test_resnet", checkpoint=str(tmp_path / "t.safetensors"), resolution=32
    )
    teacher = load_teacher(settings, SampleData(source="cifar10-sample"), ("a", "b", "c"), 32)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(teacher.classifier()(images), source.eval()(images))


def test_the_embedded_teacher_scores_like_open_clip_itself() -> None:
    import open_clip

    data = SampleData(source="cifar10-sample", templates=["a photo of a {}."])
    teacher = load_teacher(EMBEDDED, data, CLASSES, 32)
    folder = f"local-dir:{ASSETS / 'teacher'}"
    model, _, _ = open_clip.create_model_and_transforms(folder)
    model.eval()
    images = torch.randn(3, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        image = model.encode_image(images, normalize=True)
        text = model.encode_text(
            open_clip.get_tokenizer(folder)([f"a photo of a {c}." for c in CLASSES]), normalize=True
        )
        expected = model.logit_scale.exp() * image @ text.T
        assert torch.allclose(teacher.classifier()(images), expected, atol=1e-4)
    assert teacher.preprocess.resolution == 128


def test_a_teacher_without_a_network_is_refused_with_the_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    settings = OpenClipTeacher(source="open_clip", model="ViT-B-32", pretrained="laion2b_s34b_b79k")
    with pytest.raises(
        CompressError,
        match=r"\(laion2b_s34b_b79k\) cannot be downloaded here \(.+\); fetch https://huggingface.co/laion/.*checkpoint",
    ):
        load_teacher(settings, SampleData(source="cifar10-sample"), CLASSES, 32)


SMALL: dict[str, dict[str, object]] = {
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"layers": 1, "width": 64, "heads": 1, "vocab_size": 49408},
}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"resize_mode": "longest"},
            r"crop_mode 'longest' is not supported, only center, squash; choose other weights",
        ),
        ({"interpolation": "random"}, "interpolation 'random' is not supported"),
    ],
)
def test_a_teacher_is_refused_as_its_preprocessing_is_by_name(
    changed: dict[str, str], message: str, tmp_path: Path
) -> None:
    write_open_clip(tmp_path / "clip", "ViT-B-32", **SMALL)
    config = tmp_path / "clip" / "open_clip_config.json"
    stored = json.loads(config.read_text())
    config.write_text(json.dumps(stored | {"preprocess_cfg": stored["preprocess_cfg"] | changed}))
    settings = OpenClipTeacher(source="open_clip", model=f"local-dir:{tmp_path}/clip")
    with pytest.raises(UsageError, match=message):
        published_preprocess("open_clip", settings.model)
    with pytest.raises(UsageError, match=message):
        load_teacher(settings, SampleData(source="cifar10-sample"), CLASSES, 32)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The cached folder of `hf-hub:own/clip`, where the hub itself cannot be reached."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    (tmp_path / "models--own--clip" / "refs").mkdir(parents=True)
    (tmp_path / "models--own--clip" / "refs" / "main").write_text("c" * 40)
    folder = tmp_path / "models--own--clip" / "snapshots" / ("c" * 40)
    folder.parent.mkdir()
    write_open_clip(folder, "ViT-B-32", **SMALL)
    return folder


def test_code_that_comes_with_a_tokenizer_is_never_run(tmp_path: Path) -> None:
    config = {"model_cfg": {"text_cfg": {"hf_tokenizer_name": "x", "tokenizer_kwargs": {"trust_remote_code": True}}}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(CompressError, match=r"open_clip_config\.json asks to run code that comes with its tokenizer"):
        tokenizer_of(f"local-dir:{tmp_path}")
    with pytest.raises(CompressError, match="asks to run code"):
        tokenizer_of("hf-hub:their/model", f"local-dir:{tmp_path}")


def test_a_checkpoint_has_the_preprocessing_of_the_published_weights(tmp_path: Path) -> None:
    """OpenCLIP knows that of its tags only, and would give a checkpoint OpenAI's."""
    assert published_preprocess_of("ViT-B-16-SigLIP") == {
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }
    assert published_preprocess_of("RN50x4-nobody") is None
    import open_clip

    openai = open_clip.get_pretrained_cfg("ViT-B-32", "openai")
    for name in open_clip.list_models():
        own = published_preprocess_of(name)
        if own and any(own[key] != openai[key] for key in own):
            assert OTHER_PREPROCESS.search(name), f"keys of checkpoints of {name} were of another preprocessing"


def test_a_checkpoint_is_taken_instead_of_the_weights_of_a_hub(hub: Path, tmp_path: Path) -> None:
    changed = {name: value + 1 for name, value in load_file(hub / "open_clip_model.safetensors").items()}
    save_file(changed, tmp_path / "own.safetensors")
    settings = OpenClipTeacher(
        source="open_clip", model="hf-hub:own/clip", checkpoint=str(tmp_path / "own.safetensors")
    )
    for _ in range(2):
        model, _ = open_clip_model(settings)
        assert torch.equal(model.visual.proj, changed["visual.proj"])
        (hub / "open_clip_model.safetensors").unlink(missing_ok=True)  # the configuration is enough


def test_a_hub_without_weights_is_refused(hub: Path) -> None:
    settings = OpenClipTeacher(source="open_clip", model="hf-hub:own/clip")
    open_clip_model(settings)
    (hub / "open_clip_model.safetensors").unlink()
    words = r"^the teacher hf-hub:own/clip cannot be downloaded here \(.+\); .*: local-dir:FOLDER$"
    with pytest.raises(CompressError, match=words):
        open_clip_model(settings)


def test_weights_of_a_folder_count_whatever_their_name(
    hub: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(hub.parent))
    settings = OpenClipTeacher(source="open_clip", model=f"local-dir:~/{hub.name}")
    model, _ = open_clip_model(settings)
    before = teacher_weights_id(settings)
    changed = {name: value + 1 for name, value in model.state_dict().items()}
    (hub / "open_clip_model.safetensors").rename(hub / "open_clip_x.safetensors")
    save_file(changed, hub / "model.safetensors")
    assert torch.equal(open_clip_model(settings)[0].visual.proj, changed["visual.proj"])
    assert teacher_weights_id(settings) != before
    (hub / "open_clip_x.safetensors").unlink()
    after = teacher_weights_id(settings)
    save_file(model.state_dict(), hub / "model.safetensors")
    assert teacher_weights_id(settings) != after


@pytest.mark.parametrize(("error", "kind"), [(KeyError("x"), CompressError), (MemoryError(), MemoryError)])
def test_failures_of_open_clip_are_no_missing_weights(
    monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception]
) -> None:
    monkeypatch.setattr("open_clip.create_model", Mock(side_effect=error))
    with pytest.raises(kind) as one:
        open_clip_model(EMBEDDED)
    assert kind is MemoryError or str(one.value) == f"the teacher {EMBEDDED.model} cannot be loaded: 'x'"


def test_unknown_open_clip_models_and_weights_are_refused() -> None:
    data = SampleData(source="cifar10-sample")
    with pytest.raises(UsageError, match=r"did you mean.*ViT-B-32"):
        load_teacher(OpenClipTeacher(source="open_clip", model="ViT-B32"), data, CLASSES, 32)
    with pytest.raises(UsageError, match="has no weights 'laion' of ViT-B-32; it has openai"):
        load_teacher(OpenClipTeacher(source="open_clip", model="ViT-B-32", pretrained="laion"), data, CLASSES, 32)


@pytest.mark.parametrize(
    "text", ["[1]", "{}", '{"library": "timm", "model": "test_resnet"}', "[" * 9999, '{"library": 7, "model": {}}']
)
def test_a_file_that_describes_no_network_is_refused(tmp_path: Path, text: str) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "architecture.json").write_text(text)
    with pytest.raises(CompressError, match="holds no variant"):
        load_variant(tmp_path)


def test_networks_that_ask_for_versions_of_layers_are_stored_and_read(tmp_path: Path) -> None:
    """Weights in safetensors have none; torchvision's MNASNet refuses weights without."""
    torch.manual_seed(0)
    network, _ = load_student(Student(library="torchvision", model="mnasnet0_5"), ["a", "b", "c"], 32)
    save_variant(tmp_path, network)
    again, images = load_variant(tmp_path), torch.rand(2, 3, 32, 32)
    assert torch.equal(network.model.eval()(images), again.model.eval()(images))
