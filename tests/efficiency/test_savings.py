"""Savings against a reference, from records of variants."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from results_factory import DATE, TREND, N, accuracy, inference, right, training
from results_factory import variant as make_variant

from compress.efficiency.files import IS_REFERENCE, NOT_COMPARED, NOT_RUN, SAME_AS_REFERENCE
from compress.efficiency.grants import grant
from compress.efficiency.headline import headline, is_saving
from compress.efficiency.intervals import paired_difference
from compress.efficiency.savings import savings
from compress.measurement.accuracy import bits
from compress.results import (
    Artifact,
    Control,
    Doublings,
    Savings,
    Training,
    Variant,
    VariantSavings,
)

BASE = 2000


def variant(
    id: str, kind: str, macs: int, bits: int = 32, *, lost: int = 0, gained: int = 0, spent: int = 0, **changes: Any
) -> Variant:
    """A variant that loses and gains so many of the 2,500 test images against a reference with 2,000 right."""
    return make_variant(
        id,
        kind,
        accuracy=accuracy(BASE - lost + gained, N, right(BASE, lost, gained)),
        inference=inference(macs, bits),
        training=training(spent),
        **changes,
    )


VARIANTS = [
    variant("teacher", "teacher", 4000),
    variant("distilled", "distill", 1000, lost=20, gained=22, spent=6_000_000),
    variant("pruned", "prune", 500, lost=150, gained=50, spent=7_000_000),
    variant("int8", "quantize", 500, 8, lost=151, gained=50, spent=7_000_000),
]


def against_teacher(*variants: Variant, **changes: Any) -> dict[str, VariantSavings]:
    return by_id(savings(variants or VARIANTS, "teacher", 0.01, TREND, DATE, **changes))


def by_id(entry: Savings) -> dict[str, VariantSavings]:
    entry.to_json()  # which refuses what is not a number
    return {record.id: record for record in entry.variants}


def artifact(runtime: str, lost: int, gained: int = 0, **changes: Any) -> Artifact:
    top1 = (BASE - lost + gained) / N
    values = {"top1": top1, "ci95": (top1, top1), "right": right(BASE, lost, gained)}
    return Artifact(runtime=runtime, format=runtime, path=f"{runtime}/model", bytes=1, **{**values, **changes})


def test_savings_of_a_chain() -> None:
    found = against_teacher()
    assert set(found) == {"distilled", "pruned", "int8"}
    distilled = found["distilled"]
    assert distilled.granted
    assert distilled.accuracy_difference == pytest.approx(-2 / N)
    assert distilled.relative_error_increase == pytest.approx(-2 / 500)
    assert distilled.doublings == Doublings(macs=2, bit_operations=2, latency=None, energy=None)
    assert distilled.months_of_growth == pytest.approx(11.8, abs=0.05)
    assert distilled.break_even_queries == 2000
    assert found["int8"].doublings.macs == 3 and found["int8"].doublings.bit_operations is None, "nothing executes it"


def test_not_granted_names_the_cheapest_that_is_as_accurate() -> None:
    pruned = against_teacher()["pruned"]
    assert not pruned.granted
    assert pruned.accuracy_difference == pytest.approx(0.04)
    assert pruned.months_of_growth is None and pruned.lifetime is None
    assert pruned.reason.endswith("the cheapest shown to be as accurate as teacher is distilled")


def test_predictions_that_are_not_known_grant_nothing() -> None:
    unknown = [each.model_copy(update={"accuracy": accuracy(BASE, N)}) for each in VARIANTS]
    found = against_teacher(*unknown)
    assert all(not record.granted and record.paired is None for record in found.values())
    assert found["distilled"].reason.startswith(NOT_COMPARED)
    assert all(record.reason.endswith("is teacher itself") for record in found.values())


def test_swapping_reference_and_variant_flips_the_sign() -> None:
    there = against_teacher(VARIANTS[0], VARIANTS[2])["pruned"]
    back = by_id(savings([VARIANTS[0], VARIANTS[2]], "pruned", 0.01, TREND, DATE))["teacher"]
    assert there.doublings.macs is not None and there.doublings.macs == -(back.doublings.macs or 0)
    assert there.accuracy_difference is not None and there.accuracy_difference == -(back.accuracy_difference or 0)
    assert back.break_even_queries is None


def test_lifetime_of_a_granted_variant() -> None:
    record = by_id(savings([VARIANTS[1], VARIANTS[3]], "distilled", 0.1, TREND, DATE))["int8"]
    assert record.granted and record.lifetime is not None
    assert record.lifetime.limit == 2
    assert record.lifetime.at_queries[-1].ratio == pytest.approx(2, rel=1e-4)


def unstated(
    id: str,
    parent: str | None,
    macs: int,
    *spent: int,
    before: str = "teacher_pretraining",
    control: Control | None = None,
) -> Variant:
    """A variant that rests on earlier training whose compute is not stated; `spent` are its ledger's parts."""
    made = variant(id, "any", macs, parent=parent, control=control)
    ledger = training(sum(spent), parts=[("training", each) for each in spent]).model_dump()
    ledger |= {before: {"macs": None, "source": None}}
    return made.model_copy(update={"training": Training.model_validate(ledger)})


