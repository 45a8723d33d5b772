"""Contract of every runtime: those of the table, and the worked example of a plugin.

A runtime whose packages or device are missing here is skipped, with the command that adds them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from deployment.conftest import Built, Networks
from deployment.tiny_classifier import CONVOLUTIONS, LINEAR, PREPROCESS, images, network
from support import environment
from torch import nn

from compress import plugins
from compress.deployment.artifact import find_artifact, load_artifact, load_classifier
from compress.deployment.artifact_files import artifact_bytes
from compress.deployment.coverage import Coverage
from compress.deployment.export import export
from compress.deployment.runtime import ExportOnlyRuntime, Runtime, check_declared
from compress.deployment.runtimes import find_runtime, missing, require, require_engine
from compress.registry import RUNTIMES
from compress.utils.errors import CompressError, UsageError

PLUGIN = Path(__file__).parents[2] / "recipes" / "plugins" / "own_runtime.py"
NAMES = [*RUNTIMES, "torchscript"]
SLOW = ("inductor", "inductor-cuda", "tensorrt-engine")  # compile for half a minute
FROM_ONNX = ("onnxruntime", "openvino", "tensorrt")
SAME_BYTES = (*FROM_ONNX, "ncnn", "executorch")
CHECKED_TO_THE_LAST_BYTE = ("ncnn", "inductor", "inductor-cuda", "executorch")
MACHINE = {"/tmp", ".py", str(Path.home()), str(Path(__file__).parents[2])} - {"/"}
ANY_OPERATOR = ("inductor", "inductor-cuda", "torchscript")  # which run what PyTorch runs
UNCOUNTED = ("torchscript",)  # whose files do not have their MACs
INTEGER_MACS = {"onnxruntime": CONVOLUTIONS}
"""Where not all: ONNX Runtime's integer linears need a quantized output, which that of a classifier is not."""


