"""Foundation models as teachers: backbones without a head, CoCa, and several at once, through the whole chain."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from support import Job, photographs

from compress.data.preprocess import Preprocess
from compress.models.ensemble import EnsembleTower, Member, fit_mean_head, mean_head, shared_preprocess
from compress.models.features import FeatureTower
from compress.models.fingerprint import embedding_id
from compress.models.hub_loader import ImageTower
from compress.models.probe import fit_feature_probe
from compress.models.teachers import load_teacher
from compress.pipeline.plan import make_plan
from compress.pipeline.runner import run
from compress.recipe import load_recipe, parse_recipe
from compress.recipe.models import EnsembleTeacher
from compress.stages.teacher import TeacherStage
from compress.store.store import Store
from compress.utils.errors import RecipeError

CLASSES = ("across", "both", "down")
RECIPE = """\
name: tiny
data: {{source: image-folder, path: {root}/images, resolution: 32}}
stages:
  - {{id: dino, kind: teacher, teacher: {{source: timm, model: 'local-dir:{root}/dino', resolution: 28, head: probe}}}}
  - {{id: coca, kind: teacher, teacher: {{source: open_clip, model: 'local-dir:{root}/coca'}}}}
  - {{id: distilled, kind: distill, from: [dino, coca], student: test_resnet, epochs: 1, batch: 16, views: 1,
     losses: {{ce: 1, kd: 1, embedding: 1}}}}
  - {{id: pruned, kind: prune, from: distilled, target_macs: 0.6, round_to: 4,
     repair: {{epochs: 1, batch: 16, views: 1}}}}
  - {{id: int8, kind: quantize, from: pruned, calibration_images: 16}}
measure: {{batches: [1], rounds: 5, processes: 1, energy: off}}
worth: {{references: [dino]}}
"""
MORE = """\
  - {{id: joint, kind: teacher, teacher: {{source: ensemble, members: [dino, coca], combine: embeddings}}}}
  - {{id: online, kind: distill, from: [dino, coca], teacher: live, student: test_resnet, epochs: 1, batch: 16,
     losses: {{kd: 1}}}}
  - {{id: coca_int8, kind: quantize, from: coca, calibration_images: 16}}
  - {{id: files, kind: export, from: [int8, coca], runtimes: [onnxruntime]}}
