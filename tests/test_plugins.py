"""Own models, losses and runtimes: the worked examples run, and what is wrong with a plugin is one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Job, photographs

from compress import plugins, registry
from compress.deployment.memory import child_environment
from compress.deployment.onnx_runtime import OnnxRuntime
from compress.utils.errors import UsageError

EXAMPLES = Path(__file__).parents[1] / "recipes" / "plugins"
RECIPE = """\
name: tiny
data: {{source: image-folder, path: {root}/images, resolution: 32}}
stages:
  - {{id: teacher, kind: train, student: plain_net, epochs: 2, batch: 16, lr: 0.05}}
  - {{id: files, kind: export, from: [teacher], runtimes: [torchscript]}}
measure: {{batches: [1], rounds: 5, processes: 1, energy: off}}
worth: {{references: [teacher]}}
"""


@pytest.mark.usefixtures("no_plugins")
def test_an_own_model_runs_in_an_own_runtime(tmp_path: Path) -> None:
    job = Job(tmp_path)
    for split, count in (("train", 12), ("test", 4)):
        photographs(tmp_path / "images" / split, count, seed=count)
    job.recipe.write_text(RECIPE.format(root=tmp_path))
    without = job.run_here()
    assert without.returncode == 2 and "not 'torchscript'" in without.stderr
    careless = tmp_path / "own_runtime.py"
    text = (EXAMPLES / "own_runtime.py").read_text()
    careless.write_text(text.replace("count = thread_count(threads)", "torch.set_num_threads(count := 3)"))
    threads = torch.get_num_threads()
    both = ("--plugin", str(EXAMPLES / "own_model.py"), "--plugin", str(careless))
    done = job.run_here(*both)
    assert done.returncode == 0, done.stderr
    assert torch.get_num_threads() == threads, "its bits do not depend on what ran before"
    results = job.results()
    row = results["variants"][0]["artifacts"][0]
    assert row["runtime"] == "torchscript" and row["top1_agreement"] == 1.0
    assert {entry["runtime"] for entry in results["variants"][0]["inference"]["latency"]} == {"pytorch", "torchscript"}
    assert results["variants"][0]["inference"]["peak_memory_bytes"] > 0, "its process has the plugin too"


@pytest.mark.parametrize("helper", ["my_losses.py", "package/losses.py", "package/inner/deep.py", "later.py"])
def test_keys_have_the_code_that_a_plugin_imports(tmp_path: Path, helper: str) -> None:
    """An edited loss beside the plugin would be taken from the store otherwise, whatever was imported before."""
    (tmp_path / "package" / "inner").mkdir(parents=True)
    files = {
        "own.py": "import json, decimal\nfrom my_losses import weight\nimport package\ndef f():\n    import later\n",
        "package/__init__.py": "from . import losses\n",
        "package/losses.py": "from .inner.deep import weight\n",
        "package/inner/__init__.py": "",
        **dict.fromkeys(("my_losses.py", "package/inner/deep.py", "later.py", "other.py"), "weight = 1\n"),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    def digest(before: str = "") -> bytes:
        code = f"{before}\nfrom compress import plugins; plugins.load(['own.py']); print(*plugins.digests())"
        command = [sys.executable, "-c", code]
        return subprocess.run(command, cwd=tmp_path, env=child_environment(), capture_output=True, check=True).stdout

    first = digest()
    assert digest("import sys; sys.path.append(''); import my_losses, package, later") == first
    (tmp_path / "other.py").write_text("weight = 3\n")
    assert digest() == first, "it is not imported"
    (tmp_path / helper).write_text(files[helper] + "more = 22\n")
    assert digest() != first


@pytest.mark.usefixtures("no_plugins")
def test_an_own_loss_is_one_of_the_objective(tmp_path: Path) -> None:
    from compress.recipe.fit import Distillation
    from compress.training.objective import Objective

    plugins.load([str(EXAMPLES / "own_loss.py")])
    student, teacher = torch.tensor([[3.0, 2.5, 0.0]]), torch.tensor([[9.0, 0.0, 0.0]])
    losses = {"kd": 0.0, "own": {"margin": {"weight": 2.0, "options": {"gap": 2.0}}}}
    settings = Distillation.model_validate({"losses": losses})
    objective = Objective(settings, torch.nn.Identity(), 0, 3, {})
    loss = objective(student, student, teacher, torch.tensor([-1]), progress=0.0)
    # The teacher's class leads by 0.5 where 2 are asked for: 1.5 are lacking, times the weight.
    assert float(loss) == pytest.approx(2 * 1.5)


@pytest.mark.usefixtures("no_plugins")
def test_names_of_the_package_are_not_replaced() -> None:
    own = type("Own", (OnnxRuntime,), {})
    with pytest.raises(UsageError, match="there is a runtime 'openvino' already; give Own another name"):
        plugins.runtime("openvino", own)
    with pytest.raises(UsageError, match="there is a data source 'csv' already"):
        plugins.source("csv", "own:SOURCE")


STAGE = """\
from typing import Literal

from compress import plugins
from compress.stages.kind import StageKind


@plugins.stage
class Mine(StageKind):
    kind: Literal["KIND"]
