"""Search: the optimum of an exhaustive search, restarts, several workers, failures, rungs, and what is charged."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from results_factory import VALIDATION, N, example_record, training, variant
from sweep.arithmetic import COMBINATIONS, SPACE, Arithmetic, Bench, macs_of, quality

from compress.report.sides import Side
from compress.results import RunRecord, Variant
from compress.store.leases import VARIABLE, Lease
from compress.store.origin import local_runs
from compress.sweep import folder
from compress.sweep.compute import making_macs, spent_by_unit
from compress.sweep.folder import SweepFolder
from compress.sweep.job import Job
from compress.sweep.output import sweep_lines
from compress.sweep.records import Proposal, Sweep, Trial
from compress.sweep.run import run_sweep
from compress.sweep.sampler import SamplerInput, combinations, write_settings
from compress.utils.console import console
from compress.utils.errors import CompressError, Problem, RecipeError, UsageError

LRS, TARGETS, KINDS = (0.01, 0.03, 0.1, 0.3), (0.2, 0.4, 0.6, 0.8), ("pruned", "int8")
SAMPLERS = ("tpe", "nsga2", "random")


def validation_of(lr: float, target: float, kind: str) -> float:
    return round(VALIDATION * quality(lr, target, kind)) / VALIDATION


def settings_of(sweep: Sweep, number: int | None) -> tuple[Any, ...]:
    (point,) = (point for point in sweep.points if point.number == number)
    return (*point.settings.values(),)


def plain(sweep: Sweep) -> Any:
    """A sweep without what differs each time: names of folders; nor how often it ended."""
    points = [point.model_dump(exclude={"run"}) for point in sweep.points]
    return points, sweep.answer.model_dump(exclude={"command", "test_rounds"})


def test_answer_is_that_of_an_exhaustive_search(bench: Bench) -> None:
    sweep = bench.sweep(tolerance=0.06)
    assert len(sweep.points) == COMBINATIONS and sweep.ended == "all 32 combinations were tried"
    level = 0.9 - 0.06
    fits = [each for each in itertools.product(LRS, TARGETS, KINDS) if validation_of(*each) >= level]
    cheapest = min(macs_of(target) for _, target, _ in fits)
    best = max((each for each in fits if macs_of(each[1]) == cheapest), key=lambda each: validation_of(*each))
    assert settings_of(sweep, sweep.answer.trial) == best == (0.1, 0.4, "pruned")
    assert sweep.answer.sentence.startswith("This one: trial ") and "granted" not in sweep.answer.sentence
    (row,) = (row for row in sweep.answer.tested if row.number == sweep.answer.trial)
    assert row.granted and row.file == "pytorch" and row.top1 == round(N * quality(*best)) / N


def test_most_accurate_within_a_budget_is_that_of_an_exhaustive_search(bench: Bench) -> None:
    sweep = bench.sweep(budget="latency.openvino.1<=0.31ms,size<=1MB")
    fits = [
        (lr, target, kind)
        for lr, target, kind in itertools.product(LRS, TARGETS, KINDS)
        if target * (0.5 if kind == "int8" else 1) <= 0.31 and macs_of(target) * (1 if kind == "int8" else 4) <= 1e6
    ]
    assert (
        settings_of(sweep, sweep.answer.trial) == max(fits, key=lambda each: validation_of(*each)) == (0.1, 0.6, "int8")
    )
    assert "size 600 kB" in sweep.answer.sentence and "latency.openvino.1 0.3 ms" in sweep.answer.sentence


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_try_no_combination_twice(bench: Bench, sampler: str) -> None:
    pytest.importorskip("optuna")
    make = Arithmetic()
    sweep = bench.sweep(SPACE.replace("grid", sampler), trials=50, tolerance=0.06, make=make)
    assert sweep.ended == "all 32 combinations were tried"
    assert len({tuple(point.settings.items()) for point in sweep.points}) == len(make.made) == COMBINATIONS
    assert settings_of(sweep, sweep.answer.trial) == (0.1, 0.4, "pruned")


def test_tpe_finds_the_optimum_of_a_large_space(bench: Bench) -> None:
    """The best learning rate of any number between 0.001 and 10, at the largest network, is 0.1."""
    pytest.importorskip("optuna")
    text = """\
parameters:
  stages.distilled.lr: {low: 0.001, high: 10.0, log: true}
  stages.pruned.target_macs: {low: 0.2, high: 0.8, step: 0.1}
