"""Checkpoints as people have them: each form is loaded and said, or refused with the remedy."""

from __future__ import annotations

import argparse
import copy
import io
import json
import pickle
import re
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from lightning.fabric.utilities.data import AttributeDict
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from compress.data.preprocess import Preprocess
from compress.models.classifiers import _as_stored
from compress.models.factory import create_model
from compress.models.weights_file import load_into, read_checkpoint
from compress.utils.errors import CompressError

State = dict[str, Tensor]
CLASSES = ("cat", "dog", "fox")


@cache
def network(seed: int = 0, classes: int = 3) -> nn.Module:
    """A small network in eval mode whose statistics are not those of initialisation."""
    torch.manual_seed(seed)
    model = create_model("timm", "test_resnet", classes, 32)
    with torch.no_grad():
        model(torch.randn(8, 3, 32, 32))
    return model.eval()


def state(seed: int = 0, classes: int = 3) -> State:
    return dict(network(seed, classes).state_dict())


def prefixed(prefix: str, weights: State) -> State:
    return {prefix + name: value for name, value in weights.items()}


def without(weights: State, *ends: str) -> State:
    return {name: value for name, value in weights.items() if not name.endswith(ends)}


def renamed(weights: State, **names: str) -> State:
    return {re.sub("^fc", names.get("fc", "fc"), name): value for name, value in weights.items()}


OMEGACONF = {
    f"omegaconf.{module}": type(name, (), {"__module__": f"omegaconf.{module}"})
    for module, name in (("nodes", "AnyNode"), ("listconfig", "ListConfig"), ("dictconfig", "DictConfig"))
}


def omegaconf() -> Any:
    def made(module: str, **attributes: Any) -> Any:
        value = OMEGACONF[f"omegaconf.{module}"]()
        vars(value).update(attributes)
        return value

    names = made("listconfig", _content=[made("nodes", _val=name) for name in CLASSES])
    return made("dictconfig", _content={"classes": names, "lr": made("nodes", _val=0.1)})


def trained(**more: Any) -> dict[str, Any]:
    """A whole training checkpoint, with an optimizer and objects of any type."""
    model = copy.deepcopy(network())
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    optimizer.step()
    args = argparse.Namespace(lr=0.1, out=Path("runs"), mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6], img_size=64)
    best = np.float64(0.9)
    return {"epoch": 3, "best": best, "optimizer": optimizer.state_dict(), "args": args, "loss": nn.NLLLoss(), **more}


def lightning(**more: Any) -> dict[str, Any]:
    parameters = AttributeDict(lr=0.1)
    return {"pytorch-lightning_version": "2.6", "callbacks": {}, "hyper_parameters": parameters, "loops": {}, **more}


@dataclass(frozen=True)
class Form:
    """A way to save a network, and what becomes of it."""

    content: Callable[[], Any]  # what is saved
    said: str = ""  # part of a note, or of the error
    ema: bool | None = None
    new_head: bool = False  # whether the network is trained afterwards
    save: Callable[[Any, Path], None] = torch.save
    ending: str = ".pth"