def breaks_even(reference: str, *variants: Variant) -> dict[str, float | None]:
    return {
        name: each.break_even_queries
        for name, each in by_id(savings(variants, reference, 0.01, TREND, DATE)).items()
        if each.lifetime is None
    }


def test_what_is_not_stated_cancels_between_variants_of_the_same_teacher() -> None:
    chain = [
        unstated("teacher", None, 4000, 0),
        unstated("large", "teacher", 1000, 6_000_000),
        unstated("small", "teacher", 500, 7_000_000),
        unstated("smaller", "small", 250, 8_000_000),
    ]
    assert breaks_even("teacher", *chain) == {"large": 2000, "small": 2000, "smaller": pytest.approx(8e6 / 3750)}
    assert breaks_even("large", *chain) == {"teacher": None, "small": 2000, "smaller": pytest.approx(2e6 / 750)}
    other = [unstated("stranger", None, 4000, 0), unstated("theirs", "stranger", 100, 7_000_000)]
    assert breaks_even("large", *chain, *other)["theirs"] is None, "of another teacher"
    assert breaks_even("scratch", variant("scratch", "train", 4000), *chain)["small"] is None, "of none"


def test_first_weights_cancel_only_between_a_variant_and_what_is_made_of_it() -> None:
    one, made, two, taught = (
        unstated(name, parent, macs, *spent, before="start_pretraining")
        for name, parent, macs, *spent in (
            ("one", None, 1000, 10**6),
            ("made", "one", 500, 10**6, 10**6),
            ("two", None, 100, 0),
            ("taught", "one", 500, 2 * 10**6),
        )
    )
    found = breaks_even("one", one, made, two, taught)
    assert found == {"made": 2000, "two": None, "taught": None}, "a student of `one` starts from weights of its own"


def test_a_student_of_a_network_that_the_recipe_trains_takes_its_own_training_more() -> None:
    taught = unstated("taught", "large", 500, 2 * 10**6)
    student, half = (taught.model_copy(update={"kind": "distill"}), unstated("half", "taught", 250, 2 * 10**6, 10**6))
    for before in ("start_pretraining", None):
        large = unstated("large", None, 1000, 10**6, before=before or "start_pretraining")
        if before is None:  # and from random weights: all is known
            parts = {"start_pretraining": None, "teacher_pretraining": {"macs": 0, "source": None}}
            whole = large.training.model_dump() | parts
            large = large.model_copy(update={"training": Training.model_validate(whole)})
        teacher = large.model_copy(update={"kind": "train"})
        assert breaks_even("large", teacher, student, half) == {"taught": 4000, "half": 4000}
        assert breaks_even("taught", teacher, student, half) == {"large": None, "half": 4000}


def test_first_weights_of_a_control_are_those_of_the_training_that_it_repeats() -> None:
    one = unstated("one", None, 1000, 10**6, before="start_pretraining")
    base = unstated("base", None, 600, 10**6, before="start_pretraining")
    control = Control(of="one", gain=0, gain_ci95=(0, 0), repeats="base")
    match = unstated("match", "one", 400, 2 * 10**6, before="start_pretraining", control=control)
    assert breaks_even("one", one, base, match) == {"base": None, "match": None}
    assert breaks_even("base", one, base, match)["match"] == 10**6 / 200
    assert breaks_even("one", one, match)["match"] is None, "its baseline is not among the records"


