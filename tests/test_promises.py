"""Promises about hostile files and about what is installed, checked in the source itself."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import environment

import compress
from compress.recipe import Recipe, parse_recipe
from compress.utils.errors import RecipeError

CHECKOUT = Path(compress.__file__).parents[1]
FILES = sorted(
    path for pattern in ("compress/**/*.py", "scripts/*.py", "tests/stress/*.py") for path in CHECKOUT.glob(pattern)
)
# The fuzz campaign makes hostile pickles and plants these faults; it is not part of what runs recipes.
CAMPAIGN = {"hostile_inputs.py", "hostile_plants.py"}
# Its unpickler calls nothing that a file names: tests/models/test_safe_pickle.py.
UNPICKLERS = {"compress/models/safe_pickle.py"}
SAFE_YAML = {"parse", "safe_load", "safe_dump", "SafeLoader", "CSafeLoader", "YAMLError", "MarkedYAMLError"}
# Modules whose names come from a table of the package, or are written out where they are used.
IMPORTS_BY_NAME = {
    *(
        "compress/__init__.py",
        "compress/report/__init__.py",
        "compress/deployment/runtime.py",
        "compress/deployment/runtimes.py",
        "compress/recipe/__init__.py",
    ),
    *("compress/measurement/counters.py", "compress/registry.py"),
    *("tests/stress/campaign.py", "tests/stress/damage_campaign.py"),
    "compress/plugins.py",  # of the command line and of entry points: the schema has no key for one
}


def violations(source: str, name: str = "it.py") -> Iterator[str]:
    """Yield what a source must not contain."""
    tree = ast.parse(source)
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    for module in imported & {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}:
        if name not in UNPICKLERS:
            yield f"imports {module}"
    for node in ast.walk(tree):
        of_yaml = isinstance(node, ast.Attribute) and ast.unparse(node.value) == "yaml"
        if of_yaml and not (node.attr in SAFE_YAML or node.attr.endswith(("Event", "Error"))):
            yield f"line {node.lineno}: yaml.{node.attr}"
        if not isinstance(node, ast.Call):
            continue
        called, given = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
        if called in ("eval", "exec", "compile", "os.system", "os.popen", "__import__"):
            yield f"line {node.lineno}: {called}"
        if called == "torch.load" and given.get("weights_only") != "True":
            yield f"line {node.lineno}: torch.load without weights_only=True"
        if called in ("np.load", "numpy.load") and given.get("allow_pickle", "False") != "False":
            yield f"line {node.lineno}: {called} with pickles"
        if given.get("shell", "False") != "False":
            yield f"line {node.lineno}: shell"
        if (
            called.endswith(("import_module", "resolve_name"))
            and not isinstance(node.args[0], ast.Constant)
            and name not in IMPORTS_BY_NAME
        ):
            yield f"line {node.lineno}: {ast.unparse(node)}"
        if called.endswith("Environment") and "jinja2" in imported and "autoescape" not in given:
            yield f"line {node.lineno}: a jinja2 environment that does not say whether it escapes"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_source_executes_no_code_from_files(path: Path) -> None:
    if path.name not in CAMPAIGN:
        assert list(violations(path.read_text(), path.relative_to(CHECKOUT).as_posix())) == []


@pytest.mark.parametrize(
    "source",
    [
        *("eval(x)", "import pickle", "from pickle import loads", "torch.load(f)", "torch.load(f, weights_only=False)"),
        *("yaml.load(x)", "yaml.unsafe_load(x)", "yaml.FullLoader", "run(c, shell=True)", "os.system(x)"),
        *(
            "importlib.import_module(recipe.plugin)",
            "np.load(f, allow_pickle=True)",
            "from jinja2 import Environment; Environment(loader=x)",
        ),
    ],
)
def test_each_violation_is_found(source: str) -> None:
    assert len(list(violations(source))) == 1


def test_html_pages_are_autoescaped() -> None:
    page = (CHECKOUT / "compress" / "report" / "page.py").read_text()
    html = next(node for node in ast.walk(ast.parse(page)) if getattr(node, "name", "") == "html_page")
    assert "_environment(autoescape=True)" in ast.unparse(html)
    assert page.count("autoescape=False") == 1, "of the page in Markdown"


def test_recipe_schema_has_no_key_for_plugins() -> None:
    keys = re.findall(r'"(\w+)": {"', json.dumps(Recipe.model_json_schema()))
    assert "stages" in keys and not [key for key in keys if "plugin" in key or "module" in key]


@pytest.mark.parametrize("name", ["../x", "..", ".", "/tmp/x", "a/b", "-rf", "", "a\\nb", "a\\0b", "store", "x" * 65])
@pytest.mark.parametrize("key", ["name", "id"])
def test_names_that_lead_out_of_the_run_folder_are_refused(name: str, key: str) -> None:
    if (name, key) == ("store", "id"):
        return
    stage = f'{{id: "{name if key == "id" else "a"}", kind: train, student: resnet18}}'
    top = f'name: "{name}"\n' if key == "name" else ""
    with pytest.raises(RecipeError, match=key if key == "name" else "stages"):
        parse_recipe(f"{top}data: cifar10-sample\nstages: [{stage}]\n")


@pytest.mark.parametrize("option", ["checkpoint_path", "cache_dir", "pretrained_cfg"])
def test_student_options_that_name_files_are_refused(option: str) -> None:
    student = f"{{model: resnet18, options: {{{option}: /tmp/x}}}}"
    with pytest.raises(RecipeError, match=f"`options` must not set {option}"):
        parse_recipe(f"data: cifar10-sample\nstages: [{{id: a, kind: train, student: {student}}}]\n")


def test_lock_file_matches_constraints_with_hashes_and_without_addresses() -> None:
    lock = (CHECKOUT / "requirements.lock").read_text()
    found = re.findall(
        r"^([A-Za-z0-9_.-]+)==(\S+)[^\n]*\\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n?)+)", lock, re.M
    )
    locked = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version, _ in found}
    assert len(found) == len(re.findall(r"^\S+==", lock, re.M)), "each has hashes"
    assert "://" not in lock
    pinned = dict(line.split("==") for line in (CHECKOUT / "constraints.txt").read_text().split())
    pinned = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pinned.items()}
    # Some of what is pinned belongs to extras that the two scripts do not install.
    assert {name: locked[name] for name in locked.keys() & pinned.keys()} == {
        name: pinned[name] for name in locked.keys() & pinned.keys()
    }, "run scripts/lock"
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    extras = re.findall(r"--extra (\w+)", (CHECKOUT / "scripts" / "lock").read_text())
    installed = re.findall(r"-e '\.\[(.*)\]'", (CHECKOUT / "scripts" / "_environment.sh").read_text())
    assert installed == [",".join(extras)]
    needed = project["dependencies"] + [line for extra in extras for line in project["optional-dependencies"][extra]]
    names = {re.sub(r"[-_.]+", "-", re.split(r"[\[<>=; ]", line)[0]).lower() for line in needed}
    assert names <= locked.keys(), "run scripts/lock"


def test_libraries_send_no_telemetry(tmp_path: Path) -> None:
    """ONNX Runtime would write an id for the machine; OpenVINO and NNCF send through a package of their own."""
    pytest.importorskip("onnxruntime")
    code = (
        "import compress, onnxruntime\n"
        "from onnx import TensorProto as T, helper as h\n"
        "values = [h.make_tensor_value_info(name, T.FLOAT, [1]) for name in 'xy']\n"
        "graph = h.make_graph([h.make_node('Relu', ['x'], ['y'])], 'g', values[:1], values[1:])\n"
        "model = h.make_model(graph, opset_imports=[h.make_opsetid('', 17)], ir_version=8)\n"
        "onnxruntime.InferenceSession(model.SerializeToString())\n"
        "try:\n    import openvino_telemetry\n"
        "except ImportError:\n    print('nothing sends')\n"
    )
    variables = {key: value for key, value in environment().items() if "CACHE" not in key and "TELEMETRY" not in key}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**variables, "HOME": str(tmp_path)}
    )
    assert done.returncode == 0 and "nothing sends" in done.stdout, done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
