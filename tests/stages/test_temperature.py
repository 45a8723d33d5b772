"""`temperature_scaling` of an export stage: the tiny job's files with calibrated confidence."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from recipe.recipe_texts import GOOD
from support import Job
from torch import nn

from compress.data.prepared import ImageData, Split
from compress.data.preprocess import Preprocess
from compress.efficiency.temperature import fit_temperature
from compress.pipeline.plan import plan_stages
from compress.recipe.load import parse_recipe
from compress.results import RunRecord
from compress.results.stored import logits_file
from compress.stages.export.temperature import fold_temperature
from compress.stages.planned import PlannedStage
from compress.utils.errors import CompressError, RecipeError, UsageError


def exports(settings: str) -> tuple[PlannedStage, ...]:
    """The exports of the good recipe with these settings."""
    text = GOOD.replace("from: [distilled, int8]\n", f"from: [distilled, int8]\n{settings}")
    return plan_stages(parse_recipe(text), "data").exports


def fit_to_some_wrong(logits: np.ndarray, labels: np.ndarray) -> float | None:
    """Fit as if some labels were others: the tiny job's validation images are all classified correctly."""
    return fit_temperature(logits, np.where(np.arange(len(labels)) % 6, labels, (labels + 1) % 3))


@pytest.mark.slow
def test_files_are_calibrated_in_their_own_runtime_and_predict_as_before(
    done_job: Callable[[], Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compress.stages.export.temperature.fit_temperature", fit_to_some_wrong)
    job = done_job()
    plain = RunRecord.model_validate(job.results())
    job.recipe.write_text(job.recipe.read_text().replace("triton: true", "temperature_scaling: true"))
    done = job.run_here("--no-dry-run")
    assert done.returncode == 0, done.stderr
    assert "logits divided by" in done.stderr + done.stdout
    labels = np.load(next((job.runs / "store").glob("*/labels-validation.npy")))
    for before, after in zip(plain.variants, RunRecord.model_validate(job.results()).variants, strict=True):
        assert before.quality == after.quality  # the network in PyTorch is as it was
        for old, new in zip(before.artifacts, after.artifacts, strict=True):
            assert old.temperature is None and new.temperature and new.temperature != pytest.approx(1, abs=1e-3)
            assert new.top1 == pytest.approx(old.top1, abs=0.01) and (new.top1_agreement or 0) >= 0.97
            assert new.max_abs_diff is not None and old.max_abs_diff is not None
            assert new.max_abs_diff <= 1.5 * old.max_abs_diff / new.temperature + 1e-4
            # What is left to be fitted on the file's own validation logits is next to nothing.
            (folder,) = {
                path.parent.parent
                for path in (job.runs / "store").glob(f"*/logits/{new.runtime}-{new.precision}-validation.npy")
                if f'"temperature": {new.temperature}' in (path.parent.parent / "artifacts.json").read_text()
            }
            left = fit_to_some_wrong(np.load(logits_file(folder, new, "validation")), labels)
            assert left == pytest.approx(1, abs=0.05)


def test_it_needs_validation_images_and_finite_logits() -> None:
    (stage,) = (each.stage for each in exports("    temperature_scaling: true\n") if each.parent == "int8")
    split, empty = (
        Split(np.zeros((4, 3, 8, 8), np.uint8), np.arange(4)),
        Split(np.zeros((0, 3, 8, 8)), np.zeros(0, int)),
    )
    data = ImageData("tiny", ("a", "b", "c", "d"), 8, split, split, empty, split, "", 0)
    with pytest.raises(UsageError, match="temperature_scaling is fitted on validation images, and there are none"):
        stage.check_data(data)
    preprocess = Preprocess(8, (0.5,) * 3, (0.5,) * 3)
    network, separable = nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), np.eye(4, dtype=np.float32)
    before = network[1].weight.clone()
    assert fold_temperature(network, separable, (split, preprocess), "net") is None
    assert torch.equal(network[1].weight, before)
    averaged = nn.Sequential(network, nn.Tanh())
    with pytest.raises(CompressError, match="needs a network that ends in a linear layer"):
        fold_temperature(averaged, separable, (split, preprocess), "net")  # said in a dry run too, before any training
    with pytest.raises(CompressError, match="net: non-finite logits on the validation split"):
        fold_temperature(nn.Linear(1, 1), np.full((4, 4), np.nan, np.float32), (split, preprocess), "net")


def test_it_is_part_of_the_key_only_where_it_is_set() -> None:
    def keys(settings: str) -> set[str]:
        return {each.key for each in exports(settings)}

    assert keys("") == keys("    temperature_scaling: false\n")
    assert not keys("") & keys("    temperature_scaling: true\n")


def test_onnx_files_are_refused_before_anything_runs() -> None:
    text = GOOD.replace("from: [distilled, int8]\n", "from: [distilled, int8]\n    temperature_scaling: true\n")
    text = text.replace("kind: quantize\n", "kind: quantize\n    method: onnxruntime\n")
    with pytest.raises(RecipeError, match=r"int8 is an ONNX file, .*; quantize it by `method: auto`"):
        parse_recipe(text)