def test_a_variant_that_was_evaluated_on_other_images_is_refused() -> None:
    other = make_variant("half", "prune", accuracy=accuracy(941, 1001), inference=inference(500))
    with pytest.raises(ValueError, match=r"teacher \(2000 of 2500 right\) and half .* on the same images"):
        savings([VARIANTS[0], other], "teacher", 0.01, TREND, DATE)


def test_an_unknown_reference_is_refused() -> None:
    with pytest.raises(ValueError, match="nobody"):
        savings(VARIANTS, "nobody", 0.01, TREND, DATE)


def test_a_variant_is_granted_through_its_files_and_speed_is_that_of_a_granted_file() -> None:
    """The collapsed file is the fastest: neither the grant nor the latency may be its."""
    rows = {"good": 4.0, "collapsed": 1.0, "pytorch": 9.0}
    timed = [row(name, ms) for name, ms in rows.items()]
    base = VARIANTS[0].model_copy(
        update={
            "inference": inference(4000, latency=[row("good", 8.0), row("pytorch", 16.0)]),
            "artifacts": (artifact("good", 0),),
        }
    )
    int8 = variant("int8", "quantize", 1000, 8, lost=20, gained=22).model_copy(
        update={
            "inference": inference(1000, 8, latency=timed),
            "artifacts": (artifact("collapsed", 1200), artifact("good", 20, 22), not_run()),
        }
    )
    entry = savings([base, int8], "teacher", 0.01, TREND, DATE)
    (record,) = entry.variants
    assert record.granted
    assert {file.runtime: file.granted for file in record.files} == {"collapsed": False, "good": True, "phone": False}
    assert record.latency_basis and record.latency_basis.runtime == "good"
    assert record.latency_basis.ratio == pytest.approx(2)
    assert next(file for file in record.files if file.runtime == "phone").reason == NOT_RUN
    assert {file.runtime for file in entry.reference_files} == {"pytorch", "good"}


def not_run() -> Artifact:
    return artifact("phone", 0, top1=None, ci95=None, right=None, not_run="its runtime is not here")


def row(runtime: str, ms: float) -> Any:
    from results_factory import latency_row

    return latency_row(runtime, 16, ms)


def test_a_variant_whose_files_have_all_collapsed_is_not_granted() -> None:
    int8 = variant("int8", "quantize", 1000, 8, artifacts=(artifact("one", 900), artifact("two", 800)))
    found = against_teacher(VARIANTS[0], int8)["int8"]
    assert not found.granted and found.file == "two" and found.accuracy_difference == 800 / N
    assert found.doublings.latency is None and found.lifetime is None


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (10, 10), (20, 22), (60, 50), (150, 50)])
@pytest.mark.parametrize("tolerance", [0.005, 0.01, 0.05])
def test_a_file_is_granted_by_its_own_paired_interval(lost: int, gained: int, tolerance: float) -> None:
    one = variant("one", "prune", 1000, artifacts=(artifact("ort", lost, gained),))
    (record,) = savings([VARIANTS[0], one], "teacher", tolerance, TREND, DATE).variants
    file = next(file for file in record.files if file.runtime == "ort")
    assert file.granted == grant(paired_difference(lost, gained, N), tolerance).granted
    assert file.paired and (file.paired.only_reference, file.paired.only_variant) == (lost, gained)


def test_a_reference_that_is_not_shown_to_be_above_chance_grants_nothing() -> None:
    low = [
        make_variant("teacher", accuracy=accuracy(3, N, right(3)), inference=inference(4000)),
        make_variant("half", accuracy=accuracy(3, N, right(3)), inference=inference(2000)),
    ]
    assert against_teacher(*low)["half"].granted
    found = against_teacher(*low, chance=0.001)["half"]
    assert not found.granted and "teacher itself is not shown to be better than chance, 0.1%" in found.reason


def test_the_sequence_stops_at_the_first_refusal() -> None:
    good, bad = {"lost": 20, "gained": 22}, {"lost": 150, "gained": 50}
    variants = [
        VARIANTS[0],
        variant("a", "prune", 3000, **good),
        variant("b", "prune", 2000, **bad),
        variant("c", "prune", 1000, **good),
        variant("dearer", "train", 8000, **good),
        variant("control", "shrink", 900, control=Control(of="c", gain=0, gain_ci95=(0, 0)), **good),
    ]
    found = against_teacher(*variants)
    assert [name for name, record in found.items() if record.granted] == ["a", "dearer"]
    assert found["c"].reason.startswith("not tested, because b, which takes more MACs, is not shown")
    assert found["control"].reason.startswith("not tested: it is a control of c")
    assert found["c"].files[0].granted, "a file has the decision of its own test"