variants: [pruned]
objectives: [validation]
"""
    sweep = bench.sweep(text, trials=40)
    lr, target = settings_of(sweep, sweep.answer.trial)
    assert 0.04 < lr < 0.25 and target >= 0.7
    assert max(point.figures["validation"] for point in sweep.points) >= quality(0.1, 0.8, "pruned") - 0.006


@pytest.mark.parametrize("sampler", ["grid", *SAMPLERS])
def test_restart_tells_again_what_is_stored_and_runs_nothing_twice(bench: Bench, sampler: str, tmp_path: Path) -> None:
    if sampler != "grid":
        pytest.importorskip("optuna")
    text = SPACE.replace("grid", sampler).replace("sampler:", "population: 4\nsampler:")
    whole = bench.sweep(text, trials=12, name="whole")
    first, second = Arithmetic(), Arithmetic()
    bench.sweep(text, trials=7, name="again", make=first)
    again = bench.sweep(text, trials=12, name="again", make=second)
    assert (len(first.made), len(second.made)) == (7, 5)
    assert plain(again) == plain(whole)
    assert (again.answer.test_rounds, whole.answer.test_rounds) == (2, 1), "seven trials, then twelve"


def test_trial_of_a_killed_worker_is_made_with_the_same_settings(bench: Bench) -> None:
    pytest.importorskip("optuna")
    text = SPACE.replace("grid", "random")

    def kill(lr: float, target: float) -> None:
        if len(make.made) == 3:
            raise KeyboardInterrupt

    make = Arithmetic(fail=kill)
    with pytest.raises(KeyboardInterrupt):
        bench.sweep(text, trials=5, make=make)
    killed, after = make.made[-1], Arithmetic()
    assert "interrupted" in json.loads((bench.runs / "sweeps/tiny-space/sweep_results.json").read_text())["ended"]
    sweep = bench.sweep(text, trials=5, make=after)
    assert after.made[0] == killed and len(after.made) == 3 and len(sweep.points) == 5


def held_elsewhere(path: Path, content: str | None = None) -> None:
    """Write the claim of a worker on another machine; without a name where it was killed before it wrote that."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lease = Lease(path)
    assert lease.claim()
    own = path.read_text().replace(f"host={os.uname().nodename}", "host=elsewhere")
    lease.release()
    path.write_text(own if content is None else content)


