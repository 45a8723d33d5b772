"""`push`: a repository is loaded by timm or by its own loader, with the logits and preprocessing of the variant."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from support import Job, typed

from compress.data.preprocess import Preprocess
from compress.models.architecture import Architecture, Network
from compress.models.factory import create_model
from compress.models.hub_repository import crop_share, data_config, load_repository, write_repository
from compress.models.own_files import variant_folder
from compress.utils.errors import CompressError

CLASSES = ("across", "both", "down")
PREPROCESS = Preprocess(32, (0.5, 0.4, 0.3), (0.25, 0.2, 0.3), "bilinear", 40)


@pytest.fixture(scope="module")
def run(job: Job) -> Path:
    return sorted(path.parent for path in (job.runs / "tiny").glob("*/results.json"))[-1]


def photo(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def network(library: str, model: str, preprocess: Preprocess = PREPROCESS, **options: Any) -> Network:
    torch.manual_seed(0)
    built = create_model(library, model, 3, preprocess.resolution, options=options)
    architecture = Architecture(
        library=library,
        model=model,
        options=options,
        classes=CLASSES,
        resolution=preprocess.resolution,
        preprocess=preprocess,
    )
    return Network(built.eval(), architecture)


def test_timm_loads_an_unchanged_network_with_its_preprocessing(run: Path, tmp_path: Path) -> None:
    done = typed("push", run, "distilled", "my-team/stripes", "--out", tmp_path / "hub", "--no-upload")
    assert done.returncode == 0 and "loaded by timm.create_model" in done.stdout, done.stderr
    assert {path.name for path in (tmp_path / "hub").iterdir()} == {"README.md", "config.json", "model.safetensors"}
    model = timm.create_model(f"local-dir:{tmp_path / 'hub'}", pretrained=True).eval()
    stored = variant_folder(run / "distilled")
    architecture = Architecture.read(stored)
    config = timm.data.resolve_model_data_config(model)
    assert list(config["input_size"]) == [3, 32, 32] and config["crop_pct"] == 1.0
    assert tuple(config["mean"]) == architecture.preprocess.mean
    assert tuple(config["std"]) == architecture.preprocess.std
    # The logits of the test images, in the order of the run, are those that it stored.
    transform = timm.data.create_transform(**config, is_training=False)
    images = sorted((run.parent.parent.parent / "images" / "test").glob("*/*.png"))
    with torch.no_grad():
        logits = model(torch.stack([transform(Image.open(image).convert("RGB")) for image in images]))
    ours = np.load(stored / "test_logits.npy")
    assert logits.shape == ours.shape
    rows = [np.abs(ours - row).max(1).min() for row in logits.numpy()]
    assert max(rows) < 1e-3, "each image's logits are among those of the run"


@pytest.mark.slow
def test_a_pruned_network_is_loaded_without_this_package(run: Path, tmp_path: Path) -> None:
    done = typed("push", run, "pruned", "my-team/stripes", "--out", tmp_path / "hub", "--no-upload", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["by_timm"] is False
    code = """
import sys, json
sys.modules["compress"] = None
sys.path.insert(0, sys.argv[1])
import numpy, torch
from PIL import Image
from load_model import load_model, load_transform
image = Image.open(sys.argv[2]).convert("RGB")
with torch.no_grad():
    print(json.dumps(load_model()(load_transform()(image).unsqueeze(0))[0].tolist()))