def test_of_equal_cost_the_most_accurate_on_validation_is_tested() -> None:
    better, worse = accuracy(900, 1000), accuracy(800, 1000)
    variants = [
        VARIANTS[0],
        variant("first", "train", 1000, lost=20, gained=22, validation=better),
        variant("second", "distill", 1000, lost=20, gained=22, validation=worse),
    ]
    found = against_teacher(*variants)
    assert found["first"].granted and not found["second"].granted
    assert "first costs the same and is no less accurate on validation" in found["second"].reason
    unknown = [each.model_copy(update={"validation": None}) for each in variants]
    assert "second costs the same and comes later" in against_teacher(*unknown)["first"].reason


def test_the_cost_that_a_refused_variant_has_more_of_is_named() -> None:
    """INT8 at the MACs of the reference comes before a pruned network that takes more bit operations."""
    int8 = variant("int8", "quantize", 4000, 8, lost=150, gained=50)
    pruned = variant("pruned", "prune", 2000, lost=20, gained=22)
    found = against_teacher(VARIANTS[0], int8, pruned)["pruned"]
    assert found.reason.startswith("not tested, because int8, which takes more MACs, is not shown")
    float_first = variant("float", "prune", 2000, lost=150, gained=50)
    found = against_teacher(VARIANTS[0], float_first, variant("int8", "quantize", 2000, 8))["int8"]
    assert found.reason.startswith("not tested, because float, which takes more bit operations, is not shown")


def test_of_equal_cost_a_variant_with_a_file_that_was_run_here_is_tested() -> None:
    """What can only be run elsewhere would be recommended in PyTorch, however accurate it is on validation."""
    here = variant("here", "quantize", 1000, 8, validation=accuracy(800, 1000), artifacts=(artifact("ort", 0),))
    elsewhere = variant("elsewhere", "quantize", 1000, 8, validation=accuracy(900, 1000), artifacts=(not_run(),))
    found = against_teacher(VARIANTS[0], here, elsewhere)
    assert found["here"].granted and not found["elsewhere"].tested
    assert "here costs the same and has a file that was run here" in found["elsewhere"].reason


def test_what_was_selected_on_the_test_images_is_not_tested() -> None:
    peeked = variant("peeked", "train", 2000, lost=20, gained=22)
    peeked = peeked.model_copy(update={"training": training(5, selected_on="test")})
    made = variant("made", "prune", 1000, lost=20, gained=22, parent="peeked")
    other = variant("other", "prune", 500, lost=20, gained=22)
    variants = [VARIANTS[0], peeked, made, other]
    found = against_teacher(*variants)
    assert [name for name, record in found.items() if record.granted] == ["other"], "it does not end the tests either"
    for name in ("peeked", "made"):
        assert not found[name].tested
        assert found[name].reason.startswith("not tested: the checkpoint of peeked was selected on the test images")
    dearer = peeked.model_copy(update={"inference": inference(8000)})
    assert not against_teacher(VARIANTS[0], dearer)["peeked"].granted
    first = headline(variants[:3], [savings(variants[:3], "teacher", 0.01, TREND, DATE)], [], DATE)
    assert not first.granted and "selected on the test images" in str(first.reason)


@pytest.mark.parametrize(
    ("executed", "bits"),
    [
        ({"integer_macs_share": 1.0}, 64.0),
        ({"integer_macs_share": 0.02}, 0.02 * 64 + 0.98 * 1024),
        ({"integer_macs_share": 1.0, "macs_by_precision": {"int8": 0.5, "bf16": 0.5}}, 0.5 * 64 + 0.5 * 1024),
        ({}, None),
    ],
    ids=str,
)
def test_bit_operations_are_those_that_the_granted_file_executes(executed: dict[str, Any], bits: float | None) -> None:
    int8 = variant("int8", "quantize", 4000, 8, artifacts=(artifact("ort", 0, **executed),))
    found = against_teacher(VARIANTS[0], int8)["int8"]
    assert found.granted and found.file == "ort" and found.doublings.macs == 0
    expected = None if bits is None else pytest.approx(np.log2(1024 / bits))
    assert found.doublings.bit_operations == expected
    assert is_saving(found) == (bits is not None)
    entry = savings([VARIANTS[0], int8], "teacher", 0.01, TREND, DATE)
    first = headline([VARIANTS[0], int8], [entry], [], DATE)
    assert first.granted == (bits is not None)
    assert (
        bits is not None
        or first.reason == "int8 takes no fewer MACs, and that it takes fewer bit operations is not shown"
    )


