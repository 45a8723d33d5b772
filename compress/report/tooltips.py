"""Tooltips of columns, by heading: unit, interval and basis of the figures."""

from __future__ import annotations

import re

_TOP1 = "Top-1 accuracy: share of test images whose most probable class is the right one"
_PAIRED = "on the same test images, with Tango's paired score interval, 95%"
_LOG2 = "log2 of the reference's cost over the variant's; +1 is half the cost"

_TOOLTIPS: tuple[tuple[str, str], ...] = (
    (r"top-1 \(95%.*\)", f"{_TOP1}; Wilson's score interval, 95%"),
    (r"top-1|its top-1", f"{_TOP1}, without interval"),
    (r"published by others", "Top-1 accuracy that the recipe quotes from others; nothing of it was measured here"),
    (r"MACs", "Multiply-accumulates, counted from the shapes of the layers; per image where no other basis is said"),
    (r"worth/(doublings, MACs|bit operations|latency|energy)", f"Doublings: {_LOG2}"),
    (r"bit operations", "MACs × weight bits × activation bits, per image"),
    (r"parameters", "Number of weights and biases, counted"),
    (r"size", "Bytes: of the weights for a variant, of the file or files for an artifact; k, M, G are powers of 1,000"),
    (r"weight bits", "Bits of a stored weight; activations in brackets where they have another width"),
    (r"activation bits", "Bits to which what a layer reads is rounded; 32 is float"),
    (r"layers", "Convolutions, linears and products of activations of this kind and width, counted"),
    (r"share of the MACs", "Part of the multiply-accumulates of one image, counted from the shapes of the layers"),
    (r"quantized convolutions", "Convolutions with integer weights, of all convolutions, counted in the network"),
    (r"training MACs", "All multiply-accumulates spent to make the variant, counted, with those of its ancestors"),
    (r"of them the teacher's", "Share of the training MACs that were the teacher's forward passes"),
    (r"peak memory", "Most resident memory of a process of its own while it answers, bytes, measured once"),
    (r"energy an image", "Joules per image, measured or estimated as each cell says; without interval"),
    (
        r"CO2e of a million images",
        "Grams of CO2 equivalent: the energy times the grid's intensity that the recipe gives",
    ),
    (r"same answer as PyTorch", "Share of test images with PyTorch's most probable class, in this file's own runtime"),
    (r"largest difference", "Largest absolute difference from PyTorch's logits on the test images, in logits"),
    (
        r"MACs in integer",
        "Share of the multiply-accumulates of convolutions and linears that the file's runtime computes in integer",
    ),
    (r"median|99th percentile", "Time of one batch over the interleaved rounds, in milliseconds"),
    (r"times faster \(95%.*\)", "Median of the reference over the variant's, same rounds; 95% bootstrap interval"),
    (r"batch", "Images in one run of the network"),
    (r"threads", "Threads of the runtime"),
    (r"pixels", "Side of the square image, in pixels"),
    (r"granted", "Granted: the paired 95% interval shows no loss of accuracy beyond the tolerance"),
    (r"accuracy lost.*", f"Points of top-1 that the reference has more, {_PAIRED}"),
    (r"at most, exactly", "Upper bound of the loss in points of top-1 that needs no approximation, 97.5% one-sided"),
    (r"months of growth", "Months in which training compute grows by these doublings, by the trend that is named"),
    (r"months of gap", "Months of the gap between training compute and hardware, by the trend that is named"),
    (r"break-even", "Images answered until the MACs saved have repaid the MACs of making the variant"),
    (r"made on top, MACs", "Multiply-accumulates of training that the variant took on top of the reference"),
    (r"after .* queries|limit", "Times less MACs, training and inference together, than the reference; computed"),
    (r"at .* inference", "Times less cost where inference has this share of the lifetime cost; computed"),
    (r"ceiling of any saving.*", "The same for a variant whose inference costs nothing; computed"),
    (r"share", "Part of the variant's training MACs"),
    (r"to reach", "Top-1 on the validation images"),
    (r".*'s compute", "Training MACs until validation top-1 was reached; one run, without interval"),
    (r"times less", "The baseline's training MACs over the variant's to the same validation top-1; without interval"),
    (r"doublings", "log2 of how many times less"),
    (r"with the teacher's own training", "Times less, with the teacher's pre-training counted in full"),
    (r"time", "Of a million images, one batch after the other, from the median latency"),
    (r"price", "Of that time, at the price an hour of the deployment profile"),
    (r"images", "Test images"),
    (r"right before|right now", "Test images of this class that were answered rightly"),
    (r"lost|gained", "Test images that only the reference, or only the variant, answers rightly"),
    (r"change \(95%.*\)", f"Points of top-1 within the class, {_PAIRED}"),
    (r"pruned against control.*", f"Points of top-1, {_PAIRED}"),
    (r"weights at zero", "Share of the weights that are zero, counted"),
    (r"compressed.*", "Bytes of the weights after zlib"),
    (
        r"share of the dense latency.*",
        "Median time over the dense network's in the same rounds; 95% bootstrap interval",
    ),
    (
        r".* of its channels",
        "Points of validation top-1 lost when the layer alone is pruned; channels removed in brackets",
    ),
    (r"calibration images", "Images from which the ranges were found"),
    (r"networks tried", "Quantized networks that were measured on validation"),
)


def tooltip(table: str, heading: str) -> str:
    """Describe the figures below a heading in one line; empty for names and for headings that need no description.

    Args:
        table: Key of the table; what precedes its first dash may give a heading another meaning.
        heading: Heading of the column.
    """
    names = f"{table.partition('-')[0]}/{heading}", heading
    return next((text for name in names for pattern, text in _TOOLTIPS if re.fullmatch(pattern, name)), "")