"""
    photo(32, 32).save(tmp_path / "photo.png")
    command = [sys.executable, "-c", code, str(tmp_path / "hub"), str(tmp_path / "photo.png")]
    loaded = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert loaded.returncode == 0, loaded.stderr
    from compress.models.checkpoints import load_variant

    ours = load_variant(variant_folder(run / "pruned"))
    pixels = torch.from_numpy(np.asarray(photo(32, 32)).transpose(2, 0, 1)[None].copy())
    with torch.no_grad():
        expected = ours.model(ours.preprocess(pixels))[0]
    assert torch.allclose(torch.tensor(json.loads(loaded.stdout)), expected, atol=1e-5)
    assert ours.architecture.sizes, "it was pruned"


def test_the_card_has_the_variants_figures_and_no_path_of_this_machine(run: Path, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    done = typed("push", run, "pruned", "my-team/stripes", "--out", tmp_path / "hub", "--no-upload")
    assert done.returncode == 0, done.stderr
    card = hub.ModelCard.load(tmp_path / "hub" / "README.md")
    results = json.loads((run / "results.json").read_text())
    (variant,) = (each for each in results["variants"] if each["id"] == "pruned")
    measured = {each.metric_type: each.metric_value for each in card.data.eval_results}
    assert measured["accuracy"] == variant["accuracy"]["top1"] and measured["macs"] == variant["inference"]["macs"]
    assert card.data.library_name == "pytorch" and "pruning" in card.data.tags and card.data.license is None
    assert f"{100 * variant['accuracy']['top1']:.1f}%" in card.text and "load_model" in card.text
    assert all(f"`{stage}`" in card.text for stage in ("teacher", "distilled", "pruned")), "its lineage"
    assert "`across`" in card.text
    for file in (tmp_path / "hub").glob("*.*"):
        assert str(run.parent.parent.parent).encode() not in file.read_bytes(), (
            f"{file.name} has a path of this machine"
        )


@pytest.mark.parametrize(
    ("library", "model", "options", "by_timm"),
    [
        ("timm", "test_vit", {}, True),  # built for one size
        ("timm", "test_resnet", {"drop_rate": 0.1}, True),
        ("timm", "cifar_resnet8", {"width": 0.5}, False),
        ("torchvision", "squeezenet1_1", {}, False),
    ],
)
def test_networks_are_loaded_as_they_were(
    library: str, model: str, options: dict[str, Any], by_timm: bool, tmp_path: Path
) -> None:
    own = network(library, model, **options)
    made = write_repository(own, tmp_path)
    assert made.by_timm is by_timm
    assert ("compress-model" in made.packages) is model.startswith("cifar")
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(load_repository(tmp_path, by_timm)(images), own.model(images), atol=1e-6)
    assert json.loads((tmp_path / "config.json").read_text())["label_names"] == list(CLASSES)


@pytest.mark.parametrize("crop_mode", ["center", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest", "lanczos"])
def test_timms_transform_is_the_preprocessing(interpolation: Any, crop_mode: Any) -> None:
    preprocess = Preprocess(32, (0.5, 0.4, 0.3), (0.25, 0.2, 0.3), interpolation, 40, crop_mode)
    transform = timm.data.create_transform(
        **timm.data.resolve_data_config(pretrained_cfg=data_config(preprocess)), is_training=False
    )
    for width, height in ((97, 64), (64, 97), (40, 40)):
        image = photo(width, height)
        expected = preprocess(torch.from_numpy(np.asarray(image).transpose(2, 0, 1)[None].copy()))[0]
        levels = (transform(image) - expected).abs() * torch.tensor(preprocess.std).view(3, 1, 1) * 255
        assert levels.max() <= 1.01, "within the one level that Preprocess states"


def test_the_share_of_the_crop_gives_the_resize_back() -> None:
    import math

    assert crop_share(224, 256) == 0.875 and crop_share(32, 32) == 1.0
    for side in (8, 32, 96, 224, 299, 518):
        for resize in range(max(side - 3, 8), 2 * side):
            assert math.floor(side / crop_share(side, resize)) == resize


def test_wrong_calls_are_one_line(run: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "diary.txt").write_text("mine")
    out = ("--out", tmp_path / "hub", "--no-upload")
    file = tmp_path / "full" / "diary.txt"
    wrong: list[tuple[tuple[object, ...], int, str]] = [
        ((tmp_path, "distilled", "me/it", *out), 2, "is not a run: it has no results.json"),
        ((run, "distiled", "me/it", *out), 2, "has no variant 'distiled'; did you mean 'distilled'?"),
        (
            (run, "int8", "me/it", *out),
            2,
            "int8 is quantized, and timm and PyTorch load float networks only; push pruned",
        ),
        ((run, "teacher", "me/it", *out), 1, "it is a teacher, which the store holds no copy of"),
        ((run, "distilled", "it", *out), 2, "'it' is not a repository of the hub: expected OWNER/NAME"),
        ((run, "distilled", "me/i t", *out), 2, "'me/i t' is not a repository of the hub"),
        ((run, "distilled", "hf-hub:me/it", *out), 2, "expected OWNER/NAME; name it like my-team/my-model"),
        ((run, "distilled", "me/it", "--no-upload", "--out", tmp_path / "full"), 2, "has other files (diary.txt)"),
        ((run, "distilled", "me/it", "--no-upload", "--out", file), 2, "diary.txt is a file; name a folder"),
    ]
    for arguments, status, message in wrong:
        done = typed("push", *arguments)
        assert done.returncode == status and message in done.stderr, done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "hub").exists()


def test_networks_that_are_not_pytorchs_are_refused(done_job: Callable[[], Job], tmp_path: Path) -> None:
    job = done_job()
    (run,) = (path.parent for path in (job.runs / "tiny").glob("*/results.json"))
    file = variant_folder(run / "distilled") / "architecture.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"library": "onnx"}))
    done = typed("push", run, "distilled", "me/it", "--out", tmp_path / "hub", "--no-upload")
    assert done.returncode == 2
    assert "distilled is an ONNX file, which timm and PyTorch do not load; upload its artifacts" in done.stderr


def test_only_what_gives_the_same_logits_is_kept(tmp_path: Path) -> None:
    own, other = network("timm", "test_resnet"), network("timm", "test_vit")
    with pytest.raises(CompressError, match="test_vit cannot be loaded from a repository"):
        write_repository(Network(own.model, other.architecture), tmp_path)
    frozen = network("timm", "test_resnet")
    frozen.model.register_forward_hook(lambda module, inputs, logits: logits + 1)
    with pytest.raises(CompressError, match="it gives other logits"):
        write_repository(frozen, tmp_path)


def test_the_folder_stays_where_an_upload_is_not_possible(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    call = ("push", run, "distilled", "my-team/stripes", "--out", tmp_path / "hub")
    monkeypatch.setattr(hub, "get_token", lambda: None)
    done = typed(*call)
    assert done.returncode == 1 and "not uploaded: no token of the Hugging Face Hub" in done.stderr
    assert f"hf upload my-team/stripes {tmp_path / 'hub'}" in done.stderr and (tmp_path / "hub" / "README.md").is_file()
    secret = "hf_thisisasecretofmine"
    monkeypatch.setattr(hub, "get_token", lambda: secret)
    monkeypatch.setattr(hub.constants, "ENDPOINT", f"http://127.0.0.1:9/{secret}")
    done = typed(*call)
    assert done.returncode == 1 and done.stderr.startswith("error: not uploaded (") and done.stderr.count("\n") == 1
    assert secret not in done.stderr + done.stdout


def test_an_upload_sends_the_files_to_a_private_repository(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    calls: list[tuple[str, Any]] = []

    class Sent:
        repo_url = "https://huggingface.co/my-team/stripes"

    def create_repo(self: Any, repo: str, **settings: Any) -> None:
        calls.append((self.token, {"repo": repo, **settings}))

    def upload_folder(self: Any, **settings: Any) -> Sent:
        calls.append((self.token, settings))
        return Sent()

    monkeypatch.setattr(hub, "get_token", lambda: "hf_secret")
    monkeypatch.setattr(hub.HfApi, "create_repo", create_repo)
    monkeypatch.setattr(hub.HfApi, "upload_folder", upload_folder)
    for flags, private in (((), True), (("--public",), False)):
        done = typed("push", run, "distilled", "my-team/stripes", "--out", tmp_path / "hub", *flags)
        assert done.returncode == 0 and done.stdout.endswith("https://huggingface.co/my-team/stripes\n")
        (token, created), (_, sent) = calls[-2:]
        assert token == "hf_secret" and created == {"repo": "my-team/stripes", "private": private, "exist_ok": True}
        assert sorted(sent["allow_patterns"]) == ["README.md", "config.json", "model.safetensors"]
        assert sent["folder_path"] == tmp_path / "hub"