def test_bit_operations_of_what_is_only_simulated_are_unknown() -> None:
    """It was not exported, or to a runtime that does not run here."""
    elsewhere = artifact("coreml", 0, top1=None, ci95=None, right=None, not_run="runs on Apple devices")
    for lost, granted in ((0, True), (151, False)):
        for files in ((), (elsewhere,)):
            int8 = variant("int8", "quantize", 4000, 8, lost=lost, artifacts=files)
            found = savings([VARIANTS[0], int8], "teacher", 0.01, TREND, DATE)
            (record,) = found.variants
            assert record.granted == granted and record.doublings == Doublings(
                macs=0, bit_operations=None, latency=None, energy=None
            )
            assert not is_saving(record)
            first = headline([VARIANTS[0], int8], [found], [], DATE)
            assert not first.granted and first.variant is None
            assert first.reason == "int8 takes no fewer MACs, and that it takes fewer bit operations is not shown"


def test_bit_operations_of_a_quantized_reference_are_those_of_its_best_file() -> None:
    base = variant("teacher", "quantize", 4000, 8, artifacts=(artifact("ort", 0, integer_macs_share=0.5),))
    pruned = variant("pruned", "prune", 2000)
    found = against_teacher(base, pruned)["pruned"]
    assert found.granted and found.doublings.bit_operations == pytest.approx(np.log2(2 * (0.5 * 64 + 512) / 1024))
    unknown = base.model_copy(update={"artifacts": (artifact("ort", 0),)})
    assert against_teacher(unknown, pruned)["pruned"].doublings.bit_operations == -3, "as if all ran in integer"


def test_files_that_execute_more_in_integer_alone_are_no_saving() -> None:
    """Five INT8 networks with the MACs and bit widths of the reference: each would be a test outside the sequence."""
    base = variant("teacher", "quantize", 4000, 8, artifacts=(artifact("ort", 0, integer_macs_share=0.5),))
    others = [
        variant(f"int8-{n}", "quantize", 4000, 8, artifacts=(artifact("ort", 0, integer_macs_share=0.6 + n / 10),))
        for n in range(5)
    ]
    found = savings([base, *others], "teacher", 0.01, TREND, DATE)
    assert all(record.granted and record.doublings.bit_operations is None for record in found.variants)
    assert not any(map(is_saving, found.variants)) and not headline([base, *others], [found], [], DATE).granted
    less = variant("less", "quantize", 4000, 8, artifacts=(artifact("ort", 0, integer_macs_share=0.1),))
    loss = against_teacher(base, less)["less"].doublings.bit_operations
    assert loss is not None and loss < 0, "a loss needs no test"


def test_the_headline_is_about_the_first_reference() -> None:
    """Granted against the second: to look for a reference that grants something is a second chance to be wrong."""
    bad = variant("bad", "prune", 500, lost=150, gained=50)
    variants = [VARIANTS[0], bad, variant("worse", "prune", 1000, lost=150, gained=50)]
    entries = [savings(variants, name, 0.01, TREND, DATE) for name in ("teacher", "worse")]
    assert any(is_saving(record) for record in entries[1].variants)
    first = headline(variants, entries, [], DATE)
    assert not first.granted and first.reference == "teacher"
    assert headline(variants, entries[::-1], [], DATE).granted


def test_a_refused_variant_has_the_figures_of_the_file_that_decided() -> None:
    int8 = variant("int8", "quantize", 1000, 8, artifacts=(artifact("one", 900), artifact("two", 800)))
    entry = savings([VARIANTS[0], int8], "teacher", 0.01, TREND, DATE)
    first = headline([VARIANTS[0], int8], [entry], [], DATE)
    assert not first.granted and first.variant == "int8" and first.loss == 800 / N