"""


@pytest.mark.usefixtures("no_plugins")
def test_a_stage_that_is_defined_again_replaces_itself() -> None:
    code = compile(STAGE.replace("KIND", "mine"), "cell", "exec", dont_inherit=True)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(code, names)
    first = names["Mine"]
    exec(code, names)
    assert registry.STAGES["mine"] is names["Mine"] is not first
    names["__name__"] = "another"
    with pytest.raises(UsageError, match="there is a kind of stage 'mine' already; give Mine"):
        exec(code, names)


@pytest.mark.usefixtures("no_plugins")
def test_plugins_of_the_same_name_are_modules_of_their_own(tmp_path: Path) -> None:
    files = [tmp_path / name / "stage.py" for name in ("a", "b")]
    for file in files:
        file.parent.mkdir()
        file.write_text(STAGE.replace("KIND", file.parent.name))
    plugins.load(map(str, files))
    modules = [registry.STAGES[name].__module__ for name in ("a", "b")]
    assert modules[0] != modules[1] and all(sys.modules[name].Mine for name in modules)


@pytest.mark.usefixtures("no_plugins")
def test_a_source_that_cannot_be_imported_is_one_line() -> None:
    plugins.source("mine", "nomod:SOURCE")
    with pytest.raises(UsageError, match="data source 'mine': nomod:SOURCE cannot be imported: No module"):
        registry.source("mine")


@pytest.mark.usefixtures("no_plugins")
def test_a_folder_is_no_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty_folder").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=r"--plugin empty_folder is a folder without an __init__\.py"):
        plugins.load(["empty_folder"])


@pytest.mark.usefixtures("no_plugins")
def test_fresh_processes_load_the_same_plugins_and_the_modules_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever their names, and without taking files of the working directory for other modules."""
    monkeypatch.chdir(tmp_path)
    for name in ("own_module.py", "a:file.py"):
        Path(name).write_text("import random, beside_it\n")
    Path("beside_it.py").write_text("")
    monkeypatch.setattr(sys, "path", [*sys.path])
    plugins.load(["own_module", "a:file.py"])
    monkeypatch.delitem(sys.modules, "own_module")
    monkeypatch.delitem(sys.modules, "beside_it")
    Path("random.py").write_text("raise ImportError('taken from the working directory')\n")
    code = "from compress import plugins; plugins.load_installed(); print(len(plugins.digests()))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=child_environment())
    assert done.stdout == "2\n", done.stderr


@pytest.mark.usefixtures("no_plugins")
def test_a_plugin_is_part_of_the_key() -> None:
    from compress.pipeline.plan import make_plan
    from compress.recipe.load import load_recipe
    from compress.store.store import Store

    def keys() -> list[str]:
        return [unit.key for unit in make_plan(load_recipe("quickstart"), Store(Path("none"))).stages]

    before = keys()
    plugins.load([str(EXAMPLES / "own_loss.py")])
    assert not set(before) & set(keys())


@pytest.mark.usefixtures("no_plugins")
@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("absent.py", None, "there is no such file"),
        ("no_such_module", None, "there is no module no_such_module"),
        ("broken.py", "1 / 0", "fails when it is imported: ZeroDivisionError: division by zero"),
        ("broken.py", "import nothing_like_it", "there is no module nothing_like_it"),
    ],
)
def test_a_plugin_that_cannot_be_had_is_one_line(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=message):
        plugins.load([str(path) if name.endswith(".py") else name])


@pytest.mark.usefixtures("no_plugins")
def test_a_loss_that_no_plugin_brings_is_named() -> None:
    from compress.recipe.load import load_recipe

    with pytest.raises(UsageError, match=r"unknown plugin loss 'margin'; load its plugin with --plugin FILE\.py"):
        load_recipe("quickstart", ["stages.distilled.losses={kd: 1.0, own: {margin: 0.5}}"])


@pytest.mark.usefixtures("no_plugins")
def test_what_plugins_bring_is_listed() -> None:
    from compress.cli.catalog import names

    plugins.load([str(EXAMPLES / "own_loss.py"), str(EXAMPLES / "own_runtime.py")])
    assert "leads the student's logits by a gap" in names("losses")["own: margin"]
    assert names("runtimes")["torchscript"] == "runs here; needs torch; takes float networks only"


@pytest.mark.usefixtures("no_plugins")
def test_a_runtime_with_a_wrong_ability_is_refused_at_registration(tmp_path: Path) -> None:
    careless = tmp_path / "careless.py"
    careless.write_text((EXAMPLES / "own_runtime.py").read_text().replace('engine = "torch"', "quantizers = False"))
    message = "runtime 'torchscript', class TorchScript: `engine` is missing, .*; `quantizers` must be a tuple of str"
    with pytest.raises(UsageError, match=message) as caught:
        plugins.load([str(careless)])
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("no_plugins")
def test_a_quantized_variant_is_refused_by_a_plugin_for_float_networks() -> None:
    from compress.recipe.load import load_recipe

    plugins.load([str(EXAMPLES / "own_runtime.py")])
    with pytest.raises(
        UsageError, match="torchscript does not support quantized networks; move int8 to another export stage"
    ):
        load_recipe("quickstart", ["stages.files.runtimes=[torchscript]", "stages.files.from=[distilled, int8]"])
