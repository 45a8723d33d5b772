"""Every flag of every verb works on a tiny job; every `--help` fits a screen and has an example that parses."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import typer
from deployment.fake_machine import Machine
from safetensors.torch import save_file
from support import photographs, typed, write_open_clip
from typer.testing import CliRunner

from compress import plugins, registry
from compress.cli import app
from compress.cli import init as init_module
from compress.data.stated import EMBEDDING
from compress.models.class_list import ClassList
from compress.models.factory import create_model
from compress.models.text_tower import read_teacher, text_of_teacher, write_text
from compress.utils.errors import UsageError

RECIPE = """\
name: one
data: {source: image-folder, path: images, resolution: 32}
stages:
  - {id: first, kind: train, student: test_resnet, epochs: 2, batch: 16, lr: 0.05}
  - {id: files, kind: export, from: [first], runtimes: [onnxruntime]}
measure: {batches: [1], rounds: 5, processes: 1, energy: off}
worth: {references: [first]}
"""
SPACE = "parameters: {stages.first.lr: [0.05, 0.02]}\nvariants: [first]\nsampler: grid\n"
MODELS = "Model,Publication date,Training compute (FLOP)\n" + "".join(
    f"m{n},{2012 + n}-01-01,{10.0**n:g}\n" for n in range(8)
)
CHIPS = "Hardware name,Release date,FP32 (single precision) performance (FLOP/s),TDP (W)\n" + "".join(
    f"c{n},{2012 + n}-01-01,{1e12 * 1.4**n:g},100\n" for n in range(8)
)

FIRST = (
    "run one.yaml --runs runs --no-dry-run --set stages.first.epochs=1 --log csv --engine local --plugin own.py --json"
)
AGAIN = "run one.yaml --set stages.first.epochs=1 --plugin own.py --fresh"
CALLS = (
    ("init images/train --output new.yaml --runs runs --force", "3 classes"),
    ("init images/train -o newer.yaml", "newer.yaml: train -> prune -> quantize -> export"),
    (
        "init images/train --model own.safetensors --arch test_resnet --output own.yaml --json",
        '"model": "timm/test_resnet"',
    ),
    ("plan one.yaml --runs runs --set stages.first.epochs=1 --plugin own.py --json", '"stored": true'),
    ("plan one.yaml --no-dry-run --price-per-hour 2.5 --json", '"price": 0'),
    ("manifest packed --output packed/manifest.jsonl --json", '"images": 1'),
    ("manifest packed/train-0.tar -o packed/m.jsonl", "packed/m.jsonl: 1 shards, 1 images, 0.00 GB"),
    ("validate one.yaml --set seed=2 --plugin own.py", "one.yaml: valid, 2 stages"),
    ("validate one.yaml --deep --runs runs --set stages.first.epochs=1 --plugin own.py", "one.yaml: valid, 2 stages"),
    (
        "work one.yaml --runs others --set 'stages=[{{id: first, kind: train, student: test_resnet, epochs: 1}}]'"
        " --no-dry-run --retry --plugin own.py --json",
        '"event": "made", "unit": "first"',
    ),
    ("status one.yaml --runs runs --set stages.first.epochs=1 --plugin own.py --json", '"state": "stored"'),
    ("report {run}", "report.html"),
    (
        "bench {artifact} --runtime onnxruntime --batches 2 --rounds 5 --processes 1 --threads 1 --driver turns"
        " --plugin own.py --json",
        '"batch": 2',
    ),
    ("bench {artifact} --layers --csv layers.csv --batches 1 --rounds 5 --threads 1 --json", '"layers"'),
    ("bench {artifact} --on {host} --batches 1 --rounds 5 --processes 1 --threads 1 --json", '"host": "ssh://pi'),
    ("evaluate {artifact} --data images/test --per-class --plugin own.py", "across"),
    ("evaluate {artifact} images/test --runtime onnxruntime --json", '"n": 30'),
    ("evaluate {artifact} images/test --min-top1 0 --json", '"min_top1"'),
    ("predict {artifact} images/test/both --runtime onnxruntime --top 1 --plugin own.py --json", '"probability"'),
    (
        "classes {embeddings} --names words.txt --templates 'a drawing of {{}}.' --teacher local-dir:{root}/clip"
        " --output words --json",
        '"classes": [\n  "dots"',
    ),
    ("classes {embeddings} --names words.txt --text tower", "2 classes"),
    ("push {run} first me/small --out hub --no-upload --public --plugin own.py --json", '"files": ['),
    ("compare {run} {again} --html moved.html --json", '"runs"'),
    (
        "gate {again} --against {run} --rule top1>=-0pt --rule top1.onnxruntime>=-0pt --variant first"
        " --junit gate.xml --markdown gate.md --plugin own.py --json",
        '"verdict": "pass"',
    ),
    (
        "sweep one.yaml --space space.yaml --name s --set stages.first.epochs=1 --runs runs --trials 2"
        " --hours 1 --macs 1P --budget macs<=1G --tolerance 0.5 --retry-failed --no-dry-run --engine local"
        " --plugin own.py --json",
        '"sentence": "This one: trial ',
    ),
    (
        "gap --basis essay --start 2013 --end 2019 --run {run} --models models.csv --hardware chips.csv --since 2011"
        " --plot gap.svg --json",
        '"fitted FP32 rate"',
    ),
    ("schema --markdown --plugin own.py", "# Recipe reference"),
    ("schema --results", '"schema_version"'),
    ("list losses --plugin own.py --json", '"own: mine"'),
    ("doctor --json", '"torch"'),
    ("store list --runs runs --json", '"named_by_a_run": true'),
    ("store check --runs runs --json", "[]"),
    (
        "store clean --runs runs --keep-runs 1 --older-than 0h --max-size 1MB --dry-run --json",
        "[",
    ),
)
REFUSED = (
    ("init images/train --arch test_resnet", "--arch test_resnet is the architecture of --model"),
    ("run one.yaml --engine spark", "spark"),
    ("validate one.yaml --deep --runs runs --set data.path=nowhere", "nowhere"),
    ("sweep one.yaml --space space.yaml --engine spark", "spark"),
    ("bench {artifact} --csv layers.csv", "--csv writes layers; add --layers"),
    ("bench {artifact} --driver mlperf --seconds 1 --rounds 5", "--driver mlperf does not use --rounds; remove it"),
    (
        "classes {embeddings} --names words.txt --text tower --teacher embedded",
        "--teacher and --text exclude each other",
    ),
)
OF_TYPER = {"--install-completion", "--show-completion", "--help"}


def verbs(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from verbs(below, (*path, name))


VERBS = dict(verbs(typer.main.get_command(app)))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Run a job twice in a folder of its own."""
    root = tmp_path_factory.mktemp("flags")
    for split, count in (("train", 12), ("test", 10)):
        photographs(root / "images" / split, count, seed=count)
    for name, text in {
        "one.yaml": RECIPE,
        "models.csv": MODELS,
        "space.yaml": SPACE,
        "chips.csv": CHIPS,
        "new.yaml": "",
        "words.txt": "dots\nstripes\n",
    }.items():
        (root / name).write_text(text)
    save_file(create_model("timm", "test_resnet", 3, 32).state_dict(), root / "own.safetensors")
    (root / "packed").mkdir()
    with tarfile.open(root / "packed" / "train-0.tar", "w") as archive:
        archive.add(root / "images" / "train" / "both" / "0.png", "0.png")
    (root / "own.py").write_text(
        "from compress.plugins import loss\n\n\n@loss('mine')\ndef mine(student, teacher, labels):\n    '''Mine.'''\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(plugins.VARIABLE, "")
        patch.setattr(plugins, "_DIGESTS", {})
        done = [typed(*shlex.split(line), cwd=root) for line in (FIRST, AGAIN)]
        assert [call.returncode for call in done] == [0, 0], done
        run, again = sorted((root / "runs" / "one").iterdir())
        artifact = run / "artifacts/first/onnx"
        yield {
            "root": root,
            "first": done[0],
            "run": run,
            "again": again,
            "artifact": artifact,
            "embeddings": write_embeddings(root, artifact),
            "host": f"ssh://pi{sys.executable}".replace(" ", "%20"),
        }
    registry.PLUGIN_LOSSES.clear()


def write_embeddings(root: Path, artifact: Path) -> Path:
    """Write an artifact that says that it gives embeddings, and the tiny OpenCLIP model of its class list."""
    vision, text = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 1}, {"width": 64, "heads": 2, "layers": 1}
    write_open_clip(root / "clip", "ViT-B-32", vision_cfg=vision, text_cfg=text)
    teacher = read_teacher(f"local-dir:{root}/clip")
    write_text(teacher, root / "tower")
    names, templates = ("across", "down", "both"), ("a photo of {}.",)
    weight = text_of_teacher(teacher).embed(names, templates)
    folder = shutil.copytree(artifact, root / "embedding" / "onnx")
    (folder / "SHA256SUMS").unlink(missing_ok=True)
    ClassList(names, weight, np.zeros(3, np.float32), names, templates).write(folder)
    stated = json.loads((folder / "preprocess.json").read_text())
    (folder / "preprocess.json").write_text(json.dumps({**stated, "output": EMBEDDING}))
    return folder