def test_a_quantized_reference_is_its_most_accurate_file() -> None:
    base = variant("teacher", "quantize", 4000, 8, lost=1000, artifacts=(artifact("bad", 900), artifact("ort", 0)))
    entry = savings([base, VARIANTS[1]], "teacher", 0.01, TREND, DATE)
    assert {file.runtime: file.granted for file in entry.reference_files} == {"bad": False, "ort": True}
    assert entry.variants[0].accuracy_difference == pytest.approx(-2 / N)


def test_a_file_of_the_reference_counts_unless_it_is_shown_to_be_worse() -> None:
    """Few images can show no file to be as accurate; without the reference's fastest one, every variant looks fast."""
    few, won = 300, 40
    seen = right(210, n=few)

    def against(own: str) -> VariantSavings:
        file = artifact("fast", 0, right=own, top1=0.7, ci95=(0.6, 0.8))
        cost = inference(4000, latency=[row("pytorch", 10.0), row("fast", 2.0)])
        base = make_variant("base", accuracy=accuracy(210, few, seen), inference=cost, artifacts=(file,))
        cost = inference(2000, latency=[row("pytorch", 1.0)])
        better = make_variant("better", accuracy=accuracy(250, few, right(210, 0, won, few)), inference=cost)
        return savings([base, better], "base", 0.01, TREND, DATE).variants[0]

    for own in (seen, right(210, 2, 1, few)):
        basis = against(own).latency_basis
        assert basis and (basis.reference_runtime, basis.ratio) == ("fast", pytest.approx(2))
    basis = against(right(150, n=few)).latency_basis
    assert basis and basis.reference_runtime == "pytorch", "60 images lost are shown"


def test_a_file_that_predicts_like_the_reference_is_granted_outright() -> None:
    file = artifact("ort", 0, right=right(20, n=40), top1=0.5, ci95=(0.4, 0.6))
    other = artifact("other", 0, right=right(19, n=40), top1=0.475, ci95=(0.4, 0.6))
    few = make_variant("teacher", accuracy=accuracy(20, 40, right(20, n=40)), artifacts=(file, other))
    own = savings([few], "teacher", 0.01, TREND, DATE).reference_files
    assert [(each.granted_adjusted, each.reason) for each in own[:2]] == [
        (True, IS_REFERENCE),
        (True, SAME_AS_REFERENCE),
    ]
    assert not own[2].granted


def test_a_reference_with_few_images_is_itself() -> None:
    few = make_variant("teacher", accuracy=accuracy(20, 40, right(20, n=40)), inference=inference(4000))
    own = savings([few], "teacher", 0.01, TREND, DATE).reference_files
    assert [(file.granted, file.reason) for file in own] == [(True, "it is the reference")]


def test_networks_whose_macs_are_not_counted_have_no_lifetime() -> None:
    base, own = variant("teacher", "train", 0, spent=5), variant("half", "train", 0, spent=5)
    assert against_teacher(base, own)["half"].lifetime is None


@pytest.mark.parametrize(("files", "redrawn"), [(1, 0.01), pytest.param(5, 0.5, marks=pytest.mark.slow)])
def test_family_wise_error_is_that_of_one_test(files: int, redrawn: float) -> None:
    """Variants that truly lose the tolerance, whose files disagree on a share of the images, by simulation."""
    rng, wrong, rounds, n, tolerance = np.random.default_rng(0), 0, 500, 1000, 0.03

    def draw(base: np.ndarray) -> np.ndarray:
        return np.where(base, rng.random(n) > (tolerance + 0.02) / 0.8, rng.random(n) < 0.02 / 0.2)

    for _ in range(rounds):
        base = rng.random(n) < 0.8
        variants = [make_variant("teacher", accuracy=_accuracy(base), inference=inference(4000))]
        for number in range(3):
            own = draw(base)
            made = [np.where(rng.random(n) < redrawn, draw(base), own) for _ in range(files)]
            artifacts = [artifact(f"r{k}", 0, right=bits(one), top1=float(one.mean())) for k, one in enumerate(made)]
            cost = inference(3000 - number)
            variants.append(
                make_variant(f"v{number}", accuracy=_accuracy(own), inference=cost, artifacts=tuple(artifacts))
            )
        wrong += any(record.granted for record in savings(variants, "teacher", tolerance, TREND, DATE).variants)
    assert wrong / rounds <= 0.04  # 2.5%, and two standard errors of the simulation


def _accuracy(correct: np.ndarray) -> Any:
    return accuracy(int(correct.sum()), len(correct), bits(correct))
