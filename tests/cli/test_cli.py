"""The command line: output, errors and exit status."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import Job, environment, teacher_folder

import compress
from compress.cli.catalog import KINDS

CHECKOUT = Path(compress.__file__).parents[1]


def call(*arguments: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "compress", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**environment(), **variables},
        timeout=300,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["bench", "--help"],
        ["gap"],
        ["init", "--help"],
    ],
)
def test_light_verbs_import_nothing_heavy(arguments: list[str]) -> None:
    assert _imported(arguments, "torch", "numpy", "lightning", "matplotlib") == []


@pytest.mark.parametrize("arguments", [["validate", "quickstart"], ["schema"]])
def test_reading_recipes_imports_no_torch(arguments: list[str]) -> None:
    assert _imported(arguments, "torch", "lightning", "matplotlib", "torchvision", "timm") == []


def _imported(arguments: list[str], *modules: str) -> list[str]:
    """Return which of `modules` a new process has imported after a command."""
    code = (
        "import sys; from compress.__main__ import main\n"
        f"sys.argv = ['compress-model', *{arguments!r}]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print('imported', *[m for m in {modules!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
    marker, *imported = done.stderr.splitlines()[
        -1
    ].split()  # earlier lines may say that timm's models are listed, once
    assert marker == "imported"
    return imported


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("compress-model in", ["init"]),
        ("compress-model run quic", ["quickstart", "quickstart_ablation"]),
        ("compress-model plan mine", ["mine.yaml"]),
        ("compress-model list stud", ["students"]),
    ],
)
def test_shell_completion_does_not_import_torch(words: str, completed: list[str], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("")
    code = (
        "import sys; from compress.__main__ import main\n"
        "sys.argv = ['compress-model']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'numpy', 'rich') if m in sys.modules], file=sys.stderr)"
    )
    request = {"_COMPRESS_MODEL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    variables = {**environment(), **request}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, cwd=tmp_path)
    assert done.stdout.split() == completed and done.stderr.strip() == "[]"


def test_schema_prints_a_json_schema_with_stages() -> None:
    schema = json.loads(call("schema").stdout)
    assert "stages" in schema["properties"]


@pytest.mark.parametrize("what", KINDS)
def test_list_describes_every_name(what: str) -> None:
    names = json.loads(call("list", what, "--json").stdout)
    assert names and all(isinstance(about, str) and about for about in names.values())
    assert next(iter(names)) in call("list", what).stdout


def test_schema_of_results_has_no_tables() -> None:
    done = call("schema", "--results", "--markdown")
    assert done.returncode == 2 and "--markdown and --results exclude each other" in done.stderr


def test_unknown_list_suggests_the_nearest() -> None:
    done = call("list", "student")
    assert done.returncode == 2 and "cannot list 'student'; did you mean 'students'?" in done.stderr


def test_doctor_lists_packages_assets_and_counters() -> None:
    rows = {row["name"]: row for row in json.loads(call("doctor", "--json").stdout)}
    assert (
        rows["torch"]["present"] and rows["embedded teacher"]["present"] and rows["embedded cifar10-sample"]["present"]
    )
    assert "runtime openvino" in call("doctor").stdout
    assert rows["energy counter"]["detail"]


def test_shipped_recipes_are_valid(tmp_path: Path) -> None:
    teacher_folder(tmp_path)
    recipes = sorted(str(path) for path in (CHECKOUT / "recipes").glob("*.yaml"))
    done = call("validate", *recipes, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.count("valid") == len(recipes) >= 2


def test_every_mistake_of_several_recipes_is_listed(tmp_path: Path) -> None:
    """Also behind one that names a file which is not there."""
    stages = "stages:\n  - {id: a, kind: train, student: resnet18, epochs: 1}\n"
    text = {"gone": stages.replace("resnet18", "{use: resnet18, checkpoint: gone.pt}"), "good": stages}
    text["bad"] = stages.replace("epochs", "epoch")
    for name, content in text.items():
        (tmp_path / f"{name}.yaml").write_text(f"data: cifar10-sample\n{content}worth: {{references: [a]}}\n")
    done = call("validate", "--deep", "gone.yaml", "bad.yaml", "good.yaml", cwd=tmp_path)
    assert done.returncode == 2 and "good.yaml: valid, 1 stages" in done.stdout
    assert "gone.pt" in done.stderr and "bad.yaml:3" in done.stderr and "Traceback" not in done.stderr


def test_every_mistake_of_a_recipe_is_a_line_with_its_number(tmp_path: Path) -> None:
    recipe = tmp_path / "wrong.yaml"
    recipe.write_text(
        "data: cifar10-sampel\n"
        "stages:\n"
        "  - {id: teacher, kind: teacher, teacher: embedded}\n"
        "  - {id: small, kind: distil, from: teacher, student: resnet18}\n"
        "  - {id: pruned, kind: prune, from: smal, target_macs: 2}\n"
        "  - {id: teacher, kind: train, student: resnet18, epoch: 3}\n"
    )
    done = call("validate", str(recipe))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    for number in (1, 4, 5, 6):
        assert any(f"wrong.yaml:{number}:" in line for line in lines), lines
    assert len(lines) >= 5
    assert call("run", str(recipe), "--runs", str(tmp_path / "runs")).returncode == 2
    assert not (tmp_path / "runs").exists()


def test_missing_recipe_suggests_the_nearest() -> None:
    done = call("run", "quikstart")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: quikstart: recipe not found; did you mean 'quickstart'?")
    assert len(done.stderr.splitlines()) == 1


def fails(job: Job, *overrides: str, apart: bool = False) -> str:
    """Run with overrides, and return the one error line; no half-written entry may be in the store."""
    run = job.run if apart else job.run_here
    done = run(*(part for override in overrides for part in ("--set", override)))
    assert done.returncode in (1, 2), done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    entries = [path for path in (job.runs / "store").glob("*") if re.fullmatch("[0-9a-f]{24}", path.name)]
    assert all((path / "entry.json").exists() for path in entries)
    return errors[0]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.path=nowhere", "nowhere"),
        ("stages.teacher.teacher.checkpoint=nowhere.safetensors", "nowhere.safetensors"),
        ("stages.teacher.teacher.model=resnet10t", "stage teacher: .*another architecture"),
        ("stages.scratch.student.model=resnet17", "stages.scratch.student: timm has no model 'resnet17'; did you mean"),
        pytest.param(
            "stages.pruned.target_macs=0.00001", "stage pruned: .*smallest reachable value is", marks=pytest.mark.slow
        ),
        ("stages.scratch.student.checkpoint=no.safetensors", "stage scratch: cannot read checkpoint no.safetensors"),
        ("trainer.accelerator=cuda", "accelerator|CUDA|cuda"),
        pytest.param(
            "stages.scratch.lr=1e30",
            "stage scratch: .*no numbers|stage scratch: the loss is nan",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_failures_are_one_line_that_names_the_stage(make_job: Callable[[], Job], override: str, words: str) -> None:
    import torch

    if "cuda" in override and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert re.search(words, fails(make_job(), override))


def test_class_without_images_is_named(make_job: Callable[[], Job]) -> None:
    job = make_job()
    for image in (job.root / "images" / "train" / "both").iterdir():
        image.unlink()
    assert "both" in fails(job)


@pytest.mark.slow
def test_missing_teacher_weights_name_their_address(
    make_job: Callable[[], Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # without a network the hub's client retries for a minute
    job = make_job()
    teacher = "stages.teacher.teacher={source: open_clip, model: ViT-B-32, pretrained: laion2b_s34b_b79k}"
    line = fails(job, teacher, apart=True)  # the client reads the variable when it is imported
    assert "fetch https://huggingface.co/laion/" in line and "checkpoint" in line


def test_report_rewrites_the_same_pages(job: Job) -> None:
    run = sorted((job.runs / "tiny").iterdir())[0]
    before = (run / "report.md").read_text()
    (run / "report.md").unlink()
    assert call("report", str(run)).returncode == 0
    assert (run / "report.md").read_text() == before


def test_report_refuses_folders_that_are_not_runs(tmp_path: Path) -> None:
    assert call("report", str(tmp_path)).returncode == 2
    (tmp_path / "results.json").write_text("[1]")
    done = call("report", str(tmp_path))
    assert done.returncode == 2 and "Traceback" not in done.stderr


def planned(job: Job, *changes: str) -> dict[str, dict[str, Any]]:
    words = [word for change in changes for word in ("--set", change)]
    command = [sys.executable, "-m", "compress", "plan", str(job.recipe), "--runs", str(job.runs), "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment())
    return {row["unit"]: row for row in json.loads(done.stdout)}


@pytest.mark.slow
def test_plan_marks_stored_units_and_estimates_the_others(job: Job) -> None:
    rows = planned(job, "stages.pruned.target_macs=0.5")
    assert rows["teacher"]["stored"] and rows["distilled"]["stored"] and rows["files/distilled"]["stored"]
    assert not rows["pruned"]["stored"] and not rows["int8"]["stored"] and not rows["files/int8"]["stored"]
    assert rows["pruned"]["macs"] > 0 and rows["pruned"]["seconds"] > 0


def test_plan_of_a_stored_run_does_not_import_torch(job: Job) -> None:
    code = (
        "import sys; from compress.__main__ import main\n"
        f"sys.argv = ['compress-model', 'plan', {str(job.recipe)!r}, '--runs', {str(job.runs)!r}]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
    assert done.stdout.count("in the store") == 8 and done.stdout.endswith("False\n"), done.stdout + done.stderr


@pytest.mark.slow
def test_plan_counts_missing_teacher_views_once(job: Job) -> None:
    known = planned(job, "stages.distilled.lr=0.04")
    new = planned(job, "stages.distilled.lr=0.04", "data.views.shift=0.1")
    teacher = job.results()["variants"][0]["inference"]["macs"]
    assert new["distilled"]["macs"] - known["distilled"]["macs"] == 2 * 96 * teacher
    assert new["pruned"]["macs"] == known["pruned"]["macs"]  # its repair uses views that `distilled` has embedded


@pytest.mark.slow
def test_full_disk_is_one_line_and_leaves_no_half_written_entry(make_job: Callable[[], Job], tmp_path: Path) -> None:
    """Needs the right to mount a small file system."""
    job, small = make_job(), tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("cannot mount a small file system here")
    try:
        done = subprocess.run(
            [*job.command()[:-1], str(small / "runs")], capture_output=True, text=True, env=environment()
        )
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("error: ") and "disk is full" in done.stderr, done.stderr
        entries = [p for p in (small / "runs" / "store").iterdir() if re.fullmatch("[0-9a-f]{24}", p.name)]
        assert all((entry / "entry.json").exists() for entry in entries)
    finally:
        subprocess.run(["umount", str(small)], check=True)
