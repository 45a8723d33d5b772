"""What equal accuracy means: savings that top-1 grants and balanced accuracy refuses, or the other way round."""

from __future__ import annotations

import numpy as np
import pytest
from results_factory import DATE, TREND, accuracy, example_record, inference, training
from results_factory import variant as make_variant

from compress.efficiency.headline import headline
from compress.efficiency.metric import Metric
from compress.efficiency.savings import savings
from compress.measurement.accuracy import bits
from compress.report.headline import sentence
from compress.results import Confidence, Quality, Savings, Variant
from compress.results.per_image import encode_labels
from compress.utils.metric_name import MetricName

NAMES = ("frequent", "rare")
IMAGES = (3000, 300)  # of a frequent and a rare class
LABELS = np.repeat([0, 1], IMAGES)
ENDS = (0.0, 0.0)
CONFIDENCE = Confidence(
    nll=0, brier=0, ece=0, ece_ci95=ENDS, ece_plug_in=0, mean=1, overconfidence=0, overconfidence_ci95=ENDS, bins=()
)


def rights(frequent: int, rare: int) -> np.ndarray:
    """Whether each image is right: so many wrong ones of either class."""
    return np.concatenate([np.arange(n) >= wrong for n, wrong in zip(IMAGES, (frequent, rare), strict=True)])


def variant(id: str, macs: int, frequent: int, rare: int, top5_wrong: int = 0) -> Variant:
    right, top5 = rights(frequent, rare), np.arange(sum(IMAGES)) >= top5_wrong
    recalls = [1 - wrong / n for n, wrong in zip(IMAGES, (frequent, rare), strict=True)]
    balanced = sum(recalls) / 2
    quality = Quality(
        confidence=CONFIDENCE,
        balanced=balanced,
        balanced_ci95=(balanced - 0.02, balanced + 0.02),
        classes=(),
        classes_left_out=2,
        top5=float(top5.mean()),
        top5_ci95=(0.9, 1.0),
        top5_right=bits(top5),
    )
    return make_variant(
        id,
        accuracy=accuracy(int(right.sum()), len(right), bits(right)),
        quality=quality,
        inference=inference(macs),
        training=training(100),
    )


def judged(name: MetricName, *variants: Variant) -> Savings:
    metric = Metric.of(name, encode_labels(LABELS.tolist(), 2), NAMES, len(LABELS))
    chance = None if name == "top5" else metric.chance()  # of two classes, the label is always among five
    return savings(variants, "base", 0.01, TREND, DATE, chance=chance, metric=metric)


BASE = variant("base", 1000, frequent=100, rare=30, top5_wrong=20)
FORGOT_THE_RARE = variant("small", 500, frequent=100, rare=48, top5_wrong=20)
FORGOT_THE_TOP5 = variant("small", 500, frequent=100, rare=30, top5_wrong=90)


@pytest.mark.parametrize(
    ("name", "other", "granted"),
    [
        ("top1", FORGOT_THE_RARE, True),  # 18 of 3,300 images
        ("balanced", FORGOT_THE_RARE, False),  # 6% of the rare class: 3 points
        ("top5", FORGOT_THE_RARE, True),
        ("top1", FORGOT_THE_TOP5, True),
        ("balanced", FORGOT_THE_TOP5, True),
        ("top5", FORGOT_THE_TOP5, False),
    ],
)
def test_the_metric_decides_what_is_granted(name: MetricName, other: Variant, granted: bool) -> None:
    entry = judged(name, BASE, other)
    (found,) = entry.variants
    assert (entry.metric, found.granted) == (name, granted)
    assert found.accuracy_difference is not None and found.difference_ci95 is not None
    assert found.difference_ci95[0] <= found.accuracy_difference <= found.difference_ci95[1]


def test_differences_are_those_of_the_metric() -> None:
    (balanced,) = judged("balanced", BASE, FORGOT_THE_RARE).variants
    assert balanced.accuracy_difference == pytest.approx(18 / 300 / 2)
    assert balanced.relative_error_increase == pytest.approx((18 / 300) / (100 / 3000 + 30 / 300))
    assert balanced.exact_upper_bound is None and "images would show" not in balanced.reason
    (top5,) = judged("top5", BASE, FORGOT_THE_TOP5).variants
    assert top5.accuracy_difference == pytest.approx(70 / 3300) and top5.exact_upper_bound is not None
    assert top5.paired is not None and top5.paired.only_reference == 70


def test_chance_is_that_of_the_metric() -> None:
    labels = encode_labels(LABELS.tolist(), 2)
    assert Metric.of("top1", labels, NAMES, len(LABELS)).chance() == pytest.approx(3000 / 3300)
    assert Metric.of("balanced", labels, NAMES, len(LABELS)).chance() == 0.5
    wide = Metric.of("top5", encode_labels([*range(20), 3, 3, 4], 20), [str(k) for k in range(20)], 23)
    assert wide.chance() == pytest.approx((3 + 2 + 3) / 23)
    assert Metric("balanced").chance() is None
    lazy = variant("base", 1000, frequent=0, rare=300)  # always says the frequent class
    (refused,) = judged("balanced", lazy, FORGOT_THE_RARE).variants
    assert not refused.granted and "base itself is not shown to be better than chance, 50.0%" in refused.reason


def test_without_what_the_metric_needs_nothing_is_granted() -> None:
    old = FORGOT_THE_TOP5.model_copy(update={"quality": None})
    (found,) = judged("top5", BASE, old).variants
    assert not found.granted and found.accuracy_difference is None
    unlabelled = savings((BASE, FORGOT_THE_RARE), "base", 0.01, TREND, DATE, metric=Metric("balanced"))
    assert not unlabelled.variants[0].granted


def test_errors_of_an_unknown_accuracy_have_no_increase() -> None:
    unknown = BASE.model_copy(update={"quality": None})
    (balanced,) = judged("balanced", unknown, FORGOT_THE_RARE).variants
    assert balanced.accuracy_difference is not None and balanced.relative_error_increase is None


def test_the_first_sentence_names_the_metric() -> None:
    entry = judged("balanced", BASE, FORGOT_THE_TOP5)
    first = headline((BASE, FORGOT_THE_TOP5), [entry], [], DATE)
    assert first.metric == "balanced"
    text = sentence(example_record().model_copy(update={"headline": first, "efficiency": (entry,)}))
    assert "small (pytorch) is at most 1 point less accurate in balanced accuracy than base" in text
    assert "equal top-1" not in text  # two ledgers are compared


TRAINED_BY = (
    example_record()
    .training_efficiency[0]
    .model_copy(update={"baseline": "labels", "variant": "small", "primary": True})
)


@pytest.mark.parametrize(("name", "said"), [("balanced", True), ("top1", False)])
def test_training_of_curves_says_that_these_are_of_top1(name: MetricName, said: bool) -> None:
    entry = judged(name, BASE, FORGOT_THE_TOP5)
    first = headline((BASE, FORGOT_THE_TOP5), [entry], [TRAINED_BY], DATE)
    assert first.training is not None and (first.training.against, first.training.curves) == ("labels", "top1")
    text = sentence(example_record().model_copy(update={"headline": first, "efficiency": (entry,)}))
    assert ("Training is compared at equal top-1." in text) == said
