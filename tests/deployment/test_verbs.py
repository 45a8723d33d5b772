"""The verbs on artifacts, as a person meets them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployment.tiny_classifier import PREPROCESS
from PIL import Image
from support import Job, environment

import compress
from compress.cli import main
from compress.data.sample import SampleData, read
from compress.deployment import mlperf
from compress.efficiency.intervals import wilson

Artifacts = dict[str, dict[str, Path]]
CLASSES: list[str] = PREPROCESS["classes"]
CHECKOUT = Path(compress.__file__).parents[1]


class Typed:
    """Types a command into this process; its exit status, and what it says where."""

    def __init__(self, patch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[str]) -> None:
        self.patch, self.captured = patch, captured

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        self.patch.setattr(sys, "argv", ["compress-model", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *self.captured.readouterr()

    def json(self, *arguments: object) -> Any:
        status, out, _ = self(*arguments, "--json")
        assert status == 0
        return json.loads(out)

    def error(self, *arguments: object) -> str:
        """The one line of a call that is wrong or fails."""
        status, out, err = self(*arguments)
        assert status in (1, 2) and out == ""
        assert err.startswith("error: ") and len(err.splitlines()) == 1, err
        return err


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    monkeypatch.setenv("COLUMNS", "200")
    return Typed(monkeypatch, capsys)


@pytest.fixture
def artifact(artifacts: Artifacts) -> Path:
    return artifacts["float"]["onnxruntime"].parent


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three images in each of three classes' folders."""
    rng = np.random.default_rng(0)
    for name in ("größe", "cat", "truck"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(3):
            pixels = rng.integers(0, 256, (20 + number, 24, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


def right(artifact: Path, photos: Path) -> dict[str, int]:
    """Images that an artifact is right about, by class, one at a time."""
    loaded = compress.load_artifact(artifact)
    counts = dict.fromkeys(CLASSES, 0)
    for file in photos.glob("*/*.png"):
        name = loaded.classes[int(loaded(file).argmax())]
        counts[file.parent.name] += name == file.parent.name
    return counts


def test_evaluate_matches_folders_by_name(typed: Typed, artifact: Path, photos: Path) -> None:
    record = typed.json("evaluate", artifact, photos)
    counts = right(artifact, photos)
    correct = sum(counts.values())
    accuracy = {"top1": correct / 9, "correct": correct, "n": 9, "ci95": list(wilson(correct, 9)), "split": "photos"}
    assert record["accuracy"] == accuracy
    assert {row["class"]: row["correct"] for row in record["classes"]} == counts
    assert [row["n"] for row in record["classes"]] == [3, 0, 3, 0, 3]
    assert record["unreadable"] == [] and record["left_out"] == []
    assert record["images_per_s"] > 0 and record["runtime_images_per_s"] > 0
    assert record["runtime"] == "onnxruntime"


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Sixty images of two classes in folders."""
    rng = np.random.default_rng(1)
    for name in ("cat", "truck"):
        (tmp_path / "many" / name).mkdir(parents=True)
        for number in range(30):
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(tmp_path / f"many/{name}/{number}.png")
    return tmp_path / "many"


def test_evaluate_exits_by_a_bound(typed: Typed, artifact: Path, many: Path, photos: Path) -> None:
    accuracy = typed.json("evaluate", artifact, many)["accuracy"]
    low, high = wilson(accuracy["correct"], 60)
    bounds = ((max(0.0, low - 0.01), 0, "pass"), (high + 0.01, 3, "fail"), (low + 0.01, 4, "cannot tell"))
    for bound, status, words in bounds:
        ended, out, err = typed("evaluate", artifact, many, "--min-top1", bound)
        assert (ended, err) == (status, "")
        assert out.splitlines()[-1].startswith(f"{words}: top-1 of at least {100 * bound:.1f}%")
        assert ("images could tell" in out) == (status == 4)
        ended, out, _ = typed("evaluate", artifact, many, "--min-top1", bound, "--json")
        assert ended == status and json.loads(out)["min_top1"] | {"images_needed": 0} == {
            "bound": bound,
            "verdict": words,
            "images_needed": 0,
        }
    ended, out, _ = typed("evaluate", artifact, photos, "--min-top1", 0)
    assert ended == 4 and "about 381 images" not in out, "nine images show nothing"
    assert typed("evaluate", artifact, many, "--min-top1", 90)[0] == 2, "a fraction, not percent"


def test_evaluate_names_what_it_leaves_out(typed: Typed, artifact: Path, photos: Path) -> None:
    (photos / "cat" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    shutil.copytree(photos / "cat", photos / "zebra")
    shutil.copy(photos / "cat" / "0.png", photos / "loose.png")
    (photos / "notes.txt").write_text("")
    record = typed.json("evaluate", artifact, photos)
    assert record["accuracy"]["n"] == 9
    assert [row["image"] for row in record["unreadable"]] == [str(photos / "cat" / "broken.jpg")]
    assert record["left_out"] == [{"folder": "zebra", "images": 4}, {"folder": ".", "images": 1}]
    assert record["other_files"] == [{"kind": "file", "reason": ".txt", "count": 1, "first": "notes.txt"}]
    status, out, _ = typed("evaluate", artifact, photos, "--per-class")
    assert status == 0
    for words in (
        "of 9 images",
        "no images of dog, ship",
        "left out: 4 images in zebra/, which is not a class",
        "left out: 1 image outside any folder",
        "left out: 1 file (.txt 1)",
        "left out: 1 unreadable file:",
        "broken.jpg (",
        "größe",
        "images/s",
    ):
        assert words in out


def test_an_accent_may_be_kept_apart_from_its_letter(typed: Typed, artifact: Path, photos: Path) -> None:
    (photos / "größe").rename(photos / "gro\u0308ße")
    assert typed.json("evaluate", artifact, photos)["left_out"] == []


def test_evaluate_refuses(typed: Typed, artifact: Path, photos: Path, tmp_path: Path) -> None:
    assert "absent: no such folder" in typed.error("evaluate", artifact, tmp_path / "absent")
    assert "a file, not a folder" in typed.error("evaluate", artifact, photos / "cat" / "0.png")
    assert f"did you mean {photos}?" in typed.error("evaluate", artifact, tmp_path)
    (tmp_path / "other" / "zebra").mkdir(parents=True)
    line = typed.error("evaluate", artifact, tmp_path / "other")
    assert "has no folder of a class (cat, dog, größe, ship, truck), only zebra" in line
    (tmp_path / "other" / "cat").mkdir()
    assert "has no images in the folders of its classes (.avif" in typed.error("evaluate", artifact, tmp_path / "other")
    (tmp_path / "other" / "cat" / "a.png").write_text("")
    assert "none of 1 images can be read" in typed.error("evaluate", artifact, tmp_path / "other")


def test_evaluate_takes_the_test_images_of_a_data_set_by_name(typed: Typed, artifact: Path) -> None:
    record = typed.json("evaluate", artifact, "--data", "cifar10-sample")
    test = read(SampleData(source="cifar10-sample"), artifact).test
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    shared = {number: CLASSES.index(name) for number, name in enumerate(names) if name in CLASSES}
    known = np.isin(test.labels, list(shared))
    answers = compress.load_artifact(artifact)(test.images[known].transpose(0, 2, 3, 1)).argmax(1)
    correct = int((answers == [shared[int(label)] for label in test.labels[known]]).sum())  # type: ignore[index]
    assert record["accuracy"]["correct"] == correct and record["accuracy"]["n"] == int(known.sum()) == 1000
    assert record["accuracy"]["split"] == "test" and record["data"] == "cifar10-sample"
    assert {row["folder"] for row in record["left_out"]} == {name for name in names if name not in CLASSES}
    assert "torchvision reads its images" in typed.error("evaluate", artifact, "--data", "cifar10")
    assert "the shipped data sets are cifar10" in typed.error("evaluate", artifact, "--data", "cifar11")
    assert "evaluate takes one --data" in typed.error("evaluate", artifact)


def test_a_data_set_that_has_no_class_of_the_artifact(typed: Typed, artifact: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(artifact, tmp_path / "onnx"))
    (other / "preprocess.json").write_text(json.dumps({**PREPROCESS, "classes": ["oak", "elm", "ash", "fir", "yew"]}))
    line = typed.error("evaluate", other, "--data", "cifar10-sample")
    assert (
        "cifar10-sample has none of the artifact's classes (oak, elm, ash, fir, yew), only airplane, automobile" in line
    )


def test_predict_names_classes_with_their_probabilities(typed: Typed, artifact: Path, photos: Path) -> None:
    one = photos / "truck" / "1.png"
    rows = typed.json("predict", artifact, one, photos / "cat", "--top", 2)
    assert [row["image"] for row in rows] == [str(one), *(str(photos / "cat" / f"{n}.png") for n in range(3))]
    for row in rows:
        expected = compress.load_artifact(artifact)(row["image"])[0]
        best = np.argsort(-expected)[:2]
        assert [c["class"] for c in row["classes"]] == [CLASSES[i] for i in best]
        assert np.allclose([c["probability"] for c in row["classes"]], expected[best], atol=1e-6)
        assert row["error"] is None
    status, out, _ = typed("predict", artifact, one, "--top", 9)
    assert status == 0 and out.startswith(f"{one}  ") and out.count("%") == len(CLASSES)


def test_damaged_images_are_named_and_the_others_answered(typed: Typed, artifact: Path, photos: Path) -> None:
    (photos / "cat" / "1.png").write_bytes((photos / "cat" / "1.png").read_bytes()[:100])
    (photos / "truck" / "9.png").symlink_to("nowhere")
    status, out, err = typed("predict", artifact, photos)
    assert status == 1 and len(out.splitlines()) == 8
    assert err.splitlines()[1].endswith("9.png cannot be read as an image (No such file or directory)")
    assert err.splitlines()[0].startswith(f"error: {photos / 'cat' / '1.png'} cannot be read as an image (")
    assert len(err.splitlines()) == 2
    status, out, _ = typed("predict", artifact, photos, "--json")
    rows = json.loads(out)
    assert status == 1 and len(rows) == 10
    assert [row["classes"] is None for row in rows] == [row["error"] is not None for row in rows]


def test_predict_counts_what_it_leaves_out_of_folders(typed: Typed, artifact: Path, photos: Path) -> None:
    for name in ("cat/a.heic", "cat/.DS_Store", "cat/@eaDir/0.png"):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).write_bytes(b"x")
    status, out, err = typed("predict", artifact, photos / "cat", photos / "truck" / "0.png")
    assert status == 0 and len(out.splitlines()) == 4
    assert err == "left out 2 files (.heic 1, hidden 1), 1 folder (@eaDir 1)\n"
    for file in photos.glob("cat/*.png"):
        file.unlink()
    assert "has no images (.avif" in (line := typed.error("predict", artifact, photos / "cat"))
    assert "only 2 files (.heic 1, hidden 1)" in line


def test_predict_refuses(typed: Typed, artifact: Path, photos: Path, tmp_path: Path) -> None:
    assert "absent.png: no such file" in typed.error("predict", artifact, photos, tmp_path / "absent.png")
    (tmp_path / "empty").mkdir()
    assert "empty has no images (.avif" in typed.error("predict", artifact, tmp_path / "empty")
    assert "unknown runtime 'tpu'" in typed.error("predict", artifact, photos, "--runtime", "tpu")
    assert "absent: no such file or folder" in typed.error("predict", tmp_path / "absent", photos)


def test_bench_has_every_figure_of_every_artifact(typed: Typed, artifacts: Artifacts) -> None:
    paths = [artifacts["float"]["onnxruntime"], artifacts["int8"]["openvino"].parent, artifacts["float"]["onnxruntime"]]
    record = typed.json("bench", *paths, "--batches", "1,3", "--rounds", 30, "--processes", 2, "--threads", 1)
    assert [row["runtime"] for row in record["artifacts"]] == ["onnxruntime", "openvino", "onnxruntime"]
    for row in record["artifacts"]:
        assert row["bytes"] > 1000 and row["load_s"] > 0 and row["peak_memory_bytes"] > 20e6
    assert [(row["number"], row["batch"]) for row in record["latency"]] == [(n, b) for b in (1, 3) for n in (1, 2, 3)]
    for row in record["latency"]:
        assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
        assert row["images_per_s"] == pytest.approx(1000 * row["batch"] / row["p50_ms"])
        assert row["timings"] >= 300 and len(row["process_p50_ms"]) == 2
        low, high = row["ratio_ci95"]
        assert low <= row["ratio_to_first"] <= high
        assert row["number"] != 1 or row["ratio_ci95"] == [1, 1]
    machine = record["environment"]
    assert (
        machine["threads"] == 1
        and machine["processor"]
        and set(machine["packages"])
        == {
            "onnxruntime",
            "openvino",
            "numpy",
        }
    )


def test_files_here_take_the_place_of_no_module_in_fresh_processes(
    typed: Typed, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("random.py", "onnxruntime.py"):
        (tmp_path / name).write_text("raise ImportError('taken from the working directory')\n")
    monkeypatch.chdir(tmp_path)
    record = typed.json("bench", artifact, "--batches", 1, "--rounds", 6, "--processes", 2, "--threads", 1)
    assert record["artifacts"][0]["peak_memory_bytes"] and len(record["latency"][0]["process_p50_ms"]) == 2


@pytest.mark.slow
def test_bench_in_words(typed: Typed, artifacts: Artifacts) -> None:
    status, out, _ = typed(
        "bench", *(path.parent for path in artifacts["int8"].values()), "--rounds", 5, "--processes", 1
    )
    assert status == 0
    for words in ("peak memory", "p50", "p90", "p99", "images/s", "against 1", " of ", "onnxruntime", "numpy"):
        assert words in out


@pytest.mark.slow
def test_bench_in_every_runtime_that_reads_the_files_of_a_variant(typed: Typed, artifacts: Artifacts) -> None:
    folder = artifacts["int8"]["onnxruntime"].parents[1]
    record = typed.json("bench", folder, "--runtime", "auto", "--batches", 1, "--rounds", 5, "--processes", 1)
    found = [(Path(row["path"]).parent.name, row["runtime"]) for row in record["artifacts"]]
    assert found == [("onnx", "onnxruntime"), ("onnx", "openvino"), ("openvino", "openvino")]
    (fastest,) = record["fastest"]
    medians = {row["number"]: row["p50_ms"] for row in record["latency"]}
    assert min(medians, key=lambda number: medians[number]) in {fastest["number"], *fastest["tied"]}


def test_bench_without_the_load_generator_says_what_adds_it(
    typed: Typed, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlperf, "MODULE", "no_such_module")
    line = typed.error("bench", artifact, "--driver", "mlperf")
    assert "needs mlcommons-loadgen: pip install 'compress-model[mlperf]'" in line
    assert "--driver must be turns or mlperf, not 'mlpref'" in typed.error("bench", artifact, "--driver", "mlpref")


def test_bench_by_mlperfs_load_generator(typed: Typed, artifacts: Artifacts) -> None:
    pytest.importorskip("mlperf_loadgen")
    given = ["bench", *artifacts["float"].values(), "--driver", "mlperf", "--seconds", 0.2, "--batches", "1,4"]
    record = typed.json(*given)
    assert [(row["number"], row["scenario"], row["batch"]) for row in record["mlperf"]] == [
        (number, *test) for number in (1, 2) for test in (("SingleStream", 1), ("Offline", 4))
    ]
    for row in record["mlperf"]:
        assert row["images_per_s"] > 0 and (row["valid"] or row["reason"])
        if row["scenario"] == "SingleStream":
            assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
    status, out, _ = typed(*given)
    assert status == 0 and "Offline" in out and "no submission to MLPerf" in out


def test_bench_refuses(typed: Typed, artifacts: Artifacts, tmp_path: Path) -> None:
    first, second = artifacts["float"].values()
    for batches in ("0", "1,x", "2000"):
        assert "--batches must be comma-separated integers" in typed.error("bench", first, "--batches", batches)
    assert "does not read" in typed.error("bench", first, second, "--runtime", "onnxruntime")
    assert "no such file" in typed.error("bench", first, tmp_path / "absent")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--seconds 1", "interleaved timing does not use --seconds; remove it"),
        (
            "--layers --driver turns --processes 2 --seconds 1 --batches 1,4",
            "--layers times one batch size; give --batches one; "
            "--layers does not use --driver, --processes, --seconds; remove them",
        ),
        (
            "--driver mlperf --rounds 30 --batches 1,4,8,16 --csv a.csv",
            "--csv writes layers; add --layers, or use --json; --driver mlperf runs batches of 1 and of the largest; "
            "remove 4, 8; --driver mlperf does not use --rounds; remove it",
        ),
    ],
)
def test_bench_refuses_options_that_it_would_ignore(typed: Typed, artifact: Path, options: str, message: str) -> None:
    assert typed.error("bench", artifact, *options.split()) == f"error: {message}\n"


def test_bench_records_the_rounds_that_were_timed(typed: Typed, artifact: Path) -> None:
    record = typed.json("bench", artifact, "--batches", 1, "--rounds", 5, "--processes", 2, "--threads", 1)
    assert record["rounds"] == 6, "each process has three at least"
    record = typed.json("bench", artifact, "--batches", 1, "--rounds", 5, "--processes", 1, "--threads", 1)
    assert record["rounds"] == 5


@pytest.mark.parametrize("verb", ["bench", "evaluate", "predict"])
def test_no_torch_where_artifacts_are_run(artifact: Path, photos: Path, verb: str) -> None:
    rest = [] if verb == "bench" else [str(photos)]
    code = (
        "import sys; from compress.__main__ import main\n"
        f"sys.argv = ['compress-model', {verb!r}, {str(artifact)!r}, *{rest!r}]\n"
        "try: main()\n"
        "except SystemExit as ended: assert not ended.code, ended.code\n"
        "heavy = ('torch', 'torchvision', 'lightning', 'compress.recipe', 'yaml', 'matplotlib', 'onnx', 'openvino')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
    assert done.stderr.strip().endswith("[]"), done.stderr


def test_evaluate_finds_what_the_run_found(typed: Typed, job: Job) -> None:
    """The same images through the artifact alone: the accuracy that stands in results.json."""
    run = next((job.runs / "tiny").iterdir())
    rows = [row for variant in job.results()["variants"] for row in variant["artifacts"]]
    assert len(rows) == 4
    for row in rows:
        record = typed.json("evaluate", run / row["path"], job.root / "images" / "test", "--runtime", row["runtime"])
        assert record["accuracy"]["top1"] == pytest.approx(row["top1"], abs=1.01 / record["accuracy"]["n"])
    assert json.loads((run / rows[0]["path"]).with_name("preprocess.json").read_text())["stored_resolution"] == 32


@pytest.mark.slow
def test_a_machine_with_a_runtime_and_nothing_else(artifact: Path, photos: Path, tmp_path: Path) -> None:
    """An environment of its own with ONNX Runtime, numpy and Pillow, then with typer for the command line."""
    shutil.copytree(
        CHECKOUT / "compress", tmp_path / "site" / "compress", ignore=shutil.ignore_patterns("assets", "__pycache__")
    )
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    variables = {**environment(), "PYTHONPATH": str(tmp_path / "site"), "PYTHONSAFEPATH": "1"}

    def install(*packages: str) -> None:
        command = [python, "-m", "pip", "install", "-qq", *packages, "-c", CHECKOUT / "constraints.txt"]
        subprocess.run(command, check=True)

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([python, *arguments], capture_output=True, text=True, cwd=tmp_path, env=variables)

    install("onnxruntime", "numpy", "pillow")
    code = "import compress, sys; a = compress.load_artifact(sys.argv[1]); print(a.classes[a(sys.argv[2]).argmax()])"
    expected = compress.load_artifact(artifact)
    image = photos / "cat" / "0.png"
    done = call("-c", code, str(artifact), str(image))
    assert done.stdout.strip() == expected.classes[int(expected(image).argmax())], done.stderr
    assert "pip install typer" in call("-m", "compress", "predict", str(artifact), str(image)).stderr
    install("typer")
    predicted = call("-m", "compress", "predict", str(artifact), str(image), "--json")
    row = json.loads(predicted.stdout)[0]
    assert row["classes"][0]["class"] == done.stdout.strip()
    evaluated = call("-m", "compress", "evaluate", str(artifact), str(photos), "--json")
    assert json.loads(evaluated.stdout)["accuracy"]["correct"] == sum(right(artifact, photos).values())
    benched = call("-m", "compress", "bench", str(artifact), "--rounds", "5", "--processes", "2")
    assert benched.returncode == 0, benched.stderr
    absent = call("-m", "compress", "predict", str(artifact), str(image), "--runtime", "openvino")
    assert absent.returncode == 1 and "pip install openvino" in absent.stderr