def test_run_honours_all_its_flags(place: dict[str, Any]) -> None:
    results = json.loads(place["first"].stdout)
    assert results == json.loads((place["run"] / "results.json").read_text())
    assert len(results["variants"][0]["training"]["curve"]) == 1, "--set must have reduced two epochs to one"
    assert list((place["run"] / "logs").rglob("*.csv"))
    events = [json.loads(line)["event"] for line in (place["again"] / "log.jsonl").read_text().splitlines()]
    assert "epoch" in events, "--fresh must refit what the store has"


@pytest.mark.parametrize(("line", "words"), CALLS)
def test_verbs_take_all_their_flags(
    place: dict[str, Any], line: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(init_module, "MAX_TIMED", 0)  # `init` then times no network, which would take longest
    if "--on" in line:
        Machine(tmp_path, monkeypatch)
    done = typed(*shlex.split(line.format(**place)), cwd=place["root"], HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert words in done.stdout
    if "--json" in line:
        for text in done.stdout.splitlines() if line.startswith("work") else [done.stdout]:
            json.loads(text)


@pytest.mark.parametrize(("line", "words"), REFUSED)
def test_flags_are_not_ignored(place: dict[str, Any], line: str, words: str) -> None:
    done = typed(*shlex.split(line.format(**place)), cwd=place["root"], HF_HUB_OFFLINE="1")
    assert done.returncode == 2 and words in done.stderr


def test_plot_and_html_write_their_files(place: dict[str, Any]) -> None:
    typed("gap", "--plot", "own.svg", cwd=place["root"])
    typed("compare", place["run"], place["again"], "--html", "own.html", cwd=place["root"])
    assert "</svg>" in (place["root"] / "own.svg").read_text()
    assert "</html>" in (place["root"] / "own.html").read_text()


def test_debug_raises_the_error() -> None:
    assert "recipe not found" in typed("validate", "nowhere.yaml").stderr
    with pytest.raises(UsageError, match="recipe not found"):
        typed("validate", "nowhere.yaml", "--debug")


def untested(lines: Sequence[Sequence[str]]) -> set[tuple[str, str]]:
    """Return verb and flag of all that no line has."""
    return {
        (" ".join(path), flag)
        for path, command in VERBS.items()
        for flag in {name for option in command.params for name in option.opts if name.startswith("-")} - OF_TYPER
        if not any(flag in line for line in lines if tuple(line[: len(path)]) == path)
    }


def test_no_flag_is_left_untested() -> None:
    lines = [shlex.split(line) for line in (FIRST, AGAIN, "--debug", *(line for line, _ in (*CALLS, *REFUSED)))]
    assert untested(lines) == set(), "add a call"
    every = untested([])
    assert len(every) > 100
    for verb, flag in every:
        assert (verb, flag) in untested([[word for word in line if word != flag] for line in lines])


@pytest.mark.parametrize("path", VERBS, ids=" ".join)
def test_help_fits_a_screen_and_shows_an_example_that_parses(path: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "80"}, prog_name="compress-model")
    lines = done.stdout.splitlines()
    assert done.exit_code == 0 and len(lines) <= 40 and max(map(len, lines)) <= 80
    words = shlex.split(" ".join(done.stdout.partition("Example: ")[2].split()).partition(" >")[0])
    assert words[0] == "compress-model"
    command, arguments = VERBS[()], words[1:]
    while arguments and arguments[0] in getattr(command, "commands", {}):
        command = command.commands[arguments.pop(0)]  # type: ignore[attr-defined]
    with command.make_context(words[0], list(arguments)) as context:
        assert context.params