measure:"""


def write_dino(folder: Path) -> None:
    """Write a DINOv2 backbone with registers and two blocks for 56 pixels, without a head, as a `local-dir:` folder."""
    shape = {"depth": 2, "embed_dim": 64, "num_heads": 2, "img_size": 56, "num_classes": 0}
    torch.manual_seed(0)
    backbone = timm.create_model("vit_small_patch14_reg4_dinov2", **shape)
    weights = {name: value.clone() for name, value in backbone.state_dict().items()}
    for name in weights:
        if name.endswith("gamma"):  # 1e-5 before training, with which the class token says nothing of the image
            weights[name].fill_(1.0)
    folder.mkdir()
    save_file(weights, folder / "model.safetensors")
    cfg = {"input_size": [3, 56, 56], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "num_classes": 0}
    cfg |= {"fixed_input_size": True, "interpolation": "bicubic", "crop_pct": 1.0, "classifier": "head"}
    config = {"architecture": "vit_small_patch14_reg4_dinov2", "num_classes": 0, "pretrained_cfg": cfg}
    (folder / "config.json").write_text(json.dumps({**config, "model_args": shape}))


def write_coca(folder: Path) -> None:
    """Write a CoCa model of one layer per tower with random weights as a `local-dir:` folder."""
    import open_clip

    config = open_clip.get_model_config("coca_base")
    config["embed_dim"] = 32
    config["vision_cfg"] |= {"image_size": 32, "patch_size": 8, "width": 64, "layers": 1, "attn_pooler_heads": 2}
    config["vision_cfg"] |= {"head_width": 32}
    config["text_cfg"] |= {"width": 64, "heads": 2, "layers": 1}
    config["multimodal_cfg"] |= {"width": 64, "heads": 2, "layers": 1}
    folder.mkdir()
    preprocess = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    torch.manual_seed(0)
    model = open_clip.coca_model.CoCa(**{name: value for name, value in config.items() if name != "custom_text"})
    save_file(
        {n: v.clone().contiguous() for n, v in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    job = Job(tmp_path_factory.mktemp("foundation"))
    for split, count in (("train", 12), ("val", 8), ("test", 6)):
        photographs(job.root / "images" / split, count, seed=count)
    write_dino(job.root / "dino")
    write_coca(job.root / "coca")
    job.recipe.write_text(RECIPE.format(root=job.root))
    run(load_recipe(job.recipe), job.runs, dry_run_first=False)
    yield job


def stored(job: Job, name: str) -> Path:
    store = Store(job.runs / "store")
    return store.path(make_plan(load_recipe(job.recipe), store).stage(name).key)


@pytest.mark.slow
def test_every_stage_of_the_chain_is_made(taught: Job) -> None:
    results = taught.results()
    made = {variant["id"]: variant for variant in results["variants"]}
    names = {"dino", "coca", "dino-and-coca", "distilled", "pruned", "int8"}
    assert made.keys() == names and not results.get("failed")
    assert (
        made["dino-and-coca"]["inference"]["macs"]
        == made["dino"]["inference"]["macs"] + made["coca"]["inference"]["macs"]
    )


@pytest.mark.slow
def test_a_backbone_without_a_head_gets_a_probe_on_its_pooled_features(taught: Job) -> None:
    backbone = timm.create_model(f"local-dir:{taught.root / 'dino'}", pretrained=True, img_size=28).eval()
    head = load_file(stored(taught, "dino") / "head.safetensors")
    transform = timm.data.create_transform(
        **timm.data.resolve_model_data_config(backbone) | {"input_size": (3, 28, 28)}, is_training=False
    )
    files = sorted((taught.root / "images" / "test").glob("*/*.png"))
    with torch.no_grad():
        features = backbone(torch.stack([transform(Image.open(file).convert("RGB")) for file in files]))
    logits = (features @ head["weight"].T + head["bias"]).numpy()
    ours = np.load(stored(taught, "dino") / "test_logits.npy")
    assert logits.shape == ours.shape and np.ptp(ours, axis=0).min() > 0.01
    distances = [np.abs(ours - row).max(1).min() for row in logits]
    assert max(distances) < 0.1 * np.ptp(ours), "each image's logits are among those of the run"


@pytest.mark.slow
def test_an_ensemble_gives_the_mean_of_its_members_logits(taught: Job) -> None:
    dino, coca, both = (np.load(stored(taught, name) / "test_logits.npy") for name in ("dino", "coca", "dino-and-coca"))
    # Members of other resolutions get pixels that were resized twice: the same classes, and nearly the same logits.
    assert both.shape == dino.shape == (18, 3)
    assert np.corrcoef(both.ravel(), ((dino + coca) / 2).ravel())[0, 1] > 0.99


@pytest.mark.slow
def test_a_student_learns_from_the_cached_embeddings_of_both(taught: Job) -> None:
    widths = {np.load(file, mmap_mode="r").shape[1] for file in (taught.runs / "store").glob("*/embeddings.npy")}
    assert widths == {64, 64 + 32}
    assert load_file(stored(taught, "dino-and-coca") / "head.safetensors")["weight"].shape == (3, 64 + 32)
    made = {variant["id"]: variant for variant in taught.results()["variants"]}
    parts = {part["what"]: part["macs"] for part in made["distilled"]["training"]["parts"]}
    images = int(next(what for what in parts if "views of" in what).split()[-2])
    teachers = made["dino-and-coca"]["inference"]["macs"]
    assert parts[f"teacher: 1 views of {images} images"] == images * teachers


@pytest.mark.slow
def test_ensembles_by_embeddings_and_in_every_step_and_coca_in_int8(taught: Job, tmp_path: Path) -> None:
    text = RECIPE.replace("measure:", MORE).replace("name: tiny", "name: more").format(root=taught.root)
    (tmp_path / "tiny.yaml").write_text(text)
    done = run(load_recipe(tmp_path / "tiny.yaml"), taught.runs, dry_run_first=False)
    assert done
    made = {variant.id: variant for variant in done.record.variants}
    key = make_plan(load_recipe(tmp_path / "tiny.yaml"), Store(taught.runs / "store")).stage("joint").key
    head = load_file(taught.runs / "store" / key / "head.safetensors")
    assert head["weight"].shape == (3, 64 + 32) and made["joint"].accuracy.n == 18
    lengths = [np.linalg.norm(np.load(file), axis=1) for file in (taught.runs / "store").glob("*/embeddings.npy")]
    assert any(np.allclose(each, 2**0.5, atol=1e-2) for each in lengths), "each member's embeddings have length 1"
    online = {part.what: part.macs for part in made["online"].training.parts}
    assert online["teacher: live, 1 epochs"] % made["dino-and-coca"].inference.macs == 0
    assert made["coca_int8"].inference.quantized_convs == 1
    for name in ("int8", "coca"):
        (file,) = made[name].artifacts
        assert file.top1_agreement is not None and file.top1_agreement > 0.9


@pytest.mark.slow
def test_coca_gives_the_embedding_that_open_clip_gives(taught: Job) -> None:
    import open_clip

    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{taught.root / 'coca'}")
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert isinstance(model.eval().visual(images), tuple)
        own = ImageTower(model.visual)(images)
        assert torch.equal(own, model.encode_image(images, normalize=True))


@pytest.mark.slow
def test_the_resolved_recipe_makes_the_same_stages(taught: Job) -> None:
    folder = next(iter((taught.runs / "tiny").glob("*/recipe.yaml")))
    text = folder.read_text()
    recipe, again = load_recipe(taught.recipe), parse_recipe(text)
    store = Store(taught.runs / "store")
    assert make_plan(again, store).stages == make_plan(recipe, store).stages
    (ensemble,) = (stage for stage in recipe.stages if stage.id == "dino-and-coca")
    assert isinstance(ensemble, TeacherStage) and isinstance(ensemble.teacher, EnsembleTeacher)
    assert [stage.id for stage in recipe.stages].count("dino-and-coca") == 1, "two stages share it"


# --- arithmetic on small arrays ---------------------------------------------------------------------------------------


def preprocess(side: int, level: float) -> Preprocess:
    return Preprocess(side, (level,) * 3, (level / 2,) * 3)


def test_each_member_gets_its_own_resolution_and_normalisation() -> None:
    towers = [torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()) for _ in range(2)]
    members = [
        Member(tower, None, preprocess(side, level))
        for tower, side, level in zip(towers, (8, 16), (0.5, 0.25), strict=True)
    ]
    ensemble = EnsembleTower(members, unit=False)
    assert shared_preprocess(members) == Preprocess(16, (0.0,) * 3, (1.0,) * 3)
    images = torch.full((2, 3, 16, 16), 0.75)
    assert torch.allclose(ensemble(images), torch.tensor([[1.0] * 3 + [4.0] * 3] * 2), atol=1e-5)
    unit = EnsembleTower(members, unit=True)(images)
    assert torch.allclose(unit.square().sum(1), torch.full((2,), 2.0)) and ensemble.widths == [3, 3]


def test_the_head_is_the_mean_of_the_heads() -> None:
    torch.manual_seed(0)
    linear, other = torch.nn.Linear(4, 3), torch.nn.Linear(2, 3, bias=False)
    merged = mean_head([linear, torch.nn.Identity(), other], [4, 3, 2], 3)
    embeddings = torch.randn(5, 9)
    parts = embeddings.split([4, 3, 2], dim=1)
    expected = (linear(parts[0]) + parts[1] + other(parts[2])) / 3
    assert torch.allclose(merged(embeddings), expected, atol=1e-6)


def test_probes_of_members_are_fitted_on_their_own_embeddings() -> None:
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(30) % 3
    first = torch.randn(30, 4, generator=rng) + 3 * torch.nn.functional.one_hot(labels, 4)
    second = torch.randn(30, 2, generator=rng)
    tower = EnsembleTower(
        [Member(Fixed(4), None, preprocess(8, 0.5)), Member(Fixed(2), torch.nn.Linear(2, 3), preprocess(8, 0.5))],
        unit=False,
    )
    sides = (torch.cat([first, second], 1), labels)
    probe = fit_mean_head(tower, fit_feature_probe, sides, sides, 3)
    alone = fit_feature_probe((first, labels), (first, labels), 3)
    fixed = tower.heads[1]
    assert fixed is not None
    assert torch.allclose(probe.head(sides[0]), (alone.head(first) + fixed(second)) / 2, atol=1e-5)
    assert probe.macs == alone.macs and probe.strength == alone.strength


class Fixed(torch.nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.ones(len(images), self.width)


@pytest.mark.parametrize(
    "model",
    [
        "vit_small_patch16_dinov3",
        "vit_tiny_patch16_224.augreg_in21k",
        "convnextv2_atto.fcmae",
        "eva02_tiny_patch14_224",
    ],
)
def test_backbones_give_their_pooled_features(model: str, tmp_path: Path) -> None:
    side = 28 if "patch14" in model else 32
    sized = {"img_size": side} if "patch" in model else {}
    torch.manual_seed(0)
    backbone = timm.create_model(model, num_classes=0, **sized).eval()
    save_file({n: v.clone().contiguous() for n, v in backbone.state_dict().items()}, tmp_path / "w.safetensors")
    section = {"source": "timm", "model": model, "checkpoint": str(tmp_path / "w.safetensors"), "resolution": side}
    teacher = parse_recipe(json.dumps(recipe_of({**section, "head": "probe"}))).stages[0].teacher  # type: ignore[attr-defined]
    loaded = load_teacher(teacher, None, CLASSES, 32)  # type: ignore[arg-type]
    images = torch.randn(2, 3, side, side)
    with torch.no_grad():
        assert isinstance(loaded.tower, FeatureTower)
        assert torch.allclose(loaded.tower(images), backbone(images), atol=1e-5)


def test_the_decoder_of_a_masked_autoencoder_is_left_out(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = timm.create_model("test_vit", num_classes=0, img_size=32, global_pool="token")
    decoder = {"mask_token": torch.zeros(1, 1, 8), "decoder_embed.weight": torch.zeros(8, 64)}
    torch.save({"model": {**encoder.state_dict(), **decoder}}, tmp_path / "mae.pth")
    section = {"source": "timm", "model": "test_vit", "checkpoint": str(tmp_path / "mae.pth"), "head": "probe"}
    teacher = parse_recipe(json.dumps(recipe_of(section))).stages[0].teacher  # type: ignore[attr-defined]
    loaded = load_teacher(teacher, None, CLASSES, 32)  # type: ignore[arg-type]
    assert any("left out decoder_embed, mask_token" in note for note in loaded.notes), loaded.notes


def recipe_of(*teachers: dict[str, Any], **distill: Any) -> dict[str, Any]:
    """Return a recipe with the stages t0, t1, ..., and a `distill` stage if it is given keys."""
    stages: list[dict[str, Any]] = [
        {"id": f"t{number}", "kind": "teacher", "teacher": teacher} for number, teacher in enumerate(teachers)
    ]
    if distill:
        stages.append({"id": "d", "kind": "distill", "student": "test_resnet", **distill})
    return {"name": "a", "data": "cifar10-sample", "stages": stages}


def test_ensembles_are_told_apart_in_keys() -> None:
    one = {"source": "timm", "model": "test_resnet", "pretrained": True}
    two = {"source": "timm", "model": "test_vit", "pretrained": True}
    sections = [
        EnsembleTeacher.model_validate({"source": "ensemble", "members": members, "combine": combine})
        for members in ([one, two], [two, one])
        for combine in ("logits", "embeddings")
    ]
    assert len({json.dumps(embedding_id(section), sort_keys=True) for section in sections}) == 4
    assert sections[0].pretraining is None and sections[0].head == "own" and sections[1].head == "probe"
    costs = {"samples": 10, "macs_per_sample": 3, "source": "a paper"}
    known = EnsembleTeacher.model_validate(
        {"source": "ensemble", "members": [{**one, "pretraining": costs}, {**two, "pretraining": costs}]}
    )
    assert known.pretraining and (known.pretraining.macs, known.pretraining.source) == (60, "a paper")


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (["t0", "t9"], "'t9' is not a `teacher` stage; allowed: t0 or t1"),
        (["t0", "t0"], "'t0' is listed twice; remove one"),
        (["t0"], "stages.d.from: must be a string, not a list"),
        (["t0", "d"], "'d' is not a `teacher` stage; allowed: t0 or t1"),
    ],
)
def test_wrong_lists_of_teachers_are_one_problem(start: list[str], message: str) -> None:
    one = {"source": "timm", "model": "test_resnet", "pretrained": True}
    with pytest.raises(RecipeError) as raised:
        parse_recipe(json.dumps(recipe_of(one, {**one, "model": "test_vit"}, **{"from": start})))
    assert message in str(raised.value) and len(raised.value.problems) == 1


def test_several_teachers_are_no_network_to_compress() -> None:
    one = {"source": "timm", "model": "test_resnet", "pretrained": True}
    recipe = recipe_of(one, {**one, "model": "test_vit"}, {"source": "ensemble", "members": ["t0", "t1"]})
    recipe["stages"].append({"id": "p", "kind": "prune", "from": "t2", "target_macs": 0.5})
    with pytest.raises(RecipeError, match="stage p cannot prune an ensemble; start it from one of its teachers"):
        parse_recipe(json.dumps(recipe))
