"""The file of a space: what it may say, and all of its mistakes at once, with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest
from sweep.arithmetic import COMBINATIONS, SPACE, Bench

from compress.recipe.load import load_recipe
from compress.sweep.job import parse_macs, read_job
from compress.sweep.objectives import parse_budget
from compress.sweep.sampler import combinations, write_settings
from compress.sweep.space import parse_space
from compress.utils.errors import CompressError, RecipeError, UsageError


def problems(text: str) -> list[str]:
    with pytest.raises(RecipeError) as raised:
        parse_space(text, "s.yaml")
    return str(raised.value).splitlines()


def parameter(text: str) -> list[str]:
    return problems(f"parameters:\n  a.lr: {text}\n")


def test_values_of_parameters() -> None:
    space, _ = parse_space(
        """
parameters:
  choice: [resnet18, {model: resnet34, resolution: 64}, no, 3, null]
  whole: {low: 2, high: 8, step: 3}
  number: {low: 0.1, high: 0.4, step: 0.1}
  any: {low: 1, high: 2.5}
variants: [a, b]
"""
    )
    values = {key: each.values() for key, each in space.parameters.items()}
    assert values["whole"] == [2, 5, 8] and values["number"] == [0.1, 0.2, 0.3, 0.4] and values["any"] is None
    assert space.size() is None and space.objectives == ["validation", "macs"]


def test_combinations_are_those_of_all_values_and_variants() -> None:
    space, _ = parse_space(SPACE)
    found = list(combinations(space))
    assert len(found) == len({tuple(each.items()) for each in found}) == space.size() == COMBINATIONS
    assert found[1] == {"stages.distilled.lr": 0.01, "stages.pruned.target_macs": 0.2, "variant": "int8"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{low: 1}", "s.yaml:2: parameters.a.lr: a range needs both ends; set `high`"),
        ("{low: 2, high: 1}", "s.yaml:2: parameters.a.lr: `low` must be less than `high`, not 2 and 1"),
        ("{low: 0, high: 1, log: true}", "s.yaml:2: parameters.a.lr: `log` needs a positive `low` and no `step`"),
        ("{low: 1, high: 6, step: 2}", "`high` must be a whole number of steps above `low`; set it to 5"),
        (
            "{low: 1, high: 6, step: 0.5}",
            "`step` of a range of integers must be an integer, not 0.5; write `low` as 1.0",
        ),
        ("{low: 0.0, high: 1.0, step: 1.0e-6}", "has more than 10,000 values; choose a larger `step`, or none"),
        ("{choices: [1], step: 1}", "`step` and `log` are for a range; remove them, or set `low` and `high`"),
        ("{choices: [1], low: 1, high: 2}", "set either `choices`, or `low` and `high`"),
        ("{}", "set either `choices`, or `low` and `high`"),
        ("[1, 2, 1]", "1 is in `choices` twice; remove one"),
        ("[0, 1, 0]", "0 is in `choices` twice; remove one"),
        ("[false, true, false]", "false is in `choices` twice; remove one"),
        ("[]", "number of entries must be at least 1, not 0"),
        ("{low: a, high: 2}", "s.yaml:2: parameters.a.lr.low: must be a number, not 'a'"),
        ("{low: 1, high: 2, setp: 1}", "unknown key; did you mean 'step'? allowed: choices, high, log, low or step"),
        ("0.1", "s.yaml:2: parameters.a.lr: must be a section of keys and values, not 0.1"),
    ],
)
def test_mistakes_of_a_parameter(text: str, says: str) -> None:
    (found,) = parameter(text)
    assert says in found, found


def test_all_mistakes_are_listed_with_their_lines() -> None:
    found = problems(
        """\
parameters:
  a: {low: 3, high: 1}
  b: {low: 1, high: 9, log: 1}