@pytest.mark.parametrize("content", [None, ""])
def test_trials_of_a_machine_that_is_gone_are_taken_over(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    job = bench.job(trials=3)
    bench.sweep(trials=1)
    held_elsewhere(job.folder.claims / "00001.lease", content)
    make, clock = Arithmetic(), time.monotonic()
    sweep = bench.sweep(trials=3, make=make)
    assert [point.state for point in sweep.points] == ["done"] * 3 and len(make.made) == 2
    assert time.monotonic() - clock > 0.9, "it was given its lease's time"


def test_worker_waits_for_a_sign_of_life_of_another_machine_only(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "6")
    job = bench.job(trials=2)
    path = job.folder.claims / "00000.lease"
    held_elsewhere(path)
    beat = threading.Timer(0.5, os.utime, (path,))
    beat.start()
    clock = time.monotonic()
    sweep = bench.sweep(trials=2)
    assert [point.number for point in sweep.points] == [1] and 0.4 < time.monotonic() - clock < 5
    beat.join()


@pytest.mark.parametrize("sampler", ["grid", "tpe"])
def test_workers_share_a_sweep(bench: Bench, sampler: str) -> None:
    if sampler != "grid":
        pytest.importorskip("optuna")
    text = SPACE.replace("grid", sampler)
    job = bench.job(text, trials=24, make=Arithmetic(seconds=0.02))
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=run_sweep, args=(job,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    sweep = bench.sweep(text, trials=24, make=Arithmetic(fail=lambda lr, target: pytest.fail("made again")))
    assert [point.number for point in sweep.points] == list(range(24))
    assert len(list((bench.runs / "tiny").iterdir())) == 24, "each trial was run once"


def test_failures_are_recorded_and_the_sweep_goes_on(bench: Bench) -> None:
    def fail(lr: float, target: float) -> None:
        if lr == 0.3 and target != 0.4:
            raise CompressError(f"stage distilled: the loss is nan in epoch {int(10 * target)}")

    sweep = bench.sweep(SPACE.replace("[pruned, int8]", "[pruned]").replace("0.01, ", ""), make=Arithmetic(fail=fail))
    assert Counter(point.state for point in sweep.points) == {"done": 9, "failed": 3}
    assert bench.trial(8)["reason"] == "stage distilled: the loss is nan in epoch 2"
    assert bench.trial(8)["spent"] == {} and sweep.answer.trial is not None


def test_three_failures_for_one_reason_stop_the_sweep(bench: Bench) -> None:
    def fail(lr: float, target: float) -> None:
        if lr > 0.02:
            raise RuntimeError(f"no weights at address {len(make.made)}")

    make = Arithmetic(fail=fail)
    with pytest.raises(CompressError) as raised:
        bench.sweep(make=make)
    reason = "unexpected RuntimeError: no weights at address 11"
    assert str(raised.value).startswith(f"3 trials in a row failed: {reason}; fix it and rerun the same command")
    assert len(make.made) == 11 and (bench.runs / "sweeps/tiny-space/sweep.html").is_file()
    job = bench.job(make=Arithmetic())
    sweep = run_sweep(job, retry_failed=True)
    assert {point.state for point in sweep.points} == {"done"} and len(sweep.points) == COMBINATIONS


def test_objectives_that_a_run_lacks_are_a_failure(bench: Bench) -> None:
    with pytest.raises(
        CompressError, match=r"int8: no figure of latency.openvino.4; did you mean 'latency.openvino.1'\?"
    ):
        bench.sweep(SPACE.replace("macs]", "latency.openvino.4]").replace("[pruned, int8]", "[int8]"))


def test_limits(bench: Bench) -> None:
    assert len(bench.sweep(trials=3).points) == 3
    assert len(bench.sweep(hours=0.0).points) == 3
    unit = 600 + 4000  # embeddings once; the first learning rate's fit
    sweep = bench.sweep(macs=unit + 3 * 300 + 2 * 50)  # three pruned networks, two of them in INT8: five trials
    assert len(sweep.points) == 5 and sweep.ended.startswith("trials have taken")


def test_search_is_charged_for_shared_work_once(bench: Bench) -> None:
    """Each run makes both variants; four fits, 16 repairs and 16 calibrations from one set of embeddings."""
    sweep = bench.sweep(tolerance=0.06)
    spent = 600 + 4 * 4000 + 16 * 300 + 16 * 50
    making = 600 + 4000 + 300
    assert sweep.compute.macs == spent and sweep.compute.making_macs == making
    assert sweep.compute.unshared_macs == 32 * (600 + 4000 + 300 + 50)
    assert sweep.compute.ratio == spent / making
    assert sweep.compute.reused_share == pytest.approx(1 - spent / (32 * 4950))


def test_more_epochs_are_charged_at_every_rung_and_hopeless_trials_are_stopped(bench: Bench) -> None:
    text = SPACE.replace("[pruned, int8]", "[pruned]").replace(", macs]", "]") + (
        "fidelity: {keys: [stages.distilled.epochs], rungs: [1, 3, 9], keep: 0.5}\n"
    )
    make = Arithmetic()
    sweep = bench.sweep(text, make=make)
    assert settings_of(sweep, sweep.answer.trial) == (0.1, 0.8)
    epochs = Counter(epochs for _, _, epochs in make.made)
    assert epochs[1] == 16 and 16 > epochs[3] > epochs[9] > 0
    states = Counter(point.state for point in sweep.points)
    assert states == {"done": epochs[9], "stopped": 16 - epochs[9]}
    fits = {(lr, each) for lr, _, each in make.made}
    assert sweep.compute.macs == 600 + sum(1000 * each for _, each in fits) + 300 * len(make.made) + 50 * len(make.made)
    stopped = next(point for point in sweep.points if point.state == "stopped")
    assert (
        stopped.reason
        and re.match(
            r"stopped at stages\.distilled\.epochs=[13] of 9: others of the \d+ trials there are better", stopped.reason
        )
        and stopped.dominance is None
    )
    assert "--set stages.distilled.epochs=9" in (sweep.answer.command or "")
    assert any("nothing of its fit is reused" in remark for remark in sweep.remarks)


def test_making_a_student_takes_the_training_of_a_teacher_that_the_recipe_trains() -> None:
    teacher = variant("large", "train", training=training(5000))
    student = variant("small", "distill", parent="large", training=training(300))
    half = variant("half", "prune", parent="small", training=training(400))
    run = example_record().model_copy(update={"variants": (teacher, student, half)})
    assert [making_macs(Side(run, each)) for each in run.variants] == [5000, 5300, 5400]


def test_folder_of_another_sweep_is_refused(bench: Bench) -> None:
    bench.sweep(trials=1)
    with pytest.raises(UsageError, match="holds a sweep with another space; choose another --name"):
        bench.sweep(SPACE.replace("0.3]", "0.5]"), trials=1)
    with pytest.raises(UsageError, match="holds a sweep with another recipe"):
        bench.sweep(trials=1, overrides=["seed=4"])
    assert len(bench.sweep(SPACE + "description: the same\n", trials=1).points) == 1


def test_workers_that_begin_at_once_do_not_replace_each_others_sweep(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, other = bench.job(trials=0), bench.job(SPACE.replace("0.3]", "0.5]"), trials=0)
    write, second = folder.write_atomic, threading.Thread(target=lambda: refused.append(refusal(other)))
    refused: list[str] = []

    def slow(path: Path, text: str) -> None:
        if not second.ident:
            second.start()
            time.sleep(0.2)
        write(path, text)

    monkeypatch.setattr(folder, "write_atomic", slow)
    job.folder.open(job.about())
    second.join()
    assert "holds a sweep with another space" in refused[0]


def refusal(job: Job) -> str:
    try:
        job.folder.open(job.about())
    except UsageError as error:
        return str(error)
    return "none"


def test_commands_of_a_sweep_at_a_url_name_the_url(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    job = replace(bench.job(), folder=SweepFolder(local_runs("memory://team/runs/"), "mine"))
    assert job.command(["seed=1"]).endswith("--set seed=1 --runs memory://team/runs")


def test_damaged_files_of_trials_count_as_absent(bench: Bench) -> None:
    bench.sweep(trials=3)
    (bench.runs / "sweeps/tiny-space/trials/00001.json").write_text("{")
    make = Arithmetic()
    assert len(bench.sweep(trials=3, make=make).points) == 3 and len(make.made) == 1


def test_trials_whose_run_is_gone_are_left_out_with_a_remark(bench: Bench) -> None:
    first = bench.sweep(trials=8)
    gone = next(point for point in first.points if point.dominance == "front")
    (bench.runs / str(gone.run) / "results.json").unlink()
    sweep = bench.sweep(trials=8)
    assert sweep.points[gone.number].dominance is None and sweep.answer.trial != gone.number
    assert any(
        remark.startswith(f"trial {gone.number} is left out") and gone.command in remark for remark in sweep.remarks
    )


REFUSED = """\
parameters:
  stages.distilled.verify: [0, 4]
  stages.distilled.teacher: [stored, live]
variants: [pruned]
sampler: grid
"""


def test_combinations_that_the_recipe_refuses_are_infeasible(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each value is right by itself; the embeddings of a live teacher are not cached and cannot be verified."""
    monkeypatch.setattr(console, "file", sys.stderr)
    make = Arithmetic()
    sweep = bench.sweep(REFUSED, make=make)
    assert "the recipe refuses 1 of the first 4 combinations" in capsys.readouterr().err
    assert Counter(point.state for point in sweep.points) == {"done": 3, "infeasible": 1} and len(make.made) == 3
    (refused,) = (point for point in sweep.points if point.state == "infeasible")
    assert refused.reason and "`verify` checks cached embeddings" in refused.reason and refused.figures == {}
    assert any(line.startswith("Refused by the recipe: trial 3: ") for line in sweep_lines(sweep))


def test_refused_trials_do_not_stop_a_sweep_unless_there_is_nothing_else(bench: Bench) -> None:
    def refuse(lr: float, target: float) -> None:
        if lr < 0.2:
            raise RecipeError([Problem("tiny.yaml:3", "lr: too small")])

    make = Arithmetic(fail=refuse)
    sweep = bench.sweep(make=make)
    assert Counter(point.state for point in sweep.points) == {"infeasible": 24, "done": 8}
    with pytest.raises(RecipeError, match="verify"):
        bench.job(REFUSED.replace("[0, 4]", "[4]").replace("[stored, live]", "[live]"))


@pytest.mark.parametrize("line", ["epochs: [", "seed: 7\n", None], ids=["half-saved", "valid", "gone"])
def test_editing_the_recipe_ends_the_sweep_and_undoing_it_goes_on(bench: Bench, line: str | None) -> None:
    before = bench.recipe.read_text()

    def edit(lr: float, target: float) -> None:
        if len(make.made) == 3:
            bench.recipe.unlink() if line is None else bench.recipe.write_text(line + before)

    make = Arithmetic(fail=edit)
    job = bench.job(trials=6, make=make)
    with pytest.raises(CompressError, match=r"tiny\.yaml (is another|cannot be read).*undo the change and rerun"):
        run_sweep(job)
    assert len(make.made) == 3 and len(job.folder.trials()) == 3, "no trial is of the edited recipe, none is burnt"
    bench.recipe.write_text(before)
    after = Arithmetic()
    assert len(bench.sweep(trials=6, make=after).points) == 6 and len(after.made) == 3


def test_hundred_refused_trials_in_a_row_end_a_sweep(bench: Bench) -> None:
    def refuse(lr: float, target: float) -> None:
        raise RecipeError([Problem("tiny.yaml:3", "lr: too small")])

    text = SPACE.replace("[0.01, 0.03, 0.1, 0.3]", "{low: 1, high: 101, step: 1}")
    with pytest.raises(
        CompressError, match=r"refused the settings of 100 trials in a row, the last: .*narrow the parameters"
    ):
        bench.sweep(text, make=Arithmetic(fail=refuse))


def test_workers_do_not_propose_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sampler that takes its time, and takes the first combination that no trial has."""

    def first(about: SamplerInput, number: int, ended: Sequence[Trial], begun: Sequence[Proposal]) -> Proposal | None:
        time.sleep(0.1)
        taken = [each.settings for each in (*ended, *begun)]
        rest = [each for each in combinations(about.space) if each not in taken]
        return Proposal(number=number, settings=rest[0], variant="pruned", overrides=tuple(write_settings(rest[0])))

    monkeypatch.setattr("compress.sweep.worker.propose", first)
    job = bench.job(SPACE.replace("[pruned, int8]", "[pruned]"), trials=6)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=run_sweep, args=(job,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    settings = [tuple(bench.trial(number)["settings"].values()) for number in range(6)]
    assert len(set(settings)) == 6


def test_trial_that_fails_at_a_later_rung_has_no_figures(bench: Bench) -> None:
    def fail(lr: float, target: float) -> None:
        if make.made[-1][2] == 9 and target > 0.7:
            raise CompressError(f"out of memory at {lr}")

    make = Arithmetic(fail=fail)
    text = SPACE.replace("[pruned, int8]", "[pruned]").replace(", macs]", "]") + (
        "fidelity: {keys: [stages.distilled.epochs], rungs: [1, 9], keep: 0.9}\n"
    )
    sweep = bench.sweep(text, trials=4, make=make)
    (failed,) = (point for point in sweep.points if point.state == "failed")
    assert failed.run is not None and failed.figures == {}, "its first run was made"


def ledger_of(run: RunRecord, ids: tuple[str, ...], embedded: int) -> list[Variant]:
    parts = [("teacher: 2 views of 64 images", embedded), ("student: forward", 1)]
    return [
        variant(name, "distill", stage_key=f"{run.run.id} {name}", training=training(0, parts=parts)) for name in ids
    ]


def test_embeddings_of_two_teachers_are_charged_twice() -> None:
    """Two students of one teacher share its embeddings, unless they see other images."""

    def stage(id: str, teacher: str, **more: bool) -> dict[str, object]:
        return {"id": id, "kind": "distill", "from": teacher, "augment": True, "unlabeled": True, **more}

    record = example_record()
    stages = [{"id": name, "kind": "teacher"} for name in ("A", "B")] + [
        stage("a1", "A"), stage("a2", "A"), stage("plain", "A", augment=False), stage("b", "B"),
    ]  # fmt: skip
    made = [variant(name, "teacher", stage_key=f"key {name}") for name in ("A", "B")]
    made += ledger_of(record, ("a1", "a2", "plain"), 600) + ledger_of(record, ("b",), 900)
    recipe = record.recipe.model_copy(update={"resolved": {**record.recipe.resolved, "stages": stages}})
    spent = spent_by_unit(record.model_copy(update={"variants": tuple(made), "recipe": recipe}))
    embedded = sorted(macs for name, macs in spent.items() if name.startswith("teacher embeddings"))
    assert embedded == [600, 600, 900] and sum(spent.values()) == 2100 + 4
