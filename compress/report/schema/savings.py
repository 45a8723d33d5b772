"""Schema of what `results.json` says of savings: at equal accuracy, over a life, and in training."""

from __future__ import annotations

from compress.report.schema.shapes import ends, number, record, rows, share, text, texts, whole, yes
from compress.report.schema.variants import LATENCY_KEYS

_TREND = record(
    "Yearly growth of training compute and of hardware, from the recipe",
    {
        "name": text("Name of the trend"),
        "growth": number("Training compute, times a year"),
        "growth_ci90": ends("Its 90% interval, where the source has one"),
        "hardware": number("Hardware, times a year"),
        "hardware_ci90": ends("Its 90% interval, where the source has one"),
        "basis": text("What grows"),
        "source": text("Where the rates are from"),
        "until": whole("Last year for which it was found"),
    },
)
_LATENCY_BASIS = {
    **{name: LATENCY_KEYS[name] for name in ("runtime", "precision", "batch", "threads", "resolution")},
    "reference_precision": text("The reference's precision"),
    "reference_ms": number("The reference's median, milliseconds"),
    "variant_ms": number("The variant's median, milliseconds"),
    "ratio": number("The one over the other"),
}
_ENERGY_BASIS = {
    **{name: LATENCY_KEYS[name] for name in ("runtime", "precision", "batch", "threads")},
    "method": text("How both energies came about"),
    "reference_precision": text("The reference's precision"),
    "reference_j": number("The reference's energy of one image, joules"),
    "variant_j": number("The variant's, joules"),
    "ratio": number("The one over the other"),
}
_LIFETIME = record(
    "Lifetime ratio R(Q); null where nothing is granted",
    {
        "unit": text("Unit of the costs: macs"),
        "at_queries": rows(
            "R at some numbers of queries",
            {"queries": number("Images asked"), "ratio": number("Lifetime MACs of the reference over the variant's")},
        ),
        "query_macs": record(
            "MACs of one image", {"reference": whole("The reference's"), "variant": whole("The variant's")}
        ),
        "limit": number("R for infinitely many queries"),
        "training": number("Training MACs of the reference"),
        "effort": number("Training MACs of the variant on top of them"),
        "hit_rate": share("Queries that a response cache answers"),
        "at_inference_share": record(
            "Where inference has a given share of the lifetime cost",
            {
                "share": share("That share"),
                "ratio": number("Lifetime ratio then"),
                "ceiling": number("Lifetime ratio if inference cost nothing"),
            },
        ),
    },
)
_SAVING = {
    "id": text("Id of the variant"),
    "granted": yes("Shown not to be less accurate by more than the tolerance"),
    "reason": text("Why, in a sentence"),
    "paired": record(
        "The same test images asked of both",
        {
            "only_reference": whole("Only the reference is right"),
            "only_variant": whole("Only the variant is right"),
            "images": whole("All"),
        },
    ),
    "accuracy_difference": number("(only_reference - only_variant) / images; positive where the variant is worse"),
    "difference_ci95": ends("Tango's paired 95% score interval of it"),
    "exact_upper_bound": number("Upper bound of it without approximation, 97.5% one-sided"),
    "doublings": record(
        "log2 of the reference's cost over the variant's, granted or not; never to be multiplied",
        {
            "macs": number("In multiply-accumulates"),
            "bit_operations": number("In bit operations"),
            "latency": number("In median latency, on latency_basis"),
            "energy": number("In energy of inference, on energy_basis"),
        },
    ),
    "latency_basis": record("Where the latencies were measured", _LATENCY_BASIS),
    "energy_basis": record("Where the energies are from", _ENERGY_BASIS),
    "lifetime": _LIFETIME,
    "break_even_queries": number("Images after which the saved MACs have repaid the variant's making"),
    "months_of_growth": number("12 x doublings of MACs / log2(growth); null where nothing is granted"),
}
EFFICIENCY = rows(
    "What variants save, one entry a reference",
    {
        "reference": text("The variant that savings are counted against"),
        "tolerance": share("Loss of accuracy that counts as equal"),
        "trend": _TREND,
        "interval_method": text("Of difference_ci95"),
        "exact_method": text("Of exact_upper_bound"),
        "variants": rows("Every other variant", _SAVING, ("id", "granted")),
    },
    ("reference", "variants"),
)
_PROFILE = record(
    "A device, from the recipe",
    {
        "name": text("Its name"),
        "hardware": text("Which device, in words"),
        "processor": text("Part of its processor's name; a run's machine that has it is such a device"),
        "runtime": text("What runs the model there"),
        "batch": whole("Images that are answered together"),
        "threads": whole("Threads of the runtime; null where as many as were measured"),
        "budgets": record(
            "What is asked of a model; null where it is not",
            {
                "latency_ms": number("Until a batch is answered, 99th percentile, in milliseconds"),
                "memory_mb": number("Peak of the process, in 10^6 bytes"),
                "size_mb": number("Files that are deployed, in 10^6 bytes"),
                "energy_j": number("Joules of an image"),
            },
        ),
        "watts": number("Highest power of the device, by its maker"),
        "queries": number("Images asked over its life"),
        "hit_rate": share("Queries that a response cache answers"),
        "inference_share": share("Inference in the lifetime cost of the reference"),
        "price_per_hour": number("Of the machine, in currency"),
        "currency": text("Code of the currency"),
        "source": text("Where these are from"),
    },
)
DEPLOYMENT = record(
    "What a million images cost; null without a deployment in the recipe",
    {
        "profile": _PROFILE,
        "variants": rows(
            "In the runtime where each is fastest",
            {
                "id": text("Id of the variant"),
                **{name: LATENCY_KEYS[name] for name in ("runtime", "precision", "batch")},
                "seconds": number("Seconds of a machine that is never idle"),
                "price": number("Of these seconds, in currency"),
                "energy_j": number("Joules of a million images"),
            },
        ),
    },
)
DEPLOYMENTS = rows(
    "Which variant fits which device",
    {
        "profile": _PROFILE,
        "here": yes("The run's machine is such a device"),
        "reference": text("Variant whose accuracy counts as equal"),
        "fits": rows(
            "Every variant against the budgets",
            {
                "id": text("Id of the variant"),
                "as_accurate": yes("It is the reference, or granted equal accuracy with it"),
                "budgets": rows(
                    "Each budget",
                    {
                        "what": text("latency_ms, memory_mb, size_mb or energy_j"),
                        "limit": number("The most that is allowed, in that unit"),
                        "value": number("What was measured"),
                        "verdict": text("met, not met or not measured"),
                        "basis": text("What the value rests on, or why there is none"),
                    },
                ),
                "meets": yes("All budgets; null where some were not measured and none is missed"),
            },
        ),
        "best": text("The cheapest that is as accurate and meets all budgets"),
        "open": texts("As accurate, and not ruled out by what was measured, the cheapest first"),
    },
)
TRAINING_EFFICIENCY = rows(
    "Compute to reach an accuracy on validation",
    {
        "baseline": text("The variant trained on labels"),
        "variant": text("The distilled variant"),
        "target_top1": share("The accuracy on validation"),
        "chosen": yes("By the recipe; otherwise it is the baseline's last one"),
        "baseline_macs": whole("Training MACs of the baseline until there; null where it never got there"),
        "variant_macs": whole("Training MACs of the variant until there"),
        "ratio": number("The one over the other; where censored, a lower bound"),
        "censored": yes("One of them never got there"),
        "doublings": number("log2 of the ratio"),
        "with_teacher_pretraining": record(
            "With the teacher's own training in full",
            {"ratio": number("As above"), "doublings": number("log2 of it")},
        ),
        "months_of_growth": number("12 x doublings / log2(growth)"),
        "months_of_gap": number("12 x doublings / (log2(growth) - log2(hardware))"),
    },
)