@pytest.fixture(scope="module", autouse=True)
def _own_runtime() -> Iterator[None]:
    before = dict(RUNTIMES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(plugins.VARIABLE, "")
        patch.setattr(plugins, "_DIGESTS", {})
        plugins.load([str(PLUGIN)])
        yield
    RUNTIMES.clear()
    RUNTIMES.update(before)


def each(names: Iterable[str] = NAMES, slow: bool = True) -> pytest.MarkDecorator:
    """Parametrise a test over runtimes; those whose files take long to build are slow."""
    marks = {name: [pytest.mark.slow] for name in SLOW if slow}
    return pytest.mark.parametrize("name", [pytest.param(name, marks=marks.get(name, [])) for name in names])


def installed(name: str) -> Runtime:
    """Return the runtime, or skip the test where something is missing."""
    if absent := missing(name):
        pytest.skip(f"the runtime {name} needs {', '.join(absent)}: {find_runtime(name).install}")
    return find_runtime(name)


def runs_here(name: str) -> Runtime:
    """Return the runtime, or skip the test where its files cannot run."""
    if where := find_runtime(name).runs_on:
        pytest.skip(f"files for {name} run {where}")
    return installed(name)


def one_line(attempt: Callable[[], object], words: str, kind: type[CompressError] = CompressError) -> None:
    """Check that an attempt fails with one line that matches `words`."""
    with pytest.raises(kind, match=words) as caught:
        attempt()
    assert "\n" not in str(caught.value) and "\\x0a" not in str(caught.value), caught.value
    assert len(str(caught.value)) < 600


@each(slow=False)
def test_abilities_are_declared(name: str) -> None:
    runtime = find_runtime(name)
    check_declared(name, type(runtime))
    assert runtime.install and isinstance(runtime.experimental, bool), "which depend on the device"
    assert runtime.name == name and find_runtime(name) is runtime
    assert RUNTIMES[name].reads == runtime.reads and RUNTIMES[name].device == runtime.device
    assert runtime.files[0].endswith(runtime.reads[0]) and runtime.files[0].startswith("model.")
    assert (runtime.runs_on is not None) == isinstance(runtime, ExportOnlyRuntime)
    assert runtime.experimental or not (runtime.runs_on or runtime.device)
    assert runtime.target is None or runtime.quantizers


@each(slow=False)
def test_its_files_are_found(name: str, tmp_path: Path) -> None:
    for ending in find_runtime(name).reads:
        file = tmp_path / ending.strip(".") / f"model{ending}"
        file.parent.mkdir()
        file.touch()
        assert find_artifact(file, name) == find_artifact(file.parent, name) == (file, name)
        first = next(other for other in RUNTIMES if ending in find_runtime(other).reads)
        assert find_artifact(file) == find_artifact(file.parent) == (file, first)
        for other in RUNTIMES:
            if ending not in find_runtime(other).reads:
                one_line(partial(find_artifact, file, other), f"the runtime {other} does not read", UsageError)


@each()
@pytest.mark.parametrize("variant", ["float", "quantized"])
def test_build_writes_the_declared_files(name: str, variant: str, built: Built) -> None:
    variant = _variant(installed(name), variant)
    path = built(name, variant)
    runtime = find_runtime(name)
    assert path.name == runtime.files[0] and path.parent.name == runtime.format
    assert sorted(file.name for file in path.parent.iterdir()) == sorted([*runtime.files, "preprocess.json"])
    stated = json.loads((path.parent / "preprocess.json").read_text(encoding="utf-8"))
    precision = {"precision": runtime.precisions[0]} if variant == "float" else {}
    assert stated == {**PREPROCESS, **precision, "needs": runtime.needs(path)} and all(stated["needs"])
    beside = ("preprocess.json", "trtexec.txt")  # no part of what runs
    files = [file for file in path.parent.rglob("*") if file.is_file() and file.name not in beside]
    assert artifact_bytes(path) == sum(file.stat().st_size for file in files) > 1000


def _variant(runtime: Runtime, variant: str) -> str:
    """The variant of the tiny classifier that a runtime takes."""
    if variant == "float":
        return variant
    if "torchao" not in runtime.quantizers:
        pytest.skip(f"{runtime.name} takes float networks only")
    return runtime.target or "int8"


@each()
@pytest.mark.parametrize("variant", ["float", "quantized"])
def test_outputs_equal_those_of_pytorch(name: str, variant: str, built: Built, networks: Networks) -> None:
    variant = _variant(runs_here(name), variant)
    path, model = built(name, variant), networks(variant)
    for run in (find_runtime(name).load(path, threads=1), find_runtime(name).load(path)):
        first = run(images(2).numpy())
        kept = first.copy()
        for count in (1, 3, 35, 1):
            with torch.no_grad():
                expected = model(images(count, seed=5)).numpy()
            logits = run(images(count, seed=5).numpy())
            assert logits.shape == (count, 5) and logits.dtype == np.float32
            assert np.abs(logits - expected).max() < (1e-5 if variant == "float" else 0.02)
        assert np.array_equal(first, kept), "outputs are not overwritten by the next run"


HALF_ERROR = {"fp16": 2e-3, "bf16": 2e-2}
"""Largest difference from PyTorch's logits: rounding to 11 and to 8 bits."""
OTHERS = [(name, precision) for name in RUNTIMES for precision in find_runtime(name).precisions[1:]]


@pytest.mark.parametrize(
    ("name", "precision"), [pytest.param(*each, marks=[pytest.mark.slow] * (each[0] in SLOW)) for each in OTHERS]
)
def test_precisions_are_written_stated_and_run(
    name: str, precision: str, built: Built, networks: Networks, tmp_path: Path
) -> None:
    runtime = installed(name)
    if name == "inductor" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("PyTorch has no kernels for this processor")
    path = export(networks("float"), tmp_path, [name], PREPROCESS, precision)[name]
    assert path.parent.name == f"{runtime.format}-{precision}"
    stated = json.loads((path.parent / "preprocess.json").read_text(encoding="utf-8"))
    assert stated == {**PREPROCESS, "precision": precision, "needs": runtime.needs(path)}
    usual = artifact_bytes(built(name))
    if name not in SLOW:  # whose code takes more room than these few weights
        assert artifact_bytes(path) < usual if precision in HALF_ERROR else artifact_bytes(path) > usual
    if runtime.runs_on:
        return
    with torch.no_grad():
        expected = networks("float")(images(3, seed=5)).numpy()
    logits = find_runtime(name).load(path)(images(3, seed=5).numpy())
    assert logits.dtype == np.float32 and 0 < np.abs(logits - expected).max() < HALF_ERROR[precision]
    assert load_artifact(path, name)(np.zeros((2, 20, 20, 3), np.uint8)).shape == (2, 5)
    found = runtime.coverage(path).precisions
    if found is None:
        assert name in UNCOUNTED or runtime.device
    else:
        # In that precision, or without units for it in another one: OpenVINO runs FP16 files in bf16 on AVX512_BF16,
        # and of those the last linear layer in FP32.
        assert max(found.get(name, 0.0) for name in (precision, "bf16", "fp32")) > 0.99


@each()
def test_a_precision_that_it_does_not_write_is_refused(name: str, networks: Networks, tmp_path: Path) -> None:
    runtime = installed(name)
    for precision in {"fp32", "fp16", "bf16", "fp8"} - {*runtime.precisions}:
        words = f"^the runtime {name} writes {', '.join(runtime.precisions)}, not {precision}$"
        one_line(partial(export, networks("float"), tmp_path, [name], PREPROCESS, precision), words, UsageError)
    if "torchao" in runtime.quantizers and "fp16" in runtime.precisions:
        quantized = networks(runtime.target or "int8")
        attempt = partial(export, quantized, tmp_path, [name], PREPROCESS, "fp16")
        one_line(attempt, "^a quantized network keeps its integers; export the float network in fp16$", UsageError)
    assert list(tmp_path.iterdir()) == []


@each()
def test_an_artifact_is_loaded_in_it(name: str, built: Built) -> None:
    runs_here(name)
    artifact = load_artifact(built(name), name)
    assert artifact.runtime == name and artifact.classes == tuple(PREPROCESS["classes"])
    assert artifact(np.zeros((2, 20, 20, 3), np.uint8)).shape == (2, 5)


@each()
def test_a_folder_whose_name_is_not_unicode_is_read_or_one_line(name: str, built: Built, tmp_path: Path) -> None:
    runs_here(name)
    path = Path(shutil.copytree(built(name).parent, tmp_path / os.fsdecode(b"\xff"))) / built(name).name
    try:
        assert load_artifact(path, name)(np.zeros((2, 20, 20, 3), np.uint8)).shape == (2, 5)
    except CompressError as error:
        assert str(error).isprintable() and "not Unicode" in str(error)


@each()
def test_images_of_another_type_or_shape_are_refused(name: str, built: Built) -> None:
    runtime, path = runs_here(name), built(name)
    artifact, good = load_artifact(path, name), images(2).numpy()
    runners = artifact.run, load_classifier(runtime, path)
    for bad in (good.astype(np.float64), good.astype(np.float16), good[:, :, :8], good[:, :1], good[0]):
        for run in runners:
            one_line(partial(run, bad), r"takes images float32 \[batch, 3, 16, 16\], not float", UsageError)
    wide = np.zeros((2, 3, 16, 32), np.float32)
    wide[..., ::2] = good
    for run in runners:
        assert np.allclose(run(wide[..., ::2]), run(good), atol=1e-5), "views are copied"
    pixels = np.zeros((2, 3, 16, 16), np.uint8)
    assert artifact.batch_logits(pixels).shape == (2, 5)
    for other in (pixels / np.float32(255), pixels.astype(np.int64), pixels[:, :, :8], pixels.reshape(2, 16, 16, 3)):
        one_line(partial(artifact.batch_logits, other), r"pixels must be uint8 \[n, 3, 16, 16\]", UsageError)


@each()
@pytest.mark.parametrize("side", [8, 32])
def test_a_preprocess_json_of_another_resolution_is_refused(name: str, side: int, built: Built, tmp_path: Path) -> None:
    """Engines that do not check would read beyond the images, or compute another size than the file was made for."""
    runs_here(name)
    if name not in RUNTIMES or not isinstance(RUNTIMES[name].where, str):
        pytest.skip("the file does not have its size")
    whole = built(name)
    path = Path(shutil.copytree(whole.parent, tmp_path / "copy")) / whole.name
    (path.parent / "preprocess.json").write_text(json.dumps({**PREPROCESS, "resolution": side}))
    one_line(partial(load_artifact, path, name), "does not run in")


@each()
@pytest.mark.parametrize("variant", ["float", "quantized"])
def test_coverage_counts_what_the_runtime_executes(name: str, variant: str, built: Built) -> None:
    runtime = runs_here(name)
    coverage = runtime.coverage(built(name, _variant(runtime, variant)))
    macs = None if name in UNCOUNTED else CONVOLUTIONS + LINEAR
    convolutions, in_integer = (0, 0) if variant == "float" else (2, INTEGER_MACS.get(name, macs))
    half: int | None = 0
    if runtime.device and runtime.engine == "onnxruntime":
        convolutions, in_integer, half = None, None, None  # execution providers do not expose it
    assert replace(coverage, casts=None) == Coverage(convolutions, 2, in_integer, macs, half)
    if variant == "float" and coverage.precisions is not None:
        assert coverage.precisions == {"fp32": 1.0} and not coverage.casts


@each(slow=False)
@pytest.mark.parametrize("content", [None, b"", b"not a model\n"], ids=["absent", "empty", "foreign"])
def test_another_file_is_one_line(
    name: str, content: bytes | None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    runtime = runs_here(name)
    path = tmp_path / runtime.files[0]
    if content is not None:
        path.write_bytes(content)
    for read in (runtime.load, runtime.coverage):
        one_line(partial(read, path), r"cannot read .*model\.")
    assert capfd.readouterr() == ("", "")


@each()
def test_a_truncated_file_is_one_line(
    name: str, built: Built, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    runtime, whole = runs_here(name), built(name)
    path = Path(shutil.copytree(whole.parent, tmp_path / "copy")) / whole.name
    data = whole.read_bytes()
    capfd.readouterr()
    for cut in (200, len(data) // 2, *([1] if name in CHECKED_TO_THE_LAST_BYTE else [])):
        path.write_bytes(data[:-cut])
        for read in (runtime.load, runtime.coverage):
            one_line(partial(read, path), r"cannot read .*model\.")
    assert capfd.readouterr() == ("", "")


@each(slow=False)
def test_what_is_missing_is_named_with_the_command_that_adds_it(
    name: str, networks: Networks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = find_runtime(name)
    monkeypatch.setattr(runtime, "packages", ("numpy", "no_such_package"))
    monkeypatch.setattr(runtime, "programs", ("no-such-program",))
    assert missing(name) == ["no_such_package", "no-such-program"]
    words = rf"the runtime {name} needs no_such_package, no-such-program: {re.escape(runtime.install)}$"
    one_line(lambda: require(name), words)
    one_line(lambda: export(networks("float"), tmp_path, [name], PREPROCESS), words)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(runtime, "engine", "no_such_engine")
    expected = "written and checked here" if runtime.runs_on else "is not installed: pip install no_such_engine$"
    one_line(lambda: require_engine(name), expected)


@each([name for name in NAMES if name in RUNTIMES and find_runtime(name).runs_on])
def test_what_runs_elsewhere_is_not_run_here(name: str, tmp_path: Path) -> None:
    runtime = find_runtime(name)
    path = tmp_path / runtime.files[0]
    path.touch()
    for read in (runtime.load, runtime.coverage, lambda path: load_artifact(path, name)):
        one_line(partial(read, path), f"^files for {name} are only written and checked here; run them .*")


@each()
@pytest.mark.parametrize(("method", "variant"), [("torchao", "int8"), ("onnxruntime", "onnx")])
def test_quantized_networks_are_taken_where_declared(
    name: str, method: str, variant: str, built: Built, networks: Networks, tmp_path: Path
) -> None:
    runtime = installed(name)

    def attempt() -> dict[str, Path]:
        return export(networks(variant), tmp_path, [name], PREPROCESS)

    if method not in runtime.quantizers:
        one_line(attempt, rf"the runtime {name} does not take (quantized )?networks", UsageError)
        assert list(tmp_path.iterdir()) == []
        return
    assert built(name, runtime.target or variant).is_file()
    if runtime.target not in (None, variant):
        one_line(attempt, f"`target: {runtime.target}`")


@each(name for name in NAMES if name not in SLOW)
def test_building_again_is_quiet_and_leaves_the_network_as_it_was(
    name: str, built: Built, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    installed(name)
    first, model = built(name), network().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    capfd.readouterr()
    second = export(model, tmp_path, [name], PREPROCESS)[name]
    assert model.training and capfd.readouterr() == ("", "")
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    if name in SAME_BYTES:
        for file in second.parent.iterdir():
            data = file.read_bytes()
            assert data == (first.parent / file.name).read_bytes(), file.name
            assert [word for word in MACHINE if word.encode() in data] == [], file.name


class Unsupported(nn.Module):
    """Uses operators that only PyTorch has."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (torch.special.bessel_j0(images) + torch.special.i1(images)).mean((2, 3))


class Failing(nn.Module):
    """Raises two lines."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raise ValueError("not today\nnor tomorrow")


@each((name for name in NAMES if name not in (*ANY_OPERATOR, *FROM_ONNX[1:])), slow=False)
def test_an_operator_that_it_lacks_is_one_line(name: str, tmp_path: Path) -> None:
    installed(name)
    one_line(lambda: export(Unsupported(), tmp_path, [name], PREPROCESS), "^Unsupported cannot be .* to ")


@each(slow=False)
def test_a_network_that_fails_is_one_line(name: str, tmp_path: Path) -> None:
    installed(name)
    one_line(lambda: export(Failing(), tmp_path, [name], PREPROCESS), "^Failing cannot be ")


@each()
def test_an_artifact_takes_its_own_runtime_and_nothing_heavy(name: str, built: Built) -> None:
    runtime = runs_here(name)
    if name not in RUNTIMES or not isinstance(RUNTIMES[name].where, str):
        pytest.skip("plugins import what they like")
    code = (
        "import sys, compress\n"
        "from compress.deployment.runtimes import missing\n"
        "name, path, engine = sys.argv[1:]\n"
        "assert missing(name) == []\n"
        "assert engine not in sys.modules or '-' in name, 'only to look for a device'\n"
        "compress.load_artifact(path, name)\n"
        "print(*sys.modules)\n"
    )
    command = [sys.executable, "-c", code, name, str(built(name)), runtime.engine]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    own = str(RUNTIMES[name].where).partition(":")[0]
    assert {str(entry.where).partition(":")[0] for entry in RUNTIMES.values()} & loaded == {own}
    heavy = {"torch", "scipy", "pydantic", "yaml", "rich", "matplotlib", "onnx", "onnxruntime", "openvino", "ncnn"}
    with_torch = {"torch", "yaml"} if runtime.engine in ("torch", "executorch", "tensorrt") else set()
    assert heavy & loaded <= {runtime.engine, *with_torch}, heavy & loaded