objectives: [validation, top1]
sampler: tpr
populaton: 3
fidelity: {keys: [x], rungs: [9, 3]}
"""
    )
    assert [line.split(": ")[0] for line in found] == [f"s.yaml:{line}" for line in (2, 3, 4, 5, 7, 6)]
    assert "objective 'top1' is measured on the test split, which selects nothing" in found[2]
    assert "must be 'tpe', 'nsga2', 'random' or 'grid', not 'tpr'; did you mean 'tpe'?" in found[3]
    assert "`rungs` must rise, not [9, 3]" in found[4]
    assert "did you mean 'population'?" in found[5]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("objectives: [macs]", "objectives lack validation, without which the smallest network wins; add it"),
        ("objectives: [validation, latency.openvino]", "unknown objective 'latency.openvino'"),
        ("objectives: [validation, latency.*.1]", "objective 'latency.*.1' stands for several; name one"),
        ("objectives: [validation, integer_macs.openvino]", "objective 'integer_macs.openvino' is not a cost"),
        ("objectives: [validation, size, size]", "'size' is listed twice; remove one"),
        ("sampler: grid", "a grid needs a `step` or `choices` for a.lr"),
        ("fidelity: {keys: [a.lr], rungs: [1, 2]}", "a.lr is both a parameter and a key of `fidelity`; remove one"),
        ("fidelity: {keys: [x], rungs: [1]}", "number of entries must be at least 2, not 1"),
        ("parameters: {}", "duplicate key 'parameters', first used at s.yaml:1; remove one"),
    ],
)
def test_mistakes_between_keys(line: str, says: str) -> None:
    assert says in "\n".join(problems(f"parameters: {{a.lr: {{low: 0.1, high: 1.0}}}}\n{line}\n"))


@pytest.mark.parametrize("text", ["", "3", "parameters: [", "a: 1"])
def test_other_files_are_refused_in_a_line(text: str) -> None:
    assert problems(text)[0].startswith("s.yaml:")


def test_values_are_tried_on_the_recipe(bench: Bench) -> None:
    text = """\
parameters:
  stages.distilled.lr: [0.1, fast]
  stages.distiled.epochs: {low: 1, high: 3}
  stages.pruned.target_macs: {low: 0.5, high: 1.5}
