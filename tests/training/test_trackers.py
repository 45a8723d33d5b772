"""Every tracker of the registry against its real package, offline: fits, results and settings can be read back."""

from __future__ import annotations

import csv
import json
import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import Job

from compress.registry import TRACKERS, load_entry
from compress.training.trackers import Trackers, check_trackers, stage_settings
from compress.utils.checksums import check_run
from compress.utils.errors import CompressError, UsageError

# Trackio reads it when it is imported.
TRACKIO = os.environ.setdefault("TRACKIO_DIR", tempfile.mkdtemp())
RECIPE = {
    "name": "tiny-trackers",
    "seed": 3,
    "data": {"path": "images", "prompts": {"a: cat?": "cat"}},
    "stages": [{"id": "distilled", "kind": "distill", "lr": 0.05, "losses": {"kd": 1.0}}, {"id": "pruned", "lr": 0.02}],
}


@dataclass
class Read:
    """What a tracker holds of one stage."""

    settings: dict[str, Any]
    metrics: dict[str, list[tuple[int, float]]]  # (step, value) by name


def rows_of(rows: list[tuple[dict[str, Any], int]]) -> dict[str, list[tuple[int, float]]]:
    metrics: dict[str, list[tuple[int, float]]] = {}
    for values, step in rows:
        for name, value in values.items():
            if isinstance(value, int | float) and not name.startswith("_"):
                metrics.setdefault(name, []).append((step, float(value)))
    return metrics


def read_csv(folder: Path, project: str, run: str, stage: str) -> Read:
    with (folder / stage / "csv" / "metrics.csv").open() as file:
        rows = [({k: float(v) for k, v in row.items() if v}, int(row["step"])) for row in csv.DictReader(file)]
    return Read(yaml.safe_load((folder / stage / "csv" / "hparams.yaml").read_text()), rows_of(rows))


def read_tensorboard(folder: Path, project: str, run: str, stage: str) -> Read:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    at = folder / stage / "tensorboard"
    metrics: dict[str, list[tuple[int, float]]] = {}
    compared: dict[str, Any] = {}
    for events in {file.parent for file in at.rglob("events.out*")}:
        read = EventAccumulator(str(events)).Reload()
        for name in read.Tags()["scalars"]:
            metrics.setdefault(name, []).extend((event.step, event.value) for event in read.Scalars(name))
        content = read.summary_metadata.get("_hparams_/session_start_info")
        if content:
            start = HParamsPluginData.FromString(content.plugin_data.content).session_start_info
            compared |= dict(start.hparams.items())
    settings = yaml.safe_load((at / "hparams.yaml").read_text())
    assert compared.keys() == settings.keys(), "the HPARAMS tab has the settings"
    return Read(settings, metrics)