def legacy(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def bytes_of(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def with_omegaconf(content: Any, path: Path) -> None:
    """Save objects of OmegaConf, which is neither installed nor needed to read them."""
    modules = {"omegaconf": types.ModuleType("omegaconf")}
    for name, kind in OMEGACONF.items():
        modules[name] = types.ModuleType(name)
        setattr(modules[name], kind.__name__, kind)
    with patch.dict(sys.modules, modules):
        torch.save(content, path)


def script(content: nn.Module, path: Path) -> None:
    torch.jit.save(torch.jit.trace(content, torch.zeros(1, 3, 32, 32)), path)


def compressed(content: Any, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("best/data.pkl", pickle.dumps(content))


def ema() -> Any:
    return AveragedModel(network())


def heads(*names: str) -> State:
    """The network's weights with these heads instead of its own, of 3 and more outputs."""
    trunk = without(state(), "fc.weight", "fc.bias")
    width = state()["fc.weight"].shape[1]
    return trunk | {f"{name}.weight": torch.ones(3 + at, width) for at, name in enumerate(names)}


BUFFERS = ("running_mean", "running_var", "num_batches_tracked")

LOADED = {
    "state dict": Form(state),
    "state dict of safetensors": Form(state, save=save_file, ending=".safetensors"),
    "safetensors that is called .bin": Form(state, save=save_file, ending=".bin"),
    "file older than PyTorch 1.6": Form(state, save=legacy),
    "state_dict": Form(lambda: {"state_dict": state(), "epoch": 3}, "took 'state_dict'", ending=".tar"),
    "model_state_dict": Form(lambda: trained(model_state_dict=state()), "took 'model_state_dict'", ending=".pt"),
    "net, with accuracy": Form(lambda: {"net": state(), "acc": 95.1, "epoch": 7}, "took 'net'", save=legacy),
    "network": Form(lambda: {"network": state()}, "took 'network'"),
    "nested twice": Form(lambda: {"params": {"model": state()}}, "took 'params.model'"),
    "unusual name": Form(lambda: {"my_classifier": state()}, "took 'my_classifier'"),
    "Namespace, Path, NumPy scalar, loss module": Form(lambda: trained(model=state()), "took 'model'"),
    "omegaconf": Form(lambda: {"config": omegaconf(), "model": state()}, "took 'model'", save=with_omegaconf),
    "optimizer object": Form(lambda: {"model": state(), "optim": torch.optim.SGD(network().parameters(), 0.1)}),
    "DataParallel": Form(lambda: prefixed("module.", state()), "took the prefix 'module.' off"),
    "DataParallel in safetensors": Form(
        lambda: prefixed("module.", state()), "'module.' off", save=save_file, ending=".safetensors"
    ),
    "torch.compile": Form(lambda: prefixed("_orig_mod.", state()), "took _orig_mod off"),
    "torch.compile of DataParallel": Form(lambda: {"model": prefixed("_orig_mod.module.", state())}, "'module.' off"),
    "torch.compile of a block": Form(
        lambda: {name.replace("layer1.", "layer1._orig_mod."): value for name, value in state().items()}, "_orig_mod"
    ),
    "Lightning": Form(
        lambda: lightning(state_dict={**prefixed("model.", state()), "criterion.weight": torch.ones(3)}),
        "took the prefix 'model.' off; left out criterion",
        ending=".ckpt",
    ),
    "one prefix of any name": Form(lambda: prefixed("encoder.model.", state()), "the prefix 'encoder.model.' off"),
    "head of another part": Form(
        lambda: {("head." if n.startswith("fc") else "backbone.") + n: v for n, v in state().items()},
        "took the prefix 'backbone.' off; took its head 'head.fc' as 'fc'",
    ),
    "head in a Sequential with dropout": Form(lambda: renamed(state(), fc="fc.1"), "took its head 'fc.1' as 'fc'"),
    "EMA by default": Form(
        lambda: {"state_dict": state(1), "state_dict_ema": state()},
        "took 'state_dict_ema', not state_dict (EMA weights; `ema: false` takes the others)",
    ),
    "EMA where asked": Form(lambda: {"model": state(1), "model_ema": prefixed("module.", state())}, "EMA", ema=True),
    "no EMA where asked": Form(
        lambda: {"model": state(), "model_ema": state(1)}, "took 'model', not model_ema", ema=False
    ),
    "AveragedModel": Form(lambda: ema().state_dict(), "took the prefix 'module.' off; left out n_averaged", ema=True),
    "torchvision's training script": Form(
        lambda: trained(model=state(1), model_ema=ema().state_dict()), "took 'model_ema', not model (EMA weights"
    ),
    "EMA of parameters only": Form(
        lambda: {"model": {**state(1), **{n: v for n, v in state().items() if n.endswith(BUFFERS)}},
                 "ema": {"decay": 0.99, "shadow": without(state(), *BUFFERS)}},
        "took 'ema.shadow', not model",
    ),
    "EMA by its prefix": Form(
        lambda: lightning(state_dict=prefixed("net.", state(1)) | prefixed("ema_net.module.", state())),
        "took the prefix 'ema_net.module.' off; left out net",
    ),
    "no EMA by its prefix": Form(
        lambda: lightning(state_dict=prefixed("net.", state()) | prefixed("ema_net.module.", state(1))),
        "took the prefix 'net.' off; left out ema_net",
        ema=False,
    ),
    "Lightning's WeightAveraging": Form(
        lambda: lightning(state_dict=state(), current_model_state=state(1)), "took 'state_dict', not current_model"
    ),
    "without num_batches_tracked": Form(lambda: without(state(), "num_batches_tracked")),
    "counters of thop": Form(
        lambda: state() | {"total_ops": torch.zeros(1), "layer1.total_params": torch.zeros(1)},
        "left out layer1.total_params, total_ops",
    ),
    "auxiliary head": Form(lambda: state() | {"aux1.fc.weight": torch.ones(3, 8)}, "left out aux1"),
    "teacher beside the student": Form(
        lambda: prefixed("student.", state()) | prefixed("teacher.", state(1)), "took the prefix 'student.' off"
    ),
    "half precision": Form(lambda: {name: v.double() if v.is_floating_point() else v for name, v in state().items()}),
    "whole module": Form(network),
    "whole module, older than PyTorch 1.6": Form(lambda: {"model": network(), "epoch": 1}, "took 'model'", save=legacy),
    "whole module in DataParallel": Form(lambda: nn.DataParallel(network()), "took the prefix 'module.' off"),
    "TorchScript": Form(network, save=script),
    "one network under two names": Form(lambda: dict.fromkeys(("model", "last"), state()), "took 'model'"),
    "OrderedDict with metadata": Form(lambda: OrderedDict(network().state_dict()), ending=".bin"),
}  # fmt: skip
REFUSED = {
    "7 outputs instead of 3": Form(
        lambda: state(0, 7), "has 7 outputs, not 3: its head does not fit the classes; name"
    ),
    "no head": Form(lambda: without(state(), "fc.weight", "fc.bias"), "fc.weight is missing .*fine-tune it first"),
    "two heads": Form(
        lambda: heads("fc_age", "fc_kind"),
        r"the model does not have \(fc_age with 3 outputs, fc_kind with 4.*save the weights with the one head",
    ),
    "a head more": Form(lambda: {**heads("fc_age"), **state()}, r"\(fc_age with 3 outputs\)"),
    "another architecture": Form(
        lambda: dict(create_model("timm", "resnet10t", 3, 32).state_dict()), r"\(\d+ differences in all\); set `model`"
    ),
    "a layer before the network": Form(
        lambda: {**prefixed("model.", state()), "normalize.mean": torch.zeros(3)},
        "normalize.mean is not in the model .*if the network does not need it, save the weights without it",
    ),
    "quantized weights": Form(
        lambda: {**state(), "fc.weight": state()["fc.weight"].to(torch.int8)}, r"fc.weight is int8 \[3, \d+\] instead"
    ),
    "several networks": Form(
        lambda: {"generator": state(), "critic": state(1)},
        r"several networks \(generator, critic\); save the one to use: torch.save\(checkpoint\['generator'\]",
    ),
    "two students under prefixes": Form(
        lambda: prefixed("a.", state()) | prefixed("b.", state(1)), r"several networks \(a., b.\); save the one to use"
    ),
    "no EMA": Form(lambda: {"model": state()}, "holds no EMA weights; remove `ema: true`", ema=True),
    "no EMA of the network": Form(
        lambda: state() | {"ema.decay": torch.ones(1)}, "holds no complete EMA weights of the model; remove", ema=True
    ),
    "only EMA": Form(lambda: {"model_ema": state()}, "holds only EMA weights .*; remove `ema: false`", ema=False),
    "EMA without names": Form(lambda: {"ema": {"shadow_params": list(state().values())}}, "no network with named"),
    "optimizer alone": Form(lambda: trained(), "holds no network with named weights; convert it where it was made"),
    "a list of arrays": Form(
        lambda: [np.zeros(3)], "holds no network with named weights; convert it where it was made"
    ),
    "plain pickle": Form(lambda: pickle.dumps(state()), "is a plain pickle, .*; convert it", save=bytes_of),
    "Git LFS pointer": Form(
        lambda: b"version https://git-lfs.github.com/spec/v1\n", "run `git lfs pull`", save=bytes_of
    ),
    "web page": Form(lambda: b"<!DOCTYPE html><html>", "is a web page or XML file; download", save=bytes_of),
    "empty": Form(lambda: b"", "is empty; copy it again", save=bytes_of),
    "cut off": Form(lambda: saved(state())[:-5000], "is damaged .*; copy it again, or convert it", save=bytes_of),
    "Keras": Form(lambda: b"\x89HDF\r\n\x1a\n" + bytes(99), "is an HDF5 file of Keras; convert it", save=bytes_of),
    "archive of something else": Form(lambda: archive(model="{}"), "is an archive without data.pkl", save=bytes_of),
    "big-endian": Form(
        lambda: archive(**{"a/data.pkl": "", "a/byteorder": "big"}), "from a big-endian machine; convert", save=bytes_of
    ),
    "compressed archive": Form(state, "is compressed, which torch.save does not do", save=compressed),
}
STARTS = {
    "7 outputs instead of 3": Form(lambda: state(0, 7), "its head has 7 outputs, not 3; it starts from a new one"),
    "no head": Form(lambda: without(state(), "fc.weight", "fc.bias"), "the file has no head; it starts from a new one"),
    "two heads": Form(
        lambda: heads("fc_age", "fc_kind"), "left out fc_age, fc_kind; the file has no head; it starts from a new one"
    ),
}


def saved(content: Any) -> bytes:
    out = io.BytesIO()
    torch.save(content, out)
    return out.getvalue()


def archive(**files: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return out.getvalue()


def load(form: Form, folder: Path) -> tuple[nn.Module, tuple[str, ...]]:
    path = folder / f"weights{form.ending}"
    form.save(form.content(), path)
    torch.manual_seed(2)
    model = create_model("timm", "test_resnet", 3, 32)
    notes = load_into(model, read_checkpoint(path, ema=form.ema), str(path), new_head=form.new_head)
    return model.eval(), notes


@pytest.fixture(autouse=True)
def no_unpickling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is read by a reader that could run code."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("torch.load or pickle.load was called")

    for name in ("torch.load", "torch.jit.load", "pickle.load", "pickle.loads"):
        monkeypatch.setattr(name, never)


@pytest.mark.parametrize("form", LOADED.values(), ids=LOADED)
def test_a_form_is_loaded_and_said(form: Form, tmp_path: Path) -> None:
    model, notes = load(form, tmp_path)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(images), network()(images))
    assert form.said in "; ".join(notes), notes
    assert form.said or not notes or "took" in notes[0]


@pytest.mark.parametrize("form", REFUSED.values(), ids=REFUSED)
def test_a_form_is_refused_with_the_remedy(form: Form, tmp_path: Path) -> None:
    with pytest.raises(CompressError, match=form.said) as caught:
        load(form, tmp_path)
    assert str(caught.value).startswith(str(tmp_path / "weights"))


@pytest.mark.parametrize("form", STARTS.values(), ids=STARTS)
def test_a_start_for_other_classes_gets_a_new_head(form: Form, tmp_path: Path) -> None:
    model, notes = load(replace(form, new_head=True), tmp_path)
    assert form.said in "; ".join(notes)
    torch.manual_seed(2)
    initial = create_model("timm", "test_resnet", 3, 32).state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(value, initial[name] if name.startswith("fc") else form.content()[name]), name


@pytest.mark.parametrize("beside", [torch.eye(3), {"per class": torch.eye(3), "counts": torch.ones(3, 3)}])
def test_tables_beside_a_network_are_none(beside: Any, tmp_path: Path) -> None:
    torch.save({"model": state(), "confusion_matrix": beside, "epoch": 9}, tmp_path / "best.pth")
    torch.save(state(), tmp_path / "plain.pth")
    for name in ("best.pth", "plain.pth"):
        model = network(seed=1)
        load_into(model, read_checkpoint(tmp_path / name), name, new_head=False)
        assert all(torch.equal(value, state()[key]) for key, value in model.state_dict().items()), name


def test_a_resize_without_the_size_of_the_crop_holds_for_no_size(tmp_path: Path) -> None:
    """A crop of 64 pixels of 256 would show the network a sixteenth of the picture."""
    for stated, resize in (({"resize": 256}, 64), ({"resize": 73, "img_size": 64}, 73), ({"crop_pct": 0.875}, 73)):
        torch.save({"state_dict": state(), "args": argparse.Namespace(**stated)}, tmp_path / "best.pth")
        stored = read_checkpoint(tmp_path / "best.pth").preprocess
        assert _as_stored(Preprocess(64, (0.5,) * 3, (0.5,) * 3, resize=64), stored).resize == resize


def test_weights_of_a_module_are_in_its_order(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "a.pth")
    assert list(read_checkpoint(tmp_path / "a.pth").weights) == list(state())


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match=r"weights file .*none\.pth not found"):
        read_checkpoint(tmp_path / "none.pth")
    with pytest.raises(CompressError, match="is a folder; name the weights file in it"):
        read_checkpoint(tmp_path)


# --- what a file says about its network -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "about",
    [
        {"classes": list(CLASSES)},
        {"class_to_idx": {"fox": 2, "cat": 0, "dog": 1}},
        {"idx_to_class": dict(enumerate(CLASSES))},
        {"args": argparse.Namespace(class_names=CLASSES)},
        {"hyper_parameters": {"id2label": {"0": "cat", "1": "dog", "2": "fox"}}},
        {"meta": {"CLASSES": CLASSES}},
    ],
)
def test_class_names_are_found_in_training_checkpoints(about: dict[str, Any], tmp_path: Path) -> None:
    torch.save({"model": state(), **about}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth").classes == CLASSES


@pytest.mark.parametrize(
    "classes", [[1, 2, 3], ["cat", "cat", "fox"], {"cat": 0, "dog": 5}, {"cat": "a"}, "cat", [], {0: "cat", 1: None}]
)
def test_what_names_no_classes_is_passed_over(classes: Any, tmp_path: Path) -> None:
    torch.save({"model": state(), "classes": classes}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth").classes is None


def test_class_names_of_omegaconf_and_of_modules_are_found(tmp_path: Path) -> None:
    with_omegaconf({"model": state(), "config": omegaconf()}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth").classes == CLASSES
    model = copy.deepcopy(network())
    model.names = dict(enumerate(CLASSES))  # type: ignore[assignment]
    torch.save(model, tmp_path / "b.pth")
    assert read_checkpoint(tmp_path / "b.pth").classes == CLASSES


def test_preprocessing_is_found_in_arguments_metadata_and_configurations(tmp_path: Path) -> None:
    torch.save(trained(model=state()), tmp_path / "a.pth")
    found = read_checkpoint(tmp_path / "a.pth").preprocess
    assert (found.mean, found.std, found.input_size) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 64)
    about = {"mean": "[0.1, 0.2, 0.3]", "std": "[1, 1, 1]", "crop_pct": "0.95", "input_size": "[3, 48, 48]"}
    save_file(state(), tmp_path / "b.safetensors", {**about, "classes": json.dumps(CLASSES)})
    read = read_checkpoint(tmp_path / "b.safetensors")
    assert (read.preprocess.std, read.preprocess.crop_pct, read.preprocess.input_size) == ((1.0, 1.0, 1.0), 0.95, 48)
    assert read.classes == CLASSES
    config = {"interpolation": "bicubic", "mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 224, 224]}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet18", "pretrained_cfg": config}))
    save_file(state(), tmp_path / "model.safetensors")
    assert read_checkpoint(tmp_path / "model.safetensors").preprocess.interpolation == "bicubic"


@pytest.mark.parametrize("about", [{"mean": [0.5] * 3}, {"mean": [0.5] * 3, "std": [0.0] * 3}, {"mean": 0.5, "std": 1}])
def test_half_a_normalization_is_none(about: dict[str, Any], tmp_path: Path) -> None:
    torch.save({"model": state(), **about}, tmp_path / "a.pth")
    found = read_checkpoint(tmp_path / "a.pth").preprocess
    assert found.mean is None and found.std is None


# --- the order of the classes -----------------------------------------------------------------------------------------


def in_order(data: tuple[str, ...], own: tuple[str, ...] | None = CLASSES, new_head: bool = False) -> tuple[Any, str]:
    """Logits of a model for the classes `data` that takes the weights of `network`, and the notes."""
    torch.manual_seed(2)
    model = create_model("timm", "test_resnet", len(data), 32)
    checkpoint = replace(as_checkpoint(), classes=own)
    notes = load_into(model, checkpoint, "it.pth", new_head=new_head, classes=data)
    with torch.no_grad():
        return model.eval()(images()), "; ".join(notes)


def as_checkpoint() -> Any:
    from compress.models.weights_file import Checkpoint

    return Checkpoint(state())


def images() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_outputs_follow_the_data_by_class_name() -> None:
    with torch.no_grad():
        expected = network()(images())
    for data, rows in (
        (CLASSES, [0, 1, 2]),
        (("dog", "fox", "cat"), [1, 2, 0]),
        (("Fox", "DOG", "cat"), [2, 1, 0]),
        (("dog", "cat"), [1, 0]),
    ):
        logits, said = in_order(data)
        assert torch.allclose(logits, expected[:, rows], atol=1e-6)
        assert ("outputs put in the data's order by class name" in said) is (data != CLASSES)
        assert ("2 of 3 are kept" in said) is (len(data) == 2)


def test_outputs_for_other_classes_are_refused_or_left_out() -> None:
    with pytest.raises(
        CompressError, match=r"other classes \(cat, dog, fox\) than the data's \(cat, owl\); name its own"
    ):
        in_order(("cat", "owl"))
    _, said = in_order(("cat", "owl"), new_head=True)
    assert said == "its head is for other classes; it starts from a new one"


def test_a_file_of_imagenet_weights_gives_the_outputs_of_synset_folders(tmp_path: Path) -> None:
    torch.save(state(0, 1000), tmp_path / "resnet.pth")
    model = create_model("timm", "test_resnet", 2, 32)
    checkpoint = read_checkpoint(tmp_path / "resnet.pth")
    notes = load_into(model, checkpoint, "it", new_head=False, classes=("n01484850", "n01440764"))
    assert notes == ("outputs put in the data's order by class name; 2 of 1000 are kept",)
    with torch.no_grad():
        assert torch.allclose(model.eval()(images()), network(0, 1000)(images())[:, [2, 0]], atol=1e-6)


def test_an_assumed_order_of_numbers_is_said() -> None:
    assert not in_order(("0", "1", "2"), own=None)[1]
    _, said = in_order(("0", "2", "10"), own=None)
    assert said == "the file does not name its classes; its outputs are taken to be 0, 2, 10"


def test_a_convolutional_head_and_two_heads_are_put_in_order() -> None:
    from compress.models.weights_file import Checkpoint

    for library, name, side in (("torchvision", "squeezenet1_1", 64), ("timm", "levit_128s", 224)):
        torch.manual_seed(0)
        source = create_model(library, name, 3, side).eval()
        model = create_model(library, name, 3, side)
        weights = {key: value.clone() for key, value in source.state_dict().items()}
        load_into(model, Checkpoint(weights, classes=CLASSES), "it", new_head=False, classes=("fox", "cat", "dog"))
        pixels = torch.randn(1, 3, side, side)
        with torch.no_grad():
            assert torch.allclose(model.eval()(pixels), source(pixels)[:, [2, 0, 1]], atol=1e-5)


def test_names_of_an_older_timm_are_converted(tmp_path: Path) -> None:
    source = create_model("timm", "test_convnext", 3, 32).eval()
    torch.save({"model": facebook(source.state_dict())}, tmp_path / "old.pth")
    model = create_model("timm", "test_convnext", 3, 32)
    notes = load_into(model, read_checkpoint(tmp_path / "old.pth"), "it", new_head=False)
    assert "names of another version, converted by timm" in notes
    with torch.no_grad():
        assert torch.equal(model.eval()(images()), source(images()))


def facebook(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of ConvNeXt's authors."""
    names = {}
    for name, value in weights.items():
        name = name.replace("stem.", "downsample_layers.0.").replace(".blocks", "").replace("head.fc", "head")
        name = re.sub(r"stages.(\d).downsample.(\d)", r"downsample_layers.\1.\2", name)
        for new, old in (("conv_dw", "dwconv"), ("mlp.fc", "pwconv"), ("head.norm", "norm")):
            name = name.replace(new, old)
        names[name] = value
    return names