variants: [pruned, int9]
sampler: random
fidelity: {keys: [stages.distilled.epoch], rungs: [1, 2]}
"""
    with pytest.raises(RecipeError) as raised:
        bench.job(text, trials=3)
    found = str(raised.value).splitlines()
    file = str(bench.root / "space.yaml")
    for line, says in (
        (2, "stages.distilled.lr=fast: stages.distilled.lr: must be a number, not 'fast'"),
        (3, "stages has no entry 'distiled'; did you mean 'distilled'?"),
        (4, "stages.pruned.target_macs=1.5"),
        (5, "variants: no stage makes 'int9'; did you mean 'int8'?"),
        (7, "stages.distilled.epoch=1: stages.distilled.epoch: unknown key; did you mean 'epochs'?"),
    ):
        assert any(one.startswith(f"{file}:{line}: ") and says in one for one in found), (line, found)
    assert not any("lr=0.1" in one or "target_macs=0.5" in one for one in found)


@pytest.mark.parametrize(
    ("budget", "says"),
    [
        ("latency.openvino.1<=+5%", "a budget is a largest figure; write e.g. latency.openvino.1<=5ms"),
        ("size>=1MB", "a budget is a largest figure; write e.g. size<=10MB"),
        ("top1>=90%", "top1 is measured on the test split, which selects nothing; bound its loss by --tolerance"),
        ("latency.*.1<=5ms", "a budget is on one of macs, size,"),
        ("size<=5ms", "a figure of size is in B, kB"),
        (" ", "--budget is empty; write e.g. latency.openvino.1<=5ms,size<=10MB"),
    ],
)
def test_mistakes_of_a_budget(budget: str, says: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_budget(budget)
    assert str(raised.value).startswith("--budget") and says in str(raised.value)


def test_budgets_have_the_units_of_gate_rules() -> None:
    assert [rule.bound for rule in parse_budget("latency.openvino.1<=5ms, size<=10MB,macs<=40M")] == [5, 1e7, 4e7]


@pytest.mark.parametrize(("text", "macs"), [("2e15", 2 * 10**15), ("2P", 2 * 10**15), ("500T", 5 * 10**14), ("7", 7)])
def test_training_macs(text: str, macs: int) -> None:
    assert parse_macs(text) == macs


@pytest.mark.parametrize("text", ["much", "0", "-3", "inf", "2 hours"])
def test_training_macs_that_are_invalid(text: str) -> None:
    with pytest.raises(UsageError, match="--macs"):
        parse_macs(text)


def test_options_that_are_wrong(bench: Bench) -> None:
    unlimited = SPACE.replace("grid", "random")
    with pytest.raises(UsageError, match="nothing ends the sweep; set --trials, --hours or --macs"):
        bench.job(unlimited)
    for hours in (float("nan"), float("inf"), -1.0):
        with pytest.raises(UsageError, match="--hours must be a number of hours"):
            bench.job(unlimited, hours=hours)
    with pytest.raises(UsageError, match=r"--tolerance must be a fraction in \[0, 1\), not 5"):
        bench.job(tolerance=5)
    with pytest.raises(UsageError, match=r"set `trainer\.devices: 1` and start a worker per device"):
        bench.job(overrides=["trainer.devices=2"])
    nested = SPACE.replace("stages.distilled.lr: [0.01, 0.03, 0.1, 0.3]", "stages.distilled.student: [test_resnet]")
    for text, key in ((SPACE, "stages.distilled.lr=0.2"), (nested, "stages.distilled.student.resolution=48")):
        with pytest.raises(UsageError, match=r"parameter stages\.distilled\.\w+ of the space replaces it"):
            bench.job(text, overrides=[key])
    for name in ("../x", "", "a/b", "-x", "x" * 65):
        with pytest.raises(UsageError, match="is not a name of a folder"):
            bench.job(name=name)
    with pytest.raises(UsageError, match=r"cannot be read .*choose one of quickstart, or a YAML file"):
        read_job(str(bench.recipe), Path("absent"), bench.runs)


def test_shipped_space_fits_the_quickstart(tmp_path: Path) -> None:
    job = read_job("quickstart", Path("quickstart"), tmp_path)
    assert job.space.size() == 36 and job.folder.name == "quickstart"


def test_samplers_say_how_to_install_optuna(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    assert bench.job().space.sampler == "grid"
    with pytest.raises(CompressError, match=r"sampler tpe needs Optuna: pip install 'compress-model\[sweep\]'"):
        bench.job(SPACE.replace("grid", "tpe"), trials=3)


def test_figures_that_no_run_will_have_are_refused(bench: Bench) -> None:
    """The recipe exports to ONNX Runtime and OpenVINO, times batches of 1 and 4, and INT8 networks not in PyTorch."""
    text = SPACE.replace("macs]", "latency.openvino.2, size.tflite, latency.pytorch.1]")
    with pytest.raises(RecipeError) as raised:
        bench.job(text.replace("[pruned, int8]", "[int8]"))
    found = str(raised.value).splitlines()
    assert len(found) == 3 and all(line.startswith(f"{bench.root / 'space.yaml'}:5: ") for line in found)
    assert "int8 will have no latency.openvino.2: measure.batches has 1 and 4; add 2, or choose one of them" in found[0]
    assert "int8 will have no size.tflite: there will be no such file; choose among onnxruntime or openvino" in found[1]
    assert "int8 will have no latency.pytorch.1" in found[2]
    assert bench.job(SPACE.replace("macs]", "latency.openvino.4, size.onnxruntime]")).space.costs()
    with pytest.raises(
        UsageError, match=r"--budget: pruned will have no latency\.openvino\.9: measure\.batches has 1 and 4"
    ):
        bench.job(budget="latency.openvino.9<=5ms")
    assert bench.job(budget="latency.pytorch.1<=5ms").budget, "the pruned network is timed in PyTorch"


def test_figures_that_depend_on_the_machine_or_a_parameter_are_not_refused(bench: Bench) -> None:
    text = SPACE.replace("macs]", "latency.tflite.1]")
    assert bench.job(text, overrides=["stages.files.runtimes=auto"]).space.costs()
    batches = SPACE.replace("parameters:", "parameters:\n  measure.batches: [[1], [9]]")
    assert bench.job(batches.replace("macs]", "latency.openvino.9]")).space.costs()


def test_sections_are_set_before_their_keys(bench: Bench) -> None:
    """Otherwise the section would replace the key that was set before it."""
    text = """\
parameters:
  stages.distilled.student.resolution: [32, 48]
  stages.distilled.student: [test_resnet, test_vit]
variants: [distilled]
sampler: grid
"""
    space, _ = parse_space(text)
    for settings in combinations(space):
        recipe = load_recipe(bench.recipe, write_settings(settings))
        (student,) = (stage["student"] for stage in recipe.resolved()["stages"] if stage["id"] == "distilled")
        assert student["resolution"] == settings["stages.distilled.student.resolution"]
        assert student["model"] == settings["stages.distilled.student"]