def read_wandb(folder: Path, project: str, run: str, stage: str) -> Read:
    from wandb.proto.wandb_internal_pb2 import Record

    for file in (folder / "wandb").glob("offline-run-*/*.wandb"):
        records = [Record.FromString(data) for data in leveldb_log(file.read_bytes())]
        (started,) = (record.run for record in records if record.WhichOneof("record_type") == "run")
        if (started.project, started.run_group, started.display_name) != (project, run, f"{run}-{stage}"):
            continue
        assert any(record.WhichOneof("record_type") == "exit" for record in records), "the run is closed"
        settings = {item.key: json.loads(item.value_json) for record in records for item in record.config.update}
        steps = []
        for record in records:
            values = {"".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            if values:
                steps.append((values, int(values.pop("trainer/global_step"))))
        return Read(settings, rows_of(steps))
    raise AssertionError(f"no run of {stage} in {folder}")


def leveldb_log(data: bytes) -> Iterator[bytes]:
    """Yield the records of a file in LevelDB's log format, behind the 7 bytes of wandb's own header."""
    place, record = 7, b""
    while place + 7 <= len(data):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        size, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        record += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last of several parts
            yield record
            record = b""


def read_mlflow(folder: Path, project: str, run: str, stage: str) -> Read:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(project)
    assert experiment
    (found,) = (r for r in client.search_runs([experiment.experiment_id]) if r.info.run_name == f"{run}-{stage}")
    assert found.info.status == "FINISHED" and found.data.tags["compress.run"] == run
    history = {name: client.get_metric_history(found.info.run_id, name) for name in found.data.metrics}
    metrics = {name: [(point.step, point.value) for point in points] for name, points in history.items()}
    return Read({name: number(value) for name, value in found.data.params.items()}, metrics)


def number(text: str) -> Any:
    """MLflow keeps settings as text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def read_trackio(folder: Path, project: str, run: str, stage: str) -> Read:
    from trackio.sqlite_storage import SQLiteStorage

    logs = SQLiteStorage.get_logs(project, f"{run}-{stage}")
    config = SQLiteStorage.get_run_config(project, f"{run}-{stage}")
    assert config["_Group"] == run
    return Read(config, rows_of([(row, row.pop("step")) for row in logs]))


READERS: dict[str, Callable[[Path, str, str, str], Read]] = {
    "csv": read_csv,
    "tensorboard": read_tensorboard,
    "wandb": read_wandb,
    "mlflow": read_mlflow,
    "trackio": read_trackio,
}


def needs(name: str) -> None:
    for module in TRACKERS[name].modules[:1]:
        pytest.importorskip(module)
    if name == "mlflow":
        pytest.importorskip("sqlalchemy")


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("MLFLOW_TRACKING_URI", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)


def track(name: str, folder: Path, run: str) -> None:
    """Log two stages as a run does: one fit after the other, then the results of both."""
    failures: list[tuple[str, str]] = []
    trackers = Trackers((name,), folder, RECIPE, run, lambda *failure: failures.append(failure))
    trackers.log_metrics("distilled", {"loss": 1.5, "lr": 0.25}, 10)
    trackers.log_metrics("distilled", {"mean_loss": 0.75}, 20)
    trackers.end_fit("distilled")
    trackers.log_metrics("pruned", {"loss": 0.5}, 10)
    trackers.end_fit("pruned")
    for stage, top1 in (("distilled", 0.875), ("pruned", 0.625)):
        trackers.log_results(stage, {"test/top1": top1, "latency_ms/onnxruntime/batch1": 2.0})
    trackers.close(True)
    assert not failures


def test_each_tracker_has_a_reader() -> None:
    assert READERS.keys() == TRACKERS.keys()


@pytest.mark.parametrize("name", TRACKERS)
def test_fits_results_and_settings_are_read_back(name: str, tmp_path: Path) -> None:
    needs(name)
    check_trackers([name])
    track(name, tmp_path, "run-1")
    first, second = (READERS[name](tmp_path, "tiny-trackers", "run-1", stage) for stage in ("distilled", "pruned"))
    assert first.metrics["loss"] == [(10, 1.5)] and first.metrics["mean_loss"] == [(20, 0.75)]
    assert first.metrics["lr"] == [(10, 0.25)]
    assert second.metrics["loss"] == [(10, 0.5)] and "mean_loss" not in second.metrics
    assert [value for _, value in first.metrics["test/top1"]] == [0.875]
    assert [value for _, value in second.metrics["test/top1"]] == [0.625]
    assert [value for _, value in first.metrics["latency_ms/onnxruntime/batch1"]] == [2.0]
    assert (first.settings["stage.lr"], second.settings["stage.lr"]) == (0.05, 0.02)
    assert first.settings["stage.losses.kd"] == 1 and first.settings["data.path"] == "images"
    assert first.settings["data.prompts.a_ cat_"] == "cat", "characters that not every tracker takes are replaced"
    assert "stages" not in first.settings and "stage.losses.kd" not in second.settings


def test_mlflow_writes_to_a_folder_where_the_uri_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # restores what the tracker sets
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE")
    track("mlflow", tmp_path / "logs", "run-1")
    read = READERS["mlflow"](tmp_path, "tiny-trackers", "run-1", "distilled")
    assert read.metrics["loss"] == [(10, 1.5)] and read.settings["stage.lr"] == 0.05
    assert not (tmp_path / "logs").exists()


def test_trackio_leaves_nothing_to_print_when_the_process_ends(tmp_path: Path) -> None:
    needs("trackio")
    from trackio import context_vars

    track("trackio", tmp_path, "run-2")
    assert context_vars.current_run.get() is None, "its exit handler would print in the middle of `--json`"


def test_a_tracker_that_fails_is_warned_of_once_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightning.pytorch.loggers import CSVLogger

    from compress.training.trackers.csv import Csv
    from compress.training.trackers.tracker import TrackedStage

    class Unreachable(CSVLogger):
        def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:  # type: ignore[override]
            if step and step > 10:
                raise ConnectionError("the server is gone")
            super().log_metrics(metrics, step)

    class Broken(Csv):
        def open(self, stage: TrackedStage) -> CSVLogger:
            return Unreachable(stage.folder / "broken", name=stage.stage, version="csv")

    entry = TRACKERS["csv"]
    monkeypatch.setitem(TRACKERS, "broken", entry._replace(where="broken:Broken"))
    monkeypatch.setattr(
        "compress.training.trackers.load_entry", lambda where: Broken if where == "broken:Broken" else load_entry(where)
    )
    failures: list[tuple[str, str]] = []
    trackers = Trackers(("broken", "csv"), tmp_path, RECIPE, "run-1", lambda *failure: failures.append(failure))
    for step in (10, 20, 30):
        trackers.log_metrics("distilled", {"loss": 1.0 / step}, step)
    trackers.log_results("distilled", {"test/top1": 0.5})
    trackers.close(True)
    assert failures == [("broken", "ConnectionError: the server is gone")]
    metrics = read_csv(tmp_path, "", "", "distilled").metrics
    assert [step for step, _ in metrics["loss"]] == [10, 20, 30] and metrics["test/top1"] == [(30, 0.5)]


def test_a_server_that_is_not_there_does_not_end_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    failures: list[tuple[str, str]] = []
    trackers = Trackers(("mlflow",), tmp_path, RECIPE, "run-1", lambda *failure: failures.append(failure))
    trackers.log_metrics("distilled", {"loss": 1.0}, 10)
    trackers.log_results("distilled", {"test/top1": 0.5})
    trackers.close(True)
    assert [name for name, _ in failures] == ["mlflow"] and "Max retries exceeded" in failures[0][1]


def test_unknown_missing_and_broken_trackers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--log: unknown logger 'wandd'; did you mean 'wandb'"):
        check_trackers(["csv", "wandd"])
    broken = TRACKERS["csv"]._replace(where="compress.training.trackers.absent:None", install="pip install it")
    monkeypatch.setitem(TRACKERS, "csv", broken)
    with pytest.raises(CompressError, match=r"--log csv: it cannot be imported \(ModuleNotFoundError.*: pip install"):
        check_trackers(["csv"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in ("wandb", "mlflow", "trackio"):
        with pytest.raises(CompressError, match=rf"{name} is not installed: pip install 'compress-model\[{name}\]'"):
            check_trackers([name])
    with pytest.raises(CompressError, match="tensorboard is not installed: pip install tensorboard"):
        check_trackers(["tensorboard"])


def test_settings_are_those_of_the_stage_and_of_the_recipe() -> None:
    recipe = {"name": "a", "measure": {"batches": [1, 4]}, "stages": [{"id": "b", "x": {"y": None}}, {"id": "c"}]}
    assert stage_settings(recipe, "b") == {"name": "a", "measure.batches": "[1, 4]", "stage.id": "b", "stage.x.y": None}
    assert "stage.id" not in stage_settings(recipe, "export/of")
    assert max(map(len, stage_settings({"k" * 999: 1}, ""))) == 250


def test_a_run_from_the_store_logs_the_results_of_every_variant(done_job: Callable[[], Job]) -> None:
    names = [name for name in TRACKERS if not TRACKERS[name].modules or available(name)]
    job = done_job()
    done = job.run_here("--log", ",".join(names), "--json")
    assert done.returncode == 0 and "warning: --log" not in done.stderr, done.stderr
    results = json.loads(done.stdout)
    (folder,) = (job.runs / "tiny").glob(results["run"]["id"])
    assert results["run"]["made"] == []
    for name in names:
        for variant in results["variants"]:
            read = READERS[name](folder / "logs", "tiny", folder.name, variant["id"])
            latest = {key: values[-1][1] for key, values in read.metrics.items()}
            assert latest["test/top1"] == pytest.approx(variant["accuracy"]["top1"])
            assert latest["cost/macs"] == pytest.approx(variant["inference"]["macs"])
            assert latest["cost/bytes"] == pytest.approx(variant["inference"]["bytes"])
            for row in variant["inference"]["latency"]:
                assert latest[f"latency_ms/{row['runtime']}/batch{row['batch']}"] == pytest.approx(row["p50_ms"])
            assert read.settings["stage.id"] == variant["id"] and read.settings["seed"] == 3
    assert check_run(folder) == []


def available(name: str) -> bool:
    try:
        needs(name)
    except pytest.skip.Exception:
        return False
    return True
